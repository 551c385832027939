"""The curves of a run: which values share a chart."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

from unitrain.reports.html import Markup, Series, line_chart

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from unitrain.reports.run.values import Values

_COUNTERS = frozenset({"epoch", "step"})
_STAGE = re.compile(r"^(train|val|valid|validation|test)[/_]|_(epoch|step)$")
_STAGES = ("train", "val", "test")
_WIDE = 200.0
"""From this ratio of the largest to the smallest value on, an axis is logarithmic."""
_MOST_CHARTS, _MOST_LINES = 40, 12

Line = tuple[list[float], list[float]]
"""Where the points are, and their values."""


def is_rate(name: str) -> bool:
    """Return whether a value is a learning rate, by its name: ours, or that of Lightning's monitor."""
    return name.startswith(("lr/", "lr-")) or name == "lr"


def lines_of(rows: Sequence[Mapping[str, float]]) -> dict[str, Line]:
    """Return the line of each value of a history, in the order of first appearance."""
    found: dict[str, Line] = {}
    for number, row in enumerate(rows):
        for name, value in row.items():
            if name not in _COUNTERS:
                line = found.setdefault(name, ([], []))
                line[0].append(row.get("epoch", number))
                line[1].append(value)
    return found


def step_lines(values: Values) -> dict[str, Line]:
    """Return the lines that have more values than epochs."""
    return {name: ([one.step for one in points], [one.value for one in points]) for name, points in values.by_step()}


def without_rates(lines: Mapping[str, Line]) -> dict[str, Line]:
    """Return the lines that are no learning rates."""
    return {name: line for name, line in lines.items() if not is_rate(name)}


def rates_of(lines: Mapping[str, Line]) -> dict[str, Line]:
    """Return the lines that are learning rates."""
    return {name: line for name, line in lines.items() if is_rate(name)}


def charts(lines: Mapping[str, Line], x: str) -> list[Markup]:
    """Return a chart for each quantity: the loss in training and in validation share one.

    Args:
        lines: The lines by name.
        x: What their x axis is.
    """
    groups: dict[str, list[str]] = {}
    for name in sorted(lines, key=order):
        groups.setdefault(_quantity(name), []).append(name)
    parts = [
        (quantity, names[first : first + _MOST_LINES])
        for quantity, names in sorted(groups.items(), key=lambda one: one[0] != "loss")
        for first in range(0, len(names), _MOST_LINES)
    ]
    return [_chart(quantity, names, lines, x) for quantity, names in parts[:_MOST_CHARTS]]


def _chart(quantity: str, names: Sequence[str], lines: Mapping[str, Line], x: str) -> Markup:
    log = _spans_decades(value for name in names for value in lines[name][1])
    series = [Series(name, *lines[name]) for name in names]
    title = names[0] if len(names) == 1 else quantity
    return line_chart(series, title=title, x=x, y="logarithmic" if log else "", log=log)


def _quantity(name: str) -> str:
    """Return what is measured, without where: ``loss`` of ``val/clean/loss`` and of ``train_loss_epoch``."""
    return name.rpartition("/")[2] if "/" in name else _STAGE.sub("", _STAGE.sub("", name)) or name


def order(name: str) -> int:
    """Return the place of a name's stage: training has the first colour everywhere."""
    return next((place for place, stage in enumerate(_STAGES) if name.startswith(stage)), len(_STAGES))


def _spans_decades(values: Iterable[float]) -> bool:
    """Return whether a logarithmic axis shows more: all values are positive and far apart."""
    finite = [one for one in values if not isinstance(one, int) and math.isfinite(one)]
    return bool(finite) and min(finite) > 0 and max(finite) / min(finite) > _WIDE
