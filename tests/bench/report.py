"""What a benchmark found, as a table, as data and as a picture."""

from __future__ import annotations

import json
import os
import platform
from collections import Counter
from datetime import UTC, datetime
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from tests.bench.timing import Quartiles
from tests.bench.work import WORK

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from tests.bench.goals import Outcome
    from tests.bench.timing import Times

WHERE = "Where a batch spends its microseconds in what misses a goal, seen by a timer that looks at the stack"
_SMALL = 0.02
"""The share of a batch's time up to which a part has no row."""

PACKAGES = ("torch", "pytorch-lightning", "pytorch-ignite", "torchmetrics", "accelerate")


def where() -> dict[str, Any]:
    """Return when and on what it was measured."""
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, one thread",
        "python": platform.python_version(),
        "releases": {name: version(name) for name in PACKAGES},
    }


def results(
    measured: Mapping[str, Mapping[str, Times]], reached: Iterable[Outcome], further: Mapping[str, Any]
) -> dict[str, Any]:
    """Return all that was found, for a JSON file.

    Args:
        measured: The times by work item and variant.
        reached: What became of the goals.
        further: What was found beside them: profiles, memory, growth, start-up.
    """
    return {
        **where(),
        "work": {
            name: {
                "says": WORK[name].says,
                "variants": {
                    variant: {
                        "wall": Quartiles.of(times.ratios)._asdict(),
                        "cpu": Quartiles.of(times.cpu_ratios)._asdict(),
                        "seconds": min(one.wall for one in times.took),
                    }
                    for variant, times in variants.items()
                },
            }
            for name, variants in measured.items()
        },
        "goals": [
            {
                "work": one.goal.work,
                "framework": one.goal.framework,
                "variant": one.goal.variant,
                "against": one.goal.against,
                "limit": one.goal.limit,
                "reached": one.reached,
                "met": one.met,
            }
            for one in reached
        ],
        **further,
    }


def text(found: Mapping[str, Any]) -> str:
    """Return the tables for a console."""
    lines = [f"{found['date']}, {found['machine']}, Python {found['python']}"]
    lines.append(", ".join(f"{name} {release}" for name, release in found["releases"].items()))
    for name, work in found["work"].items():
        lines += ["", f"{name}: {work['says']}; time against the bare loop with metrics (quartiles)"]
        for variant, numbers in work["variants"].items():
            wall, cpu = numbers["wall"], numbers["cpu"]
            lines.append(
                f"  {variant:24} {wall['median']:7.3f}  ({wall['low']:.3f} to {wall['high']:.3f})"
                f"   processor {cpu['median']:7.3f}   {1000 * numbers['seconds']:8.1f} ms"
            )
    lines += ["", "goals"]
    for goal in found["goals"]:
        verdict = "met" if goal["met"] else "NOT MET"
        lines.append(
            f"  {goal['work']:4} {goal['framework']:10} against {goal['against']:24}"
            f" {goal['reached']:.3f}, at most {goal['limit']:.2f}: {verdict}"
        )
    for profile in found.get("profiles", ()):
        lines += ["", f"{profile['work']}, {profile['variant']}: where a batch spends its microseconds"]
        lines += [f"  {part['microseconds']:8.1f}  {part['place']}" for part in profile["parts"]]
    for title in ("import_seconds", "memory", "growth"):
        if title in found:
            lines += ["", f"{title}", str(found[title])]
    return "\n".join(lines) + "\n"


def bridged_text(rows: Iterable[Mapping[str, Any]]) -> str:
    """Return what foreign code costs on another backend, for a console."""
    return "\n".join(
        f"{row['work']:14} on {row['on']:10} {row['reached']:.3f} of its time at home, at most {row['limit']:.2f}:"
        f" {'met' if row['met'] else 'NOT MET'}"
        for row in rows
    )


def tuning_text(rows: Iterable[Mapping[str, Any]]) -> str:
    """Return what studies cost, for a console."""
    return "\n".join(
        f"{row['work']:24} on {row['on']:10} {row['reached']:.3f}, at most {row['limit']:.2f}:"
        f" {'met' if row['met'] else 'NOT MET'}"
        for row in rows
    )


def around_text(rows: Iterable[Mapping[str, Any]]) -> str:
    """Return what happens around the step, for a console."""
    return "\n".join(
        f"{row['work']:46} {row['on']:36} {row['reached']:7.3f} of {row['against']}"
        + ("" if row["cpu"] is None else f" (processor {row['cpu']:.3f})")
        + ("" if row["limit"] is None else f", at most {row['limit']:.2f}: {'met' if row['met'] else 'NOT MET'}")
        for row in rows
    )


def parts(profiles: Iterable[Mapping[str, Any]]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Return the header and the rows of a table that says ``WHERE`` the time goes; small parts are in one row."""
    columns = {
        f"{one['work']}, {one['variant'].removeprefix('unitrain on ')}": Counter(
            {part["place"]: part["microseconds"] for part in one["parts"]}
        )
        for one in profiles
    }
    share: Counter[str] = Counter()
    for column in columns.values():
        share |= Counter({place: spent / column.total() for place, spent in column.items()})
    shown = [place for place, part in share.most_common() if part > _SMALL]
    rows = [(place, *(f"{column[place]:.1f}" for column in columns.values())) for place in shown]
    rest = (column.total() - sum(column[place] for place in shown) for column in columns.values())
    total = (column.total() for column in columns.values())
    for name, values in ((f"the rest, each below {_SMALL:.0%}", rest), ("all", total)):
        rows.append((name, *(f"{value:.1f}" for value in values)))
    return ("microseconds a batch", *columns), rows


def write(found: Mapping[str, Any], folder: Path) -> None:
    """Write ``results.json`` and ``results.svg``."""
    (folder / "results.json").write_text(json.dumps(found, indent=2) + "\n")
    _draw(found, folder / "results.svg")


def write_sections(found: Mapping[str, Any], folder: Path) -> None:
    """Put sections that were measured alone into ``results.json``."""
    path = folder / "results.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **found}, indent=2) + "\n")


def _draw(found: Mapping[str, Any], path: Path) -> None:
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "unitrain"
    from matplotlib import pyplot as plt

    works = found["work"]
    figure, axes = plt.subplots(1, len(works), figsize=(3.2 * len(works), 3.6), squeeze=False, layout="constrained")
    for axis, (name, work) in zip(axes[0], works.items(), strict=True):
        names = list(work["variants"])
        medians = [work["variants"][one]["wall"]["median"] for one in names]
        colours = ["tab:orange" if one.startswith("unitrain") else "tab:gray" for one in names]
        axis.barh(names, medians, color=colours)
        axis.axvline(1, color="black", linewidth=0.8)
        axis.invert_yaxis()
        axis.set_title(f"{name}: time / bare loop", fontsize=9)
        axis.tick_params(labelsize=7)
        for place, value in enumerate(medians):
            axis.text(value, place, f" {value:.2f}", va="center", fontsize=7)
        axis.margins(x=0.2)
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
