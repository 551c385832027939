"""What may be in a `run.json`: anybody can write one, so every field is checked before it is used."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

_SPECIAL = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}
"""Numbers that JSON does not have, as texts."""

_LARGEST_INTEGER = 1 << 63


def in_json(value: Any) -> Any:
    """Return a value with texts for the numbers that JSON does not have."""
    if isinstance(value, dict):
        return {str(key): in_json(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [in_json(one) for one in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def text(value: Any) -> str:
    """Return a text."""
    found: str = _of(str, value, "a text")
    return found


def whole(value: Any) -> int:
    """Return an integer."""
    if isinstance(value, bool):
        raise TypeError("expected an integer, got a bool")
    found: int = _of(int, value, "an integer")
    if abs(found) >= _LARGEST_INTEGER:
        raise TypeError("expected an integer of 64 bits")
    return found


def number(value: Any) -> float:
    """Return a number; those that JSON does not have are texts."""
    if isinstance(value, str) and value in _SPECIAL:
        return _SPECIAL[value]
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"expected a number, got {_told(value)}")
    if isinstance(value, float) or abs(value) < _LARGEST_INTEGER:
        return value
    return math.copysign(math.inf, value)


def one_of(*accepted: str) -> Callable[[Any], str]:
    """Return the form of one of some texts."""

    def form(value: Any) -> str:
        if value not in accepted or not isinstance(value, str):
            raise TypeError(f"expected {', '.join(accepted)}, got {_told(value)}")
        return value

    return form


def optional(form: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Return the form of a value that may be null."""
    return lambda value: None if value is None else form(value)


def mapping(form: Callable[[Any], Any]) -> Callable[[Any], dict[str, Any]]:
    """Return the form of an object whose values have a form."""
    return lambda value: {name: form(one) for name, one in _of(dict, value, "an object").items()}


def sequence(form: Callable[[Any], Any]) -> Callable[[Any], tuple[Any, ...]]:
    """Return the form of a list whose items have a form."""
    return lambda value: tuple(form(one) for one in _of(list, value, "a list"))


def _of(kind: type, value: Any, wanted: str) -> Any:
    if not isinstance(value, kind):
        raise TypeError(f"expected {wanted}, got {_told(value)}")
    return value


def _told(value: Any) -> str:
    shown = repr(value)
    return f"{type(value).__name__} {shown if len(shown) <= 40 else shown[:37] + '...'}"  # noqa: PLR2004 - a message
