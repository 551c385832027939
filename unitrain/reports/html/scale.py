"""Axes: which values an axis covers, where they are on it, and its ticks."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

_STEPS = (1, 2, 5, 10)
_MARGIN = 0.05
_FEW_DECADES = 2.5
_POWERS, _WITH_UNIT = 300, 4
LARGEST, _SMALLEST = 1e300, 1e-290
"""Beyond them, differences overflow or vanish."""
_DIGITS = 1e-12
"""Relative differences below it are rounding, and take no axis of their own."""


class _Unit(NamedTuple):
    """A letter for large numbers, and from which number on it is used."""

    letter: str
    factor: float
    least: float


_UNITS = (_Unit("M", 1e6, 1e6), _Unit("k", 1e3, 1e4))


@dataclass(frozen=True)
class Scale:
    """One axis.

    Attributes:
        low: The value at its beginning; its logarithm on a logarithmic axis.
        high: The value at its end.
        ticks: Values with a label.
        is_log: Whether it is logarithmic.
        is_cut: Whether values beyond its ends have no place.
    """

    low: float
    high: float
    ticks: tuple[float, ...]
    is_log: bool = False
    is_cut: bool = False

    def shows(self, value: float) -> bool:
        """Return whether a value has a place on the axis."""
        if self.is_cut and not self.low <= value <= self.high:
            return False
        return math.isfinite(value) and abs(value) < LARGEST and (value > _SMALLEST or not self.is_log)

    def place(self, value: float) -> float:
        """Return where a value is, from 0 to 1."""
        at = math.log10(value) if self.is_log else value
        return (at - self.low) / (self.high - self.low)

    def labels(self) -> list[str]:
        """Return the texts of the ticks, which all differ."""
        for digits in range(1, 17):
            texts = [_short(value, digits) for value in self.ticks]
            if len({*texts}) == len(texts) and all(
                _close(text, one) for text, one in zip(texts, self.ticks, strict=True)
            ):
                break
        return texts


def linear(values: Iterable[float], most: int, *, whole: bool = False, tight: bool = False) -> Scale:
    """Return an axis with round ticks.

    Args:
        values: The values to show; those that are not finite are left out.
        most: The largest number of ticks.
        whole: Whether ticks are whole numbers only.
        tight: Whether the axis ends at the outermost values, without a margin.
    """
    low, high = _range(values)
    if high - low <= max(_SMALLEST, _DIGITS * max(abs(low), abs(high))):
        around = 0.5 if whole or abs(low) <= _SMALLEST else abs(low) * 0.1
        low, high = low - around, high + around
    elif not tight:
        margin = (high - low) * _MARGIN
        low, high = low - margin, high + margin
    return Scale(low, high, tuple(_round_ticks(low, high, most, whole=whole)))


def logarithmic(values: Iterable[float], most: int) -> Scale:
    """Return a logarithmic axis, with ticks at powers of ten, or at 1, 2 and 5 times them."""
    low, high = _range(one for one in values if one > _SMALLEST)
    low, high = (math.log10(low), math.log10(high)) if low > 0 else (0.0, 1.0)
    margin = max((high - low) * _MARGIN, 0.05)
    low, high = low - margin, high + margin
    return Scale(low, high, tuple(_log_ticks(low, high, most)), is_log=True)


def _log_ticks(low: float, high: float, most: int) -> list[float]:
    first, last = math.floor(low), math.ceil(high)
    factors = _STEPS[:3] if high - low <= _FEW_DECADES else _STEPS[:1]
    each = max(1, math.ceil((last - first) / most))
    powers = [power for power in range(first // each * each, last + 1, each) if abs(power) <= _POWERS]
    inside = [
        one
        for one in (factor * 10.0**power for power in powers for factor in factors)
        if low <= math.log10(one) <= high
    ]
    return inside if len(inside) > 1 else _round_ticks(10.0**low, 10.0**high, most, whole=False)


def _range(values: Iterable[float]) -> tuple[float, float]:
    shown = [one for one in values if math.isfinite(one) and abs(one) < LARGEST]
    return (min(shown), max(shown)) if shown else (0.0, 1.0)


def _round_ticks(low: float, high: float, most: int, *, whole: bool) -> list[float]:
    rough = (high - low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in _STEPS if factor * power >= rough * 0.999)
    step = max(step, 1.0) if whole else step
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [_clean(index * step, step) for index in range(first, min(last, first + 2 * most) + 1)]


def _clean(value: float, step: float) -> float:
    """Return a tick without what rounding adds: 0.30000000000000004 is 0.3."""
    digits = 1 - math.floor(math.log10(step))
    return round(value, digits) if abs(digits) < 300 else value  # noqa: PLR2004 - what a float has


def _short(value: float, digits: int) -> str:
    """Return a number for an axis: 12k, 3M, 1e-05."""
    for unit, factor, least in _UNITS:
        if least <= abs(value) < 1000 * _UNITS[0].factor and digits <= _WITH_UNIT:
            return f"{value / factor:.{digits}g}{unit}"
    return f"{float(f'{value:.{digits}g}'):.{max(digits, 4)}g}"


def _close(text: str, value: float) -> bool:
    factor = next((one.factor for one in _UNITS if one.letter == text[-1]), 1)
    return math.isclose(float(text.rstrip("kM")) * factor, value, rel_tol=1e-9, abs_tol=_SMALLEST)
