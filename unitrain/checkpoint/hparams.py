"""Hyper-parameters in a plain form, the same for the checkpoint and for every tracker.

They are there to be read, and no run resumes from them. So a path becomes its text here, where a state would have to
come back as it was.
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
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from unitrain.checkpoint.gate import is_configuration, plain, worded
from unitrain.errors import CheckpointError, SpecError

if TYPE_CHECKING:
    from collections.abc import Callable

_DEEPEST = 50


def plain_hparams(given: Mapping[str, Any] | None) -> dict[Any, Any]:
    """Return the ``hparams`` of a spec as numbers, texts, lists and dicts.

    Raises:
        SpecError: If one of them has no plain form; it names the place.
    """
    found: dict[Any, Any] = plain_hparam({} if given is None else given)
    return found


def plain_hparam(value: Any, place: tuple[Any, ...] = ("hparams",)) -> Any:
    """Return one hyper-parameter as numbers, texts, lists and dicts.

    Raises:
        SpecError: If it has no plain form.
    """
    if len(place) > _DEEPEST:
        raise _refused(place[:3], f"is nested more than {_DEEPEST} deep, or holds itself", "keep what is in it once.")
    if isinstance(value, type):
        raise _refused(place, f"is the class {value.__name__}", f'give its name: "{value.__name__}".')
    for kind, convert in _FORMS.items():
        if isinstance(value, kind):
            return convert(value, place)
    return _other(value, place)


def _other(value: Any, place: tuple[Any, ...]) -> Any:
    if is_dataclass(value):
        return _mapping({one.name: getattr(value, one.name) for one in fields(value)}, place)
    if callable(getattr(value, "tolist", None)):  # NumPy's and torch's
        return plain_hparam(value.tolist(), place)
    try:
        return plain(value, *place)
    except CheckpointError as error:
        raise _refused(place, f"is a {type(value).__name__}, {repr(value)[:80]}", _hint(value)) from error


def _contained(value: Any, place: tuple[Any, ...]) -> Any:
    """Return what is in a configuration of OmegaConf; anything else as it is."""
    if not is_configuration(value):
        return value
    from omegaconf import OmegaConf  # noqa: PLC0415 - its object is at hand

    try:
        return OmegaConf.to_container(value, resolve=True, throw_on_missing=True)
    except Exception as error:
        reason = " ".join(str(error).split())
        raise _refused(place, f"cannot be read: {reason}", "give the missing value.") from error


def _mapping(value: Mapping[Any, Any], place: tuple[Any, ...]) -> dict[Any, Any]:
    return {_key(key, place): plain_hparam(one, (*place, key)) for key, one in value.items()}


def _key(key: Any, place: tuple[Any, ...]) -> Any:
    made = plain_hparam(key, (*place, "a key"))
    return str(made) if isinstance(made, (list, dict)) else made


def _listed(value: Any, place: tuple[Any, ...]) -> list[Any]:
    return [plain_hparam(one, (*place, number)) for number, one in enumerate(value)]


def _ordered(value: Any, place: tuple[Any, ...]) -> list[Any]:
    made = _listed(value, place)
    try:
        return sorted(made)
    except TypeError:  # of several kinds
        return sorted(made, key=repr)


def _text(value: Any, _: tuple[Any, ...]) -> str:
    return str(value)


_FORMS: dict[Any, Callable[[Any, tuple[Any, ...]], Any]] = {
    (Enum,): lambda value, place: plain_hparam(value.value, place),
    (str, bytes, bytearray, bool, int, float, complex): lambda value, place: plain(value, *place),
    (PurePath, dt.timedelta, Decimal, torch.device, torch.dtype, torch.layout): _text,
    (dt.date, dt.time): lambda value, _: value.isoformat(),
    (argparse.Namespace, types.SimpleNamespace): lambda value, place: _mapping(vars(value), place),
    (Mapping,): lambda value, place: _mapping(_contained(value, place), place),
    (AbstractSet,): _ordered,
    (deque, Sequence): lambda value, place: _listed(_contained(value, place), place),
}
"""What each kind becomes; the first that fits."""


def _hint(value: Any) -> str:
    if isinstance(value, nn.Module):
        return f'give what it is made from: "{type(value).__name__}", and its arguments.'
    if callable(value):
        return f'give its name: "{getattr(value, "__name__", type(value).__name__)}".'
    return "give numbers, texts, lists and dicts."


def _refused(place: tuple[Any, ...], what: str, hint: str) -> SpecError:
    return SpecError(f"TrainSpec(hparams=): {worded(place)} {what}, which has no plain form.", hint=hint)
