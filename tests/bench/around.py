"""What happens around the step: files, resuming, processes, large metrics, callbacks, loggers, start-up and memory.

Each is measured beside torch.save, torch.load or a loop by hand, and beside plain Lightning and plain Ignite where they
can do it; all numbers are ratios within one run.

    python -m tests.bench.around ACTIVITY VARIANT FOLDER    # prints the peak memory of one, in KiB
"""

from __future__ import annotations

import gc
import json
import math
import os
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from tests.bench.goals import AROUND
from tests.bench.timing import CLOSE, Took, quiet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    Act = Callable[[], "Mapping[str, float] | None"]
    Row = dict[str, Any]


class Activity(NamedTuple):
    """Something to do, in several ways that reach the same.

    Attributes:
        name: As in the table.
        against: What it is compared with.
        base: Does that.
        variants: Does it in other ways.
        rounds: How often each is measured, at most.
        rest: Does what is left after each, off the clock.
    """

    name: str
    against: str
    base: Act
    variants: Mapping[str, Act]
    rounds: int = 3
    rest: Callable[[], object] = bool


def row(work: str, on: str, against: str, reached: float, cpu: float | None = None) -> Row:
    """Return a ratio beside its goal, which only unitrain has as it is by default; and that of processor time."""
    ours = on.startswith("unitrain") and "," not in on and "no fsync" not in against
    limit = AROUND.get(work) if ours else None
    met = None if limit is None else reached <= limit
    return {"work": work, "on": on, "against": against, "reached": reached, "cpu": cpu, "limit": limit, "met": met}


def timed(act: Act) -> Took:
    """Return how long something takes."""
    gc.collect()
    gc.disable()
    try:
        wall, cpu = time.perf_counter(), time.process_time()
        act()
        return Took(time.perf_counter() - wall, time.process_time() - cpu)
    finally:
        gc.enable()


def beside(activity: Activity, rounds: int) -> dict[str, Took]:
    """Return the ratios of each variant's shortest times to the base's: what else a machine does only ever adds to them.

    Raises:
        AssertionError: If a variant does not reach what the base does.
    """
    with quiet():
        expected = activity.base() or {}
        for name, act in activity.variants.items():  # also imports, and fills caches
            found = act() or {}
            activity.rest()
            for key in found.keys() & expected.keys():
                assert abs(found[key] - expected[key]) <= CLOSE * abs(expected[key]), f"{activity.name}, {name}: {key}"
        took = dict.fromkeys(("", *activity.variants), Took(math.inf, math.inf))
        for _ in range(min(rounds, activity.rounds)):
            for name, act in (("", activity.base), *activity.variants.items()):
                took[name] = Took(*map(min, took[name], timed(act)))
                activity.rest()
    base = took.pop("")
    return {name: Took(one.wall / base.wall, one.cpu / base.cpu) for name, one in took.items()}


def activities(folder: Path) -> dict[str, Callable[[], Activity]]:
    """Return what is done in this process, each made when it is wanted."""
    from tests.bench import around_files, around_fits

    return {**around_files.activities(folder), **around_fits.activities(folder)}


HELD = (
    "save 100 M parameters",
    "load the weights of 100 M parameters",
    "resume 1 M parameters",
    "evaluate AUROC and average precision",
    "evaluate 100 metrics",
)
"""The activities whose memory is measured."""
HOLDER = "unitrain"


def peak() -> int:
    """Return the most that this process has held, in KiB; what ``getrusage`` says begins with its parent's."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0])


def held(name: str, variant: str, folder: Path) -> int:
    """Return the peak memory of a fresh process that does it once, in KiB."""
    command = [sys.executable, "-W", "ignore", "-m", "tests.bench.around", name, variant, str(folder)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300, env=environment)
    return int(json.loads(done.stdout.splitlines()[-1]))


def compared(rounds: int) -> Iterator[Row]:
    """Yield what was reached, beside the goals."""
    from tests.bench import around_processes

    with TemporaryDirectory() as place:
        folder = Path(place)
        for make in activities(folder).values():
            activity = make()
            for variant, reached in beside(activity, rounds).items():
                yield row(activity.name, variant, activity.against, *reached)
            del activity
        yield from around_processes.compared()
        for name in HELD:
            base = held(name, "", folder)
            yield row(f"memory: {name}", HOLDER, "by hand", held(name, HOLDER, folder) / base)


def main(name: str, variant: str, folder: str) -> None:
    """Do one thing once, and print the most that this process has held."""
    torch.set_num_threads(1)
    activity = activities(Path(folder))[name]()
    ways = [act for key, act in activity.variants.items() if variant and key.startswith(variant)]
    with quiet():
        [*ways, activity.base][0]()
    print(json.dumps(peak()))  # noqa: T201 - what the process that asks reads


if __name__ == "__main__":
    main(*sys.argv[1:])
