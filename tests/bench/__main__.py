"""``python -m tests.bench``: time unitrain beside the loops and frameworks that people use; `make bench` calls it.

It takes some 45 minutes, and the machine should do nothing else. Only the CPU is measured.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.data import DataLoader

from tests.bench import around, bridged, by_hand, growth, idioms, memory, monitoring, serving, startup, tuning, unified
from tests.bench.goals import BARE, Outcome, outcomes
from tests.bench.profile import profiled
from tests.bench.report import around_text, bridged_text, results, text, tuning_text, where, write, write_sections
from tests.bench.timing import measured
from tests.bench.work import WORK

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from tests.bench.timing import Variant
    from tests.bench.work import Work

# ruff: noqa: T201 - it is a script

FOLDER = Path(__file__).parent
BRIDGED, TUNING, SERVING, MONITORING, AROUND = SECTIONS = "bridged", "tuning", "serving", "monitoring", "around"
SERVERS = "servers"
OF = {SERVERS: SERVING}
"""The section of a table that is measured with another one."""
VARIANTS = {
    "bare loop": by_hand.bare,
    "fabric": idioms.fabric,
    "accelerate": idioms.accelerate,
    "ignite": idioms.ignite,
    "lightning": idioms.lightning,
    **{f"unitrain on {name}": unified.unitrain(name) for name in ("reference", "ignite", "lightning")},
    "unitrain on ignite, vectorized": unified.vectorized("ignite"),
    **{f"metrics only, {name}": unified.metrics_only(name) for name in ("ignite", "lightning")},
}


def variants_of(work: Work) -> dict[str, Variant]:
    """Return what can do ``work``: an evaluation has no loop without metrics, and only a DataLoader fetches."""
    left_out = {"bare loop"} if work.train is None else set()
    if work.train is None or not isinstance(work.train(), DataLoader):
        left_out.add("unitrain on ignite, vectorized")
    return {name: run for name, run in VARIANTS.items() if name not in left_out}


def profiles_of(reached: list[Outcome]) -> Iterator[dict[str, Any]]:
    """Yield where the time goes of each variant that misses a goal, and of the bare loop beside it."""
    missed = {(one.goal.work, one.goal.variant) for one in reached if not one.met}
    for name in sorted({work for work, _ in missed}):
        timed = name in WORK  # the other goals are the clock's, beside no loop
        work, variants = (WORK[name], VARIANTS) if timed else (startup.ONE_STEP, startup.VARIANTS)
        runs = {one: variants[one] for item, one in sorted(missed) if item == name}
        for variant, parts in profiled(work, {BARE: by_hand.bare_m, **runs} if timed else runs).items():
            yield {"work": name, "variant": variant, "parts": [part._asdict() for part in parts]}


def shown(rows: Iterable[dict[str, Any]], text_of: Callable[[list[dict[str, Any]]], str]) -> Iterator[dict[str, Any]]:
    """Print each row as soon as it is measured, and yield it."""
    for row in rows:
        print(text_of([row]), flush=True)
        yield row


def main() -> None:
    """Measure, print, and write if all was measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "work",
        nargs="*",
        metavar="WORK",
        help=f"some of {', '.join(WORK)} {', '.join(SECTIONS)}; by default all, and written",
    )
    parser.add_argument(
        "--keep", action="store_true", help="write the sections that were measured, beside what was written before"
    )
    parser.add_argument("--rounds", type=int, default=11)
    given = parser.parse_args()
    torch.set_num_threads(1)
    times = {}
    wanted = set(given.work or SECTIONS)
    bridges = list(shown(bridged.compared(given.rounds), bridged_text)) if BRIDGED in wanted else []
    studies = list(shown(tuning.compared(given.rounds), tuning_text)) if TUNING in wanted else []
    served, servers = serving.compared() if SERVING in wanted else ([], [])
    print(tuning_text(served))
    beside = list(shown(around.compared(given.rounds), around_text)) if AROUND in wanted else []
    reported = list(shown(monitoring.compared(given.rounds), tuning_text)) if MONITORING in wanted else []
    for name in [one for one in given.work or WORK if one not in SECTIONS]:
        work = WORK[name]
        times[name] = measured(work, by_hand.bare_m, variants_of(work), given.rounds)
        print(text(results({name: times[name]}, outcomes({name: times[name]}), {})))
    sections = {
        BRIDGED: bridges,
        TUNING: studies,
        SERVING: served,
        SERVERS: servers,
        MONITORING: reported,
        AROUND: {"rows": beside, **where()},
    }
    if given.work:
        if given.keep:
            write_sections({name: one for name, one in sections.items() if OF.get(name, name) in wanted}, FOLDER)
        return
    reached = [*outcomes(times), *(Outcome(goal, startup.one_step(goal.framework)) for goal in startup.GOALS)]
    further = {
        "profiles": list(profiles_of(reached)),
        "import_seconds": startup.imports(),
        "memory": memory.memory_table(),
        "growth": growth.growth_table(),
        **sections,
    }
    found = results(times, reached, further)
    print(text(found))
    write(found, FOLDER)


if __name__ == "__main__":
    main()
