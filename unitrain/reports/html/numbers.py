"""Numbers, times and sizes as people read them."""

from __future__ import annotations

import math
from typing import Any

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")
_STEP = 1024
_HOUR, _DAY = 3600, 86400
_MINUTE, _NEARLY_A_MINUTE = 60, 59.95


def number(value: Any) -> str:
    """Return a number in at most six digits; other values as their text."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    if isinstance(value, int) and abs(value) < 10**15:
        return str(value)
    try:
        return f"{value:.6g}"
    except OverflowError:  # an integer beyond the largest float
        return f"about 10^{math.floor(math.log10(abs(value)))}"


def duration(seconds: float) -> str:
    """Return a time such as ``3.21 ms``, ``12.4 s``, ``5 min 3 s`` or ``2 h 10 min``."""
    if not math.isfinite(seconds):
        return "unknown"
    for unit, factor in (("µs", 1e6), ("ms", 1e3)):
        if seconds < 999.5 / factor:
            return f"{seconds * factor:.3g} {unit}"
    if seconds < _NEARLY_A_MINUTE:
        return f"{seconds:.3g} s"
    whole = round(seconds)
    if whole < _HOUR:
        return f"{whole // _MINUTE} min {whole % _MINUTE} s"
    minutes = round(seconds / _MINUTE)
    if whole < _DAY:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes // 1440} d {minutes % 1440 // 60} h"


def size(count: float) -> str:
    """Return a number of bytes such as ``3.2 MiB``."""
    for unit in _UNITS[:-1]:
        if count < _STEP:
            return f"{count:.4g} {unit}"
        count /= _STEP
    return f"{count:.4g} {_UNITS[-1]}"
