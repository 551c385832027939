"""Validates everything that goes into a checkpoint, so that it can be read back.

``torch.load(weights_only=True)`` reads tensors and a few plain types. A value must be one of these, be packed as one of
``KINDS``, or equal a plain value (such as a subclass of dict) as which it is written; anything else raises an error
with its place.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, defaultdict
from collections.abc import Mapping
from dataclasses import is_dataclass
from enum import Enum
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from unitrain.checkpoint import kinds
from unitrain.checkpoint.kinds import KINDS, MOST_BITS
from unitrain.checkpoint.layout import KEY
from unitrain.distributed.strategies.dtensors import is_part
from unitrain.errors import DISTRIBUTION, CheckpointError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from unitrain.checkpoint.kinds import Kind

Place: TypeAlias = tuple[Any, ...]

NOTES = "kinds"
"""The key of the notes in unitrain's own section of a file."""

_DEEPEST = 100
_AS_THEY_ARE = frozenset(
    {type(None), bool, float, str, complex, torch.Size, torch.device, torch.dtype, torch.layout, bytearray}
)
_SCALARS: dict[type[Any], Callable[[Any], Any]] = {
    int: int.__int__,
    float: float.__float__,
    str: str.__str__,
    bytes: bytes.__bytes__,
    complex: complex.__complex__,
}


def admitted(content: Mapping[str, Any], lost: list[str] | None = None) -> dict[str, Any]:
    """Return ``content`` in a form that can be written: containers are copied, tensors are not.

    Args:
        content: The content of a checkpoint. Only unitrain's own has a place for notes of types.
        lost: Receives the places of values that lost their type, where there is no room for notes; without it, these
            raise.

    Raises:
        CheckpointError: If anything in it cannot be read back; the message names the place.
    """
    gate = Gate()
    own = content.get(KEY)
    noted = isinstance(own, dict)
    before = own.get(NOTES, []) if isinstance(own, dict) else []
    made: dict[str, Any] = {
        key: gate.plain(value if key != KEY or not noted else {**value, NOTES: []}, (key,))
        for key, value in content.items()
    }
    if noted:
        made[KEY][NOTES] = [*before, *gate.notes]
        return made
    for place, name, _ in gate.notes:
        if KINDS[name].numeric:
            continue
        if lost is None:
            raise refused(place, f"a {name}", "this file format cannot store it: use a number, a string or a list.")
        lost.append(f"{worded(place)}: its type, {name} (stored as a plain value)")
    return made


def plain(value: Any, *place: Any) -> Any:
    """Return ``value`` as tensors and plain values, without notes of original types.

    Raises:
        CheckpointError: If that is not possible.
    """
    return Gate().plain(value, place)


def restored(content: dict[str, Any]) -> dict[str, Any]:
    """Restore the types noted in the content of a file, in place, and return it.

    Raises:
        CheckpointError: If the notes are of a newer unitrain, or do not fit.
    """
    own = content.get(KEY)
    notes = own.pop(NOTES, []) if isinstance(own, dict) else []
    try:
        for place, name, more in reversed(notes):  # what is within was packed later
            content = _changed(content, place, _kind(place, name), more)
    except CheckpointError:
        raise
    except Exception as error:
        raise CheckpointError(
            f"the checkpoint is damaged: its type notes do not match its contents: {error!r}.",
            hint="use an older checkpoint.",
        ) from error
    return content


def _kind(place: Sequence[Any], name: str) -> Kind:
    if name not in KINDS:
        raise CheckpointError(
            f"{worded(tuple(place))} is a {name}, which this version of unitrain does not know.",
            hint=f"pip install --upgrade {DISTRIBUTION}",
        )
    return KINDS[name]


def _changed(value: Any, place: Sequence[Any], kind: Kind, more: Any) -> Any:
    """Return ``value`` with the part at ``place`` unpacked."""
    if not place:
        return kind.unpack(value, more)
    first, rest = place[0], place[1:]
    made = _changed(value[first], rest, kind, more)
    if isinstance(value, tuple):
        return (*value[:first], made, *value[first + 1 :])
    value[first] = made
    return value


