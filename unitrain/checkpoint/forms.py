"""The required structure of unitrain's part of a checkpoint, which detects files edited by hand.

A form is a function of a value and its place that returns a description of the error, or None.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from numbers import Real
from typing import Any, TypeAlias

import torch
from torch import Tensor

Form: TypeAlias = "Callable[[Any, str], str | None]"

_MOST = 2**53
"""No run counts further."""


def _told(value: Any, place: str, expected: str) -> str:
    if isinstance(value, Tensor):
        return f"{place} is a tensor of shape {tuple(value.shape)}, not {expected}"
    short = repr(value)
    return f"{place} is {short if len(short) < 50 else type(value).__name__}, not {expected}"  # noqa: PLR2004 - a line


def _a(kind: type, expected: str) -> Form:
    return lambda value, place: None if isinstance(value, kind) else _told(value, place, expected)


def _count(value: Any, place: str) -> str | None:
    fine = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _MOST
    return None if fine else _told(value, place, "a count")


def _number(value: Any, place: str) -> str | None:
    fine = isinstance(value, Real) and not isinstance(value, bool)
    return None if fine else _told(value, place, "a number")


def _anything(value: Any, place: str) -> str | None:  # noqa: ARG001 - a form
    return None


def _maybe(form: Form) -> Form:
    return lambda value, place: None if value is None else form(value, place)


def _list(form: Form, length: int | None = None) -> Form:
    def check(value: Any, place: str) -> str | None:
        if not isinstance(value, (list, tuple)) or len(value) != (len(value) if length is None else length):
            return _told(value, place, "a list" if length is None else f"a list of {length}")
        return _first(form(one, f"{place}[{index}]") for index, one in enumerate(value))

    return check


def _row(*forms: Form) -> Form:
    """Return the form of a list with one form for each item."""
    items = _list(_anything, len(forms))

    def check(value: Any, place: str) -> str | None:
        wrong = items(value, place)
        if wrong is not None:
            return wrong
        return _first(
            form(one, f"{place}[{index}]") for index, (form, one) in enumerate(zip(forms, value, strict=True))
        )

    return check


def _words(count: int) -> Form:
    """Return the form of the words of a generator: a tensor, or a list in format 1."""

    def check(value: Any, place: str) -> str | None:
        is_tensor = isinstance(value, Tensor) and value.dtype is torch.int64 and value.shape == (count,)
        fine = is_tensor or (isinstance(value, list) and len(value) == count)
        return None if fine else _told(value, place, f"the {count} words of a generator")

    return check


def _by_name(form: Form) -> Form:
    def check(value: Any, place: str) -> str | None:
        if not isinstance(value, Mapping):
            return _told(value, place, "a dict")
        return _first(form(one, f"{place}[{key!r}]") for key, one in value.items())

    return check


def _record(required: Mapping[str, Form], optional: Mapping[str, Form] | None = None) -> Form:
    """Return the form of a dict with these keys; other keys are not checked."""

    def check(value: Any, place: str) -> str | None:
        if not isinstance(value, Mapping):
            return _told(value, place, "a dict")
        lacking = [name for name in required if name not in value]
        if lacking:
            return f"{place} has no {lacking[0]!r}"
        forms = {**required, **(optional or {})}
        return _first(forms[key](one, f"{place}[{key!r}]") for key, one in value.items() if key in forms)

    return check


def _first(found: Any) -> str | None:
    return next((one for one in found if one is not None), None)


def _mean(value: Any, place: str) -> str | None:
    wrong = _record({"total": _maybe(_TENSOR), "weight": _number})(value, place)
    if wrong is not None:
        return wrong
    total, weight = value["total"], value["weight"]
    fine = 0 <= weight < _MOST and (not weight if total is None else total.numel() == 1)
    return None if fine else _told(value, place, "a sum and its weight")


_TEXT, _FLAG = _a(str, "a string"), _a(bool, "True or False")
_TENSOR, _DICT = _a(Tensor, "a tensor"), _a(dict, "a dict")
_STATES = _by_name(_list(_anything, 2))
"""Kinds and states of generators by place."""
_RNG = _record(
    {
        "python": _row(_number, _words(625), _maybe(_number)),
        "numpy": _maybe(_row(_TEXT, _words(624), _count, _count, _number)),
        "cpu": _TENSOR,
        "cuda": _list(_TENSOR),
        "others": _list(_TENSOR),
    },
    {"own": _STATES},
)
_PROGRESS = _record(
    {"epochs_done": _count, "in_epoch": _count, "midway": _FLAG},
    {
        "meter": _maybe(
            _record(
                {"loss": _mean, "logged": _by_name(_mean), "metrics": _by_name(_by_name(_anything)), "updated": _FLAG}
            )
        ),
        "rng": _maybe(_RNG),
        "val_rng": _maybe(_STATES),
        "rng_at_iter": _maybe(_RNG),
        "rng_before_ahead": _maybe(_RNG),
        "gradients": _maybe(_by_name(_TENSOR)),
        "scaler": _maybe(_DICT),
        "rng_at_load": _maybe(_RNG),
        "remembered": _maybe(_by_name(_by_name(_DICT))),
        "accumulate": _maybe(_list(_count, 2)),
        "loss": _maybe(_DICT),
    },
)
_OWN_PART = _record(
    {
        "format": _count,
        "names": _record(
            {"optimizers": _list(_TEXT), "schedules": _list(_TEXT)},
            {"metrics": _list(_TEXT), "kinds": _by_name(_list(_TEXT))},
        ),
        "progress": _PROGRESS,
        "run": _record({}, {"epoch_length": _maybe(_count), "max_epochs": _maybe(_number), "order": _maybe(_number)}),
        "schedule_steps": _list(_count),
        "hub": _record(
            {
                "epoch": _count,
                "step": _count,
                "batch": _count,
                "metrics": _by_name(_number),
                "epoch_metrics": _by_name(_number),
                "counts": _by_name(_count),
            },
            {"files": _by_name(_maybe(_TEXT)), "tensors": _by_name(_anything)},
        ),
        "callbacks": _by_name(_anything),
    },
    {"ranks": _list(_PROGRESS), "versions": _by_name(_TEXT)},
)


def misfit(own: Any, place: str) -> str | None:
    """Describe what is wrong with unitrain's own part of a checkpoint; return None if nothing is."""
    found = _OWN_PART(own, place)
    if found is not None:
        return found
    for one in (own["progress"], *own.get("ranks", ())):
        if one["midway"] and one.get("rng") is not None and one.get("rng_at_iter") is None:
            return f"{place}['progress'] is within an epoch and has no 'rng_at_iter'"
    return None


