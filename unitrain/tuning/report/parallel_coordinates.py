"""Axes and positions for a parallel-coordinates plot."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from unitrain.tuning.plan import StudyPlan

_MOST_CATEGORIES = 8
_FAR = 3.0
"""How many interquartile ranges beyond the quartiles is far off."""


@dataclass(frozen=True)
class Column:
    """One axis.

    Attributes:
        name: Name of the parameter or objective.
        places: Position of each trial, from 0 to 1; NaN if it has none.
        ticks: Positions and their labels.
    """

    name: str
    places: list[float]
    ticks: list[tuple[float, str]]


def near(values: Sequence[float]) -> list[float]:
    """Return the values, in order, without a few that are so far off that no picture shows the others beside them."""
    finite = sorted(value for value in values if math.isfinite(value))
    if not finite:
        return []
    low, high = finite[len(finite) // 4], finite[3 * len(finite) // 4]
    reach = _FAR * (high - low)
    return [value for value in finite if low - reach <= value <= high + reach] if reach else finite


def columns_of(plan: StudyPlan, trials: Sequence[Any], first: Sequence[str], most: int) -> tuple[list[Column], int]:
    """Return the axes, and how many parameters have none.

    Args:
        plan: The study.
        trials: The trials with values.
        first: Parameters to include before others.
        most: Maximum number of axes.
    """
    names = list(dict.fromkeys([*first, *sorted({name for one in trials for name in one.params})]))
    if not names:
        return [], 0
    columns = [_parameter(name, trials) for name in names[:most]]
    for index, name in enumerate(plan.monitor):
        values = [one.values[index] if one.state.name == "COMPLETE" else None for one in trials]
        columns.append(_numbers(name, values, near([one for one in values if one is not None]), is_log=False))
    return columns, max(0, len(names) - most)


def _parameter(name: str, trials: Sequence[Any]) -> Column:
    values = [one.params.get(name) for one in trials]
    given = [one for one in values if one is not None]
    if any(isinstance(one, bool) or not isinstance(one, (int, float)) for one in given):
        return _categories(name, values)
    is_log = all(getattr(one.distributions[name], "log", False) for one in trials if name in one.distributions)
    return _numbers(name, values, sorted(one for one in given if math.isfinite(one)), is_log=is_log)


def _numbers(name: str, values: list[Any], inside: list[float], *, is_log: bool) -> Column:
    """Return the axis of numbers; values outside it are drawn at its ends."""
    if not inside:
        return Column(name, [math.nan] * len(values), [])
    turned = math.log if is_log else float
    low, high = inside[0], inside[-1]
    ends = (turned(low), turned(high))
    width = ends[1] - ends[0]

    def place(one: Any) -> float:
        if one is None or math.isnan(one):
            return math.nan
        return (turned(min(max(one, low), high)) - ends[0]) / width if width else 0.5

    ticks = [(0.0, low), (1.0, high)] if width else [(0.5, low)]
    return Column(name + " (log)" * is_log, [place(one) for one in values], [(at, f"{one:.3g}") for at, one in ticks])


def _categories(name: str, values: list[Any]) -> Column:
    kinds = sorted({repr(one) for one in values if one is not None})
    gap = 1 / max(len(kinds) - 1, 1)
    at = {kind: index * gap if len(kinds) > 1 else 0.5 for index, kind in enumerate(kinds)}
    every = math.ceil(len(kinds) / _MOST_CATEGORIES)
    ticks = [(place, kind.strip("'")[:16]) for kind, place in list(at.items())[::every]]
    return Column(name, [math.nan if one is None else at[repr(one)] for one in values], ticks)
