"""Packs values of other types than tensors and plain types into plain ones, and unpacks them to equal values.

``torch.load(weights_only=True)`` reads few types. Those in ``KINDS`` are written as a plain value, which any program
can read, and a note of the place and type, with which unitrain restores them.
"""

from __future__ import annotations

import argparse
import collections
import datetime as dt
import pathlib
import sys
import types
from collections import defaultdict, deque
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Callable

MOST_BITS = 2000
"""The longest integers, in bits, that torch's reader supports; it lacks the opcode for longer ones."""

_FACTORIES: dict[str, type[Any]] = {one.__name__: one for one in (int, float, bool, str, list, dict, set, tuple)}
"""Factories of defaultdicts that a file can refer to by name."""


@dataclass(frozen=True)
class Kind:
    """A type of value, and its plain form.

    Attributes:
        pack: Returns the plain form, whose parts are packed in turn, and further data for ``unpack``; None if this
            value has none.
        unpack: Creates an equal value.
        numeric: Whether the plain form is equivalent for other programs, like a number for NumPy's.
    """

    pack: Callable[[Any], tuple[Any, Any] | None]
    unpack: Callable[[Any, Any], Any]
    numeric: bool = False


def of(value: Any) -> str | None:
    """Return the name of the kind of ``value``, if it is one of ``KINDS``."""
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        if isinstance(value, numpy.generic) and not isinstance(value, (str, bytes)):
            return "numpy.number"
        if type(value) is numpy.ndarray:
            return "numpy.ndarray"
    return _NAMES.get(type(value))


def _number(value: Any) -> tuple[Any, Any] | None:
    made = value.item()
    return (
        (made, value.dtype.name) if type(made) in (bool, int, float, complex) and value.dtype.kind in "biufc" else None
    )


def _numpy() -> Any:
    import numpy as np  # noqa: PLC0415 - only who wrote an array needs it

    return np


def _array(value: Any) -> tuple[Any, Any] | None:
    kind, dtype = value.dtype.kind, value.dtype.str
    if kind in "US":
        return [list(value.shape), value.ravel().tolist()], dtype
    if kind in "mM":
        return torch.from_numpy(value.astype(value.dtype.newbyteorder("=")).view("i8").copy()), dtype
    try:
        return torch.from_numpy(value.astype(value.dtype.newbyteorder("="), order="C")), dtype
    except TypeError:  # objects, records, long doubles
        return None


def _to_array(value: Any, dtype: str) -> Any:
    np = _numpy()
    if np.dtype(dtype).kind in "US":
        return np.array(value[1], dtype=dtype).reshape(value[0])
    given = value.numpy()
    if np.dtype(dtype).kind in "mM":
        given = given.view(np.dtype(dtype).newbyteorder("="))
    return given.astype(dtype, copy=False)


def _zoned(value: Any) -> tuple[Any, Any] | None:
    """Pack a time in ISO format; a time zone with rules is refused, because only its offset would be kept."""
    return (value.isoformat(), None) if value.tzinfo is None or type(value.tzinfo) is dt.timezone else None


def _factory(value: Any) -> tuple[Any, Any] | None:
    made = value.default_factory
    name = None if made is None else getattr(made, "__name__", "")
    return (dict(value), name) if made is None or _FACTORIES.get(str(name)) is made else None


def _path(cls: type[pathlib.PurePath]) -> Kind:
    return Kind(lambda value: (str(value), None), lambda value, _: cls(value))


KINDS: dict[str, Kind] = {
    "numpy.number": Kind(_number, lambda value, name: _numpy().dtype(name).type(value), numeric=True),
    "numpy.ndarray": Kind(_array, _to_array, numeric=True),
    "int": Kind(lambda value: (hex(value), None), lambda value, _: int(value, 16)),
    "bytes": Kind(lambda _: ("", None), lambda *_: b""),
    "frozenset": Kind(lambda value: (set(value), None), lambda value, _: frozenset(value)),
    "deque": Kind(lambda value: (list(value), value.maxlen), deque),
    "defaultdict": Kind(
        _factory, lambda value, name: defaultdict(None if name is None else _FACTORIES[name], value), numeric=True
    ),
    "range": Kind(lambda value: ([value.start, value.stop, value.step], None), lambda value, _: range(*value)),
    "slice": Kind(lambda value: ([value.start, value.stop, value.step], None), lambda value, _: slice(*value)),
    "date": Kind(lambda value: (value.isoformat(), None), lambda value, _: dt.date.fromisoformat(value)),
    "time": Kind(_zoned, lambda value, _: dt.time.fromisoformat(value)),
    "datetime": Kind(_zoned, lambda value, _: dt.datetime.fromisoformat(value)),
    "timedelta": Kind(
        lambda value: ([value.days, value.seconds, value.microseconds], None),
        lambda value, _: dt.timedelta(*value),
    ),
    "Decimal": Kind(lambda value: (str(value), None), lambda value, _: Decimal(value)),
    "Path": _path(pathlib.Path),
    "PurePosixPath": _path(pathlib.PurePosixPath),
    "PureWindowsPath": _path(pathlib.PureWindowsPath),
    "Namespace": Kind(lambda value: (vars(value), None), lambda value, _: argparse.Namespace(**value)),
    "SimpleNamespace": Kind(lambda value: (vars(value), None), lambda value, _: types.SimpleNamespace(**value)),
}
"""Kinds by their names in files, which must never change."""

_NAMES: dict[type[Any], str] = {
    frozenset: "frozenset",
    deque: "deque",
    collections.defaultdict: "defaultdict",
    range: "range",
    slice: "slice",
    dt.date: "date",
    dt.time: "time",
    dt.datetime: "datetime",
    dt.timedelta: "timedelta",
    Decimal: "Decimal",
    type(pathlib.Path()): "Path",
    pathlib.PurePosixPath: "PurePosixPath",
    pathlib.PureWindowsPath: "PureWindowsPath",
    argparse.Namespace: "Namespace",
    types.SimpleNamespace: "SimpleNamespace",
}
"""Kinds by exact class; a subclass may add meaning."""
