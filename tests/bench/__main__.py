"""``python -m tests.bench``: time unitrain beside the loops and frameworks that people use; `make bench` calls it.

It takes some ten minutes, and the machine should do nothing else.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from tests.bench import by_hand, growth, idioms, memory, startup, unified
from tests.bench.report import results, text, write
from tests.bench.timing import measured
from tests.bench.work import WORK

# ruff: noqa: T201 - it is a script

FOLDER = Path(__file__).parent
VARIANTS = {
    "bare loop": by_hand.bare,
    "fabric": idioms.fabric,
    "accelerate": idioms.accelerate,
    "ignite": idioms.ignite,
    "lightning": idioms.lightning,
    **{f"unitrain on {name}": unified.unitrain(name) for name in ("reference", "ignite", "lightning")},
    **{f"metrics only, {name}": unified.metrics_only(name) for name in ("ignite", "lightning")},
}


def main() -> None:
    """Measure, print, and write if all was measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "work", nargs="*", metavar="WORK", help=f"some of {', '.join(WORK)}; by default all, and written"
    )
    parser.add_argument("--rounds", type=int, default=11)
    given = parser.parse_args()
    torch.set_num_threads(1)
    times = {}
    for name in given.work or WORK:
        work = WORK[name]
        variants = {one: run for one, run in VARIANTS.items() if work.train is not None or run is not by_hand.bare}
        times[name] = measured(work, by_hand.bare_m, variants, given.rounds)
        print(text(results({name: times[name]}, {})))
    if given.work:
        return
    further = {
        "one_step_ms": {name: startup.one_step(name) for name in startup.GOALS_MS},
        "import_seconds": startup.imports(),
        "memory": memory.memory_table(),
        "growth": growth.growth_table(),
    }
    found = results(times, further)
    print(text(found))
    write(found, FOLDER)


if __name__ == "__main__":
    main()
