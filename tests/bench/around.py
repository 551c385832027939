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
from tests.bench.memory import peak
from tests.bench.timing import CLOSE, quiet

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
    """

    name: str
    against: str
    base: Act
    variants: Mapping[str, Act]
    rounds: int = 3


def row(work: str, on: str, against: str, reached: float) -> Row:
    """Return a ratio beside its goal, which only unitrain has."""
    limit = AROUND.get(work) if on.startswith("unitrain") and "no fsync" not in against else None
    met = None if limit is None else reached <= limit
    return {"work": work, "on": on, "against": against, "reached": reached, "limit": limit, "met": met}


def seconds(act: Act) -> float:
    """Return how long something takes."""
    gc.collect()
    gc.disable()
    try:
        began = time.perf_counter()
        act()
        return time.perf_counter() - began
    finally:
        gc.enable()


def beside(activity: Activity, rounds: int) -> dict[str, float]:
    """Return the ratio of each variant's shortest time to the base's: what else a machine does only ever adds to a time.

    Raises:
        AssertionError: If a variant does not reach what the base does.
    """
    with quiet():
        expected = activity.base() or {}
        for name, act in activity.variants.items():  # also imports, and fills caches
            found = act() or {}
            for key in found.keys() & expected.keys():
                assert abs(found[key] - expected[key]) <= CLOSE * abs(expected[key]), f"{activity.name}, {name}: {key}"
        took = dict.fromkeys(("", *activity.variants), math.inf)
        for _ in range(min(rounds, activity.rounds)):
            for name, act in (("", activity.base), *activity.variants.items()):
                took[name] = min(took[name], seconds(act))
    return {name: took[name] / took[""] for name in activity.variants}


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
                yield row(activity.name, variant, activity.against, reached)
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