_ALIKE: dict[tuple[type, ...], str] = {
    (bool,): "True or False",
    (int, float, Tensor): "a number",
    (str,): "a string",
    (list, tuple): "a list",
    (dict,): "a dict",
}


def unlike(value: Any, known: Any, place: str, *, sized: bool = True) -> str | None:
    """Return where ``value`` is of another kind than ``known``, of the same thing; None where it fits.

    Values that are None in ``known``, or that only one of them has, may be anything.

    Args:
        value: The value in the file.
        known: The current value.
        place: Name of the place, for messages.
        sized: Whether it has as many numbers as there are now.
    """
    if known is None:
        return None
    kind: Any = next((kind for kind in _ALIKE if isinstance(known, kind)), (object,))
    more = sized and _more(value, known)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind != (bool,)) or more or _huge(value):
        several = isinstance(known, Tensor) and known.numel() != 1
        expected = "a tensor" if several else _ALIKE.get(kind, f"of the class {type(known).__name__}")
        return _told(value, place, f"{expected} below 2**53" if _huge(value) else expected)
    if isinstance(known, dict):
        return _first(
            unlike(value[key], one, f"{place}[{key!r}]", sized=sized) for key, one in known.items() if key in value
        )
    if sized and isinstance(known, (list, tuple)) and known and isinstance(known[0], Real):
        if len(value) != len(known):
            return _told(value, place, f"a list of {len(known)}")
        return _first(unlike(value[at], one, f"{place}[{at}]") for at, one in enumerate(known))
    return None


def _more(value: Any, known: Any) -> bool:
    """Return whether ``value`` has several numbers instead of one."""
    one = not isinstance(known, Tensor) or known.numel() == 1
    return isinstance(value, Tensor) and one and value.numel() != 1


def _huge(value: Any) -> bool:
    """Return whether ``value`` is larger than any run reaches."""
    return isinstance(value, int) and abs(value) >= _MOST