def worded(place: Place) -> str:
    """Return ``place`` as an expression: ``optimizer_states[0]['param_groups'][0]['kind']``."""
    first, *rest = place or ("the value",)
    return f"{first}{''.join(f'[{key!r}]' for key in rest)}"


def refused(place: Place, what: str, hint: str) -> CheckpointError:
    """Return the error for a value at ``place``, described by ``what``."""
    return CheckpointError(f"{worded(place)} is {what}, which a safe checkpoint cannot contain.", hint=hint)


class Gate:
    """One pass through a value.

    Attributes:
        notes: Place, type and further data of each packed value, outermost first.
    """

    def __init__(self) -> None:
        self.notes: list[list[Any]] = []
        self._within: set[int] = set()

    def plain(self, value: Any, place: Place) -> Any:
        """Return ``value`` as tensors and plain values.

        Raises:
            CheckpointError: If it cannot be read back as an equal value.
        """
        kind = type(value)
        if kind in _AS_THEY_ARE:
            return value
        if kind is Tensor:
            return value if not value.__dict__ else _bare(value)
        copy = _CONTAINERS.get(kind)
        if copy is not None:
            return self._within_it(value, place, copy)
        if kind is int and value.bit_length() <= MOST_BITS:
            return value
        if kind is bytes and value:
            return value
        return self._unusual(value, place)

    def _within_it(self, value: Any, place: Place, copy: Callable[[Gate, Any, Place], Any]) -> Any:
        if id(value) in self._within:
            raise refused(place, f"a {_name(value)} that contains itself", "store its contents once.")
        if len(place) > _DEEPEST:
            raise refused(place[:3], f"nested more than {_DEEPEST} deep", "flatten it to a list.")
        self._within.add(id(value))
        made = copy(self, value, place)
        self._within.discard(id(value))
        return made

    def key(self, key: Any, place: Place) -> Any:
        """Return the key of a dict, or an item of a set: their types are not noted, so an equal plain value is used.

        Raises:
            CheckpointError: If there is no equal plain value.
        """
        if type(key) in _AS_THEY_ARE or (type(key) is int and key.bit_length() <= MOST_BITS):
            return key
        inner, made = Gate(), None
        try:
            made = inner.plain(key, place)
        except CheckpointError:
            inner.notes.append([place, "none", None])
        if any(name != "numpy.number" for _, name, _ in inner.notes) or isinstance(key, Tensor):
            raise CheckpointError(
                f"{worded(place)} has the key {_shown(key)}, a {_name(key)}, which a safe checkpoint cannot contain.",
                hint="use numbers and strings as keys.",
            )
        return made

    def _unusual(self, value: Any, place: Place) -> Any:
        if isinstance(value, Tensor):
            return _tensor(value, place)
        name = kinds.of(value) or _LARGE.get(type(value))
        if name is not None:
            packed = KINDS[name].pack(value)
            if packed is None:
                raise _refuse(value, place)
            self.notes.append([list(place), name, packed[1]])
            return self._within_it(value, place, lambda gate, _, at: gate.plain(packed[0], at))
        for base, convert in _SCALARS.items():
            if isinstance(value, base):
                made = convert(value)
                if made != value and value == value:  # noqa: PLR0124 - a NaN differs from itself
                    raise _refuse(value, place)
                return self.plain(made, place)
        return self._subclass(value, place)

    def _subclass(self, value: Any, place: Place) -> Any:
        """Return the plain container that ``value`` equals."""
        make = next(make for base, make in _BASES.items() if isinstance(value, base))
        return self._within_it(value, place, lambda gate, given, at: gate.plain(make(given, at), at))


def _mapping(gate: Gate, value: Any, place: Place) -> Any:
    keys = {gate.key(key, place): one for key, one in value.items()}
    return {key: gate.plain(one, (*place, key)) for key, one in keys.items()}


def _list(gate: Gate, value: Any, place: Place) -> Any:
    """Copy a list; long lists of numbers, such as states of generators, at once."""
    found = set(map(type, value))
    if found <= _AS_THEY_ARE or (found == {int} and max(value).bit_length() <= MOST_BITS >= min(value).bit_length()):
        return list(value)
    return [gate.plain(one, (*place, number)) for number, one in enumerate(value)]


