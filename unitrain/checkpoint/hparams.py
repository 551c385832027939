"""Hyper-parameters in one plain form for checkpoints and trackers.

They are for people to read, and no run resumes from them. So a path is stored as text, whereas a state must be restored
exactly.
"""

from __future__ import annotations

import argparse
import datetime as dt
import types
from collections import deque
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import fields, is_dataclass
from decimal import Decimal
from enum import Enum
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import nn

from unitrain.checkpoint.gate import is_configuration, plain, worded
from unitrain.errors import CheckpointError, SpecError

if TYPE_CHECKING:
    from collections.abc import Callable


class _At(NamedTuple):
    """The place of a value.

    Attributes:
        place: The keys that lead to the value.
        around: The enclosing objects, outermost first.
    """

    place: tuple[Any, ...] = ("hparams",)
    around: tuple[Any, ...] = ()

    def below(self, key: Any, container: Any) -> _At:
        """Return the place of ``key`` in ``container``."""
        if len(self.around) > _DEEPEST or any(container is one for one in self.around):
            raise _refused(self, "contains itself, or is nested too deeply", "store its contents once.")
        return _At((*self.place, key), (*self.around, container))


_DEEPEST = 50


def plain_hparams(given: Mapping[str, Any] | None) -> dict[Any, Any]:
    """Return the ``hparams`` of a spec as numbers, texts, lists and dicts.

    Raises:
        SpecError: If one of them has no plain form; the message names the place.
    """
    found: dict[Any, Any] = plain_hparam({} if given is None else given)
    return found


def plain_hparam(value: Any) -> Any:
    """Return one hyper-parameter as numbers, texts, lists and dicts.

    Raises:
        SpecError: If it has no plain form.
    """
    return _plain(value, _At())


def _plain(value: Any, at: _At) -> Any:
    if isinstance(value, type):
        name = value.__name__
        raise _refused(at, f"is the class {name}, which has no plain form", f'store its name: "{name}".')
    for kind, convert in _FORMS.items():
        if isinstance(value, kind):
            return convert(value, at)
    return _other(value, at)


def _other(value: Any, at: _At) -> Any:
    if is_dataclass(value):
        return {one.name: _plain(getattr(value, one.name), at.below(one.name, value)) for one in fields(value)}
    if callable(getattr(value, "tolist", None)):  # NumPy's and torch's
        return _plain(value.tolist(), at.below("tolist()", value))
    try:
        return plain(value, *at.place)
    except CheckpointError as error:
        what = f"is a {type(value).__name__}, {repr(value)[:80]}, which has no plain form"
        raise _refused(at, what, _hint(value)) from error


def _contained(value: Any, at: _At) -> Any:
    """Return what is in a configuration of OmegaConf; anything else unchanged."""
    if not is_configuration(value):
        return value
    from omegaconf import OmegaConf  # noqa: PLC0415 - only needed for its objects

    try:
        return OmegaConf.to_container(value, resolve=True, throw_on_missing=True)
    except Exception as error:
        reason = " ".join(str(error).split())
        raise _refused(at, f"cannot be read: {reason}", "set the missing value, or remove it.") from error


def _mapping(value: Any, at: _At) -> dict[Any, Any]:
    given = vars(value) if isinstance(value, _NAMESPACES) else _contained(value, at)
    return {_key(key, at): _plain(one, at.below(key, value)) for key, one in given.items()}


def _key(key: Any, at: _At) -> Any:
    made = _plain(key, at)
    return str(made) if isinstance(made, (list, dict)) else made


def _listed(value: Any, at: _At) -> list[Any]:
    return [_plain(one, at.below(number, value)) for number, one in enumerate(_contained(value, at))]


def _ordered(value: Any, at: _At) -> list[Any]:
    made = _listed(value, at)
    try:
        return sorted(made)
    except TypeError:  # of several kinds
        return sorted(made, key=repr)


_NAMESPACES = (argparse.Namespace, types.SimpleNamespace)
_FORMS: dict[Any, Callable[[Any, _At], Any]] = {
    (Enum,): lambda value, at: _plain(value.value, at),
    (str, bytes, bytearray, bool, int, float, complex): lambda value, at: plain(value, *at.place),
    (PurePath, dt.timedelta, Decimal, torch.device, torch.dtype, torch.layout): lambda value, _: str(value),
    (dt.date, dt.time): lambda value, _: value.isoformat(),
    (*_NAMESPACES, Mapping): _mapping,
    (AbstractSet,): _ordered,
    (deque, Sequence): _listed,
}
"""Conversions by kind; the first match wins."""


def _hint(value: Any) -> str:
    if isinstance(value, nn.Module):
        return f'store what it is created from: "{type(value).__name__}", and its arguments.'
    if callable(value):
        return f'store its name: "{getattr(value, "__name__", type(value).__name__)}".'
    return "use numbers, strings, lists and dicts."


def _refused(at: _At, what: str, hint: str) -> SpecError:
    return SpecError(f"TrainSpec(hparams=): {worded(at.place)} {what}.", hint=hint)