_CONTAINERS: dict[type[Any], Callable[[Gate, Any, Place], Any]] = {
    dict: _mapping,
    list: _list,
    tuple: lambda gate, value, place: tuple(gate.plain(one, (*place, number)) for number, one in enumerate(value)),
    OrderedDict: lambda gate, value, place: OrderedDict(_mapping(gate, value, place)),
    Counter: lambda gate, value, place: Counter(_mapping(gate, value, place)),
    set: lambda gate, value, place: {gate.key(one, place) for one in value},
}
"""Containers that torch reads, and how to copy each."""

_LARGE: dict[type[Any], str] = {int: "int", bytes: "bytes"}
"""Types that torch reads except for some values: long integers, and bytes."""


def _configuration(value: Any, place: Place) -> Any:
    """Return an OmegaConf configuration as dicts and lists, with references resolved."""
    from omegaconf import OmegaConf  # noqa: PLC0415 - only needed for its objects
    from omegaconf.errors import OmegaConfBaseException  # noqa: PLC0415

    try:
        return OmegaConf.to_container(value, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        reason = " ".join(str(error).split())
        raise CheckpointError(f"{worded(place)} cannot be read: {reason}", hint="set the missing value.") from error


def is_configuration(value: Any) -> bool:
    """Return whether ``value`` is an OmegaConf configuration."""
    return type(value).__module__.startswith("omegaconf.")


def _mapped(value: Any, place: Place) -> Any:
    return _configuration(value, place) if is_configuration(value) else dict(value.items())


def _sequence(value: Any, place: Place) -> Any:
    if is_configuration(value):
        return _configuration(value, place)
    raise _refuse(value, place)


_BASES: dict[type[Any], Callable[[Any, Place], Any]] = {
    dict: lambda value, _: dict(value.items()),
    list: lambda value, _: list(value),
    tuple: lambda value, _: tuple(value),
    set: lambda value, _: set(value),
    MappingProxyType: lambda value, _: dict(value.items()),
    Mapping: _mapped,
    object: _sequence,
}
"""Plain equivalents of subclasses; the first match wins."""


def _tensor(value: Tensor, place: Place) -> Tensor:
    """Return ``value`` as a tensor that torch can read, without its class and attributes."""
    if is_part(value):
        return value
    if is_lazy(value):
        raise refused(
            place,
            f"an {type(value).__name__} of an uninitialized lazy layer",
            "run one batch through the model first: model(example).",
        )
    if type(value) is nn.Parameter:
        return value if not value.__dict__ else _bare(value)
    own: Any = type(value).__torch_dispatch__
    if own is not Tensor.__torch_dispatch__ and not isinstance(value, nn.Parameter):
        raise refused(place, f"a {_name(value)}", "convert it to a plain tensor in state_dict().")
    return value.as_subclass(Tensor)


def _bare(value: Tensor) -> Tensor:
    made = value.detach()
    return made.requires_grad_(value.requires_grad) if made.is_floating_point() or made.is_complex() else made


def _name(value: Any) -> str:
    kind = type(value)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


_HINTS: dict[str, Callable[[Any], bool]] = {
    "store its name, and look up the class when loading.": lambda value: isinstance(value, type),
    "use a named factory, such as int or list.": lambda value: isinstance(value, defaultdict),
    "store its .name or .value.": lambda value: isinstance(value, Enum),
    "store generator.get_state(), a tensor.": lambda value: isinstance(value, torch.Generator),
    "store its state_dict().": lambda value: hasattr(value, "state_dict"),
    "keep dataclasses.asdict(value).": is_dataclass,
    "store its name, and look it up when loading.": callable,
}


def hint_for(value: Any) -> str:
    """Return a hint on how to store ``value`` in a state."""
    general = "use tensors, numbers, strings, lists and dicts in the state."
    return next((hint for hint, fits in _HINTS.items() if fits(value)), general)


def _refuse(value: Any, place: Place) -> CheckpointError:
    return refused(place, f"a {_name(value)}, {_shown(value)}", hint_for(value))


def _shown(value: Any) -> str:
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001 - whatever a class does to be shown
        return "which cannot be shown"
    return text if len(text) <= 80 else f"{text[:77]}..."  # noqa: PLR2004 - one line
