"""The parts of a configuration: what each key is in a file, and what it becomes."""

from __future__ import annotations

import copy
from collections.abc import Callable  # noqa: TC003 - NamedTuple reads it
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias

from torch import nn
from torch.optim import Optimizer

from unitrain.cli.configuration.calls import NODE, built, call_of, is_node, target_of
from unitrain.cli.configuration.layers import RULE
from unitrain.cli.configuration.signatures import CLASS
from unitrain.metrics.metric import metric
from unitrain.spec import LRSchedule
from unitrain.utilities.signature import shown

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from unitrain.cli.configuration.calls import Call
    from unitrain.cli.configuration.places import Key, Places


class Part(Protocol):
    """A checked value of a configuration."""

    @property
    def plain(self) -> Any:
        """What a file says, with all defaults."""

    def build(self) -> Any:
        """Return the object, a new one each time."""


Reader: TypeAlias = "Callable[[Any, Key, Places], Part]"
"""Takes a value, its key and the places, and returns a part; or raises a ConfigError."""


class Kind(NamedTuple):
    """What a class must be.

    Attributes:
        title: What, for messages.
        holds: Returns whether a class is that.
    """

    title: str
    holds: Callable[[type], bool]


ANYTHING = Kind("a class", lambda _: True)
MODULE = Kind("a torch.nn.Module", lambda one: issubclass(one, nn.Module))
OPTIMIZER = Kind("a torch.optim.Optimizer", lambda one: issubclass(one, Optimizer))
SCHEDULER = Kind(
    "a scheduler of torch or a parameter scheduler of Ignite",
    lambda one: hasattr(one, "load_state_dict") and not issubclass(one, (nn.Module, Optimizer)),
)


def require(kind: Kind, value: Any, key: Key, places: Places) -> None:
    """Refuse a class that is not a ``kind``; what a function returns is seen when it is called.

    Raises:
        ConfigError: If it is not.
    """
    target = target_of(value, key, places)
    if isinstance(target, type) and not kind.holds(target):
        name = value[CLASS] if isinstance(value, dict) else value
        raise places.refusal(key, f"{name} is not {kind.title}.", f"name {kind.title}.")


@dataclass(frozen=True)
class Plain:
    """A value that is used as it is, but for classes that are named in it."""

    plain: Any
    key: Key
    places: Places

    def build(self) -> Any:
        """Return a copy."""
        return built(copy.deepcopy(self.plain), self.key, self.places)


@dataclass(frozen=True)
class Made:
    """An instance of a class, or what a function returns."""

    call: Call

    @property
    def plain(self) -> Any:
        """The call."""
        return self.call.node

    def build(self) -> Any:
        """Call it."""
        return self.call.made()


@dataclass(frozen=True)
class Factory:
    """A class or function that somebody else calls: an optimizer's, which gets the parameters."""

    call: Call

    @property
    def plain(self) -> Any:
        """The call."""
        return self.call.node

    def build(self) -> Any:
        """Return the class or function with its arguments."""
        return self.call.factory()


@dataclass(frozen=True)
class Schedule:
    """A learning-rate schedule: a factory, and when to step it."""

    call: Call | None
    rule: Mapping[str, Any]
    key: Key
    places: Places

    @property
    def plain(self) -> Any:
        """The call and the rule."""
        return {**({} if self.call is None else self.call.node), **self.rule}

    def build(self) -> Any:
        """Return an LRSchedule."""
        with self.places.naming(self.key):
            return LRSchedule(None if self.call is None else self.call.factory(), **self.rule)


@dataclass(frozen=True)
class NamedMetric:
    """A metric by its short name."""

    plain: Mapping[str, Any]
    key: Key
    places: Places

    def build(self) -> Any:
        """Return ``unitrain.metric(name, ...)``."""
        with self.places.naming(self.key):
            return metric(**copy.deepcopy(dict(self.plain)))


@dataclass(frozen=True)
class Listed:
    """A list of parts."""

    parts: Sequence[Part]

    @property
    def plain(self) -> Any:
        """The list."""
        return [one.plain for one in self.parts]

    def build(self) -> Any:
        """Return the list of objects."""
        return [one.build() for one in self.parts]


@dataclass(frozen=True)
class ByName:
    """Parts by name."""

    parts: Mapping[str, Part]

    @property
    def plain(self) -> Any:
        """The mapping."""
        return {name: one.plain for name, one in self.parts.items()}

    def build(self) -> Any:
        """Return the mapping of objects."""
        return {name: one.build() for name, one in self.parts.items()}


# --- readers: each takes a value, its key and the places, and returns a part ------------------------------------------


def plain(value: Any, key: Key, places: Places) -> Part:
    """Read a value that is used as it is."""
    return Plain(value, key, places)


def made(kind: Kind = ANYTHING) -> Reader:
    """Return the reader of an object; a function is called."""

    def read(value: Any, key: Key, places: Places) -> Part:
        require(kind, value, key, places)
        return Made(call_of(value, key, places))

    return read


def plain_or_made(value: Any, key: Key, places: Places) -> Part:
    """Read an object, or a plain value."""
    return made()(value, key, places) if is_node(value) else plain(value, key, places)


def called_with(count: int) -> Reader:
    """Return the reader of something that is called with ``count`` arguments: an object of a class, or a function."""

    def read(value: Any, key: Key, places: Places) -> Part:
        if isinstance(target_of(value, key, places), type):
            return Made(call_of(value, key, places))
        return Factory(call_of(value, key, places, skip=count))

    return read


def factory(kind: Kind) -> Reader:
    """Return the reader of a factory whose first argument somebody else passes."""

    def read(value: Any, key: Key, places: Places) -> Part:
        require(kind, value, key, places)
        return Factory(call_of(value, key, places, skip=1))

    return read


def by_name(reader: Reader) -> Reader:
    """Return the reader of a mapping."""

    def read(value: Any, key: Key, places: Places) -> Part:
        if not isinstance(value, dict) or not all(isinstance(name, str) for name in value):
            raise places.refusal(key, f"must be a mapping of names; got {shown(value)}.", "NAME: {class_path: ...}")
        return ByName({name: reader(one, (*key, name), places) for name, one in value.items()})

    return read


def one_or_by_name(reader: Reader, keys: Sequence[str] = NODE) -> Reader:
    """Return the reader of one part, or of parts by name; a mapping with one of ``keys`` is a part."""

    def read(value: Any, key: Key, places: Places) -> Part:
        several = isinstance(value, dict) and not value.keys() & {*keys}
        return (by_name(reader) if several else reader)(value, key, places)

    return read


def listed(reader: Reader) -> Reader:
    """Return the reader of a list."""

    def read(value: Any, key: Key, places: Places) -> Part:
        if not isinstance(value, list):
            raise places.refusal(key, f"must be a list; got {shown(value)}.", "[{class_path: ...}]")
        return Listed([reader(one, (*key, index), places) for index, one in enumerate(value)])

    return read


def schedules(value: Any, key: Key, places: Places) -> Part:
    """Read a learning-rate schedule, a list of them, or one for each optimizer."""
    if isinstance(value, list):
        return listed(_schedule)(value, key, places)
    return one_or_by_name(_schedule, (*NODE, *RULE))(value, key, places)


def _schedule(value: Any, key: Key, places: Places) -> Part:
    given = value if isinstance(value, dict) else {CLASS: value}
    rule = {one.name: given.get(one.name, one.default) for one in fields(LRSchedule) if one.name in RULE}
    if CLASS not in given:
        places.require_known(key, given, RULE)
        return Schedule(None, rule, key, places)
    require(SCHEDULER, given, key, places)
    return Schedule(call_of(given, key, places, skip=1, more=RULE), rule, key, places)


def metrics(value: Any, key: Key, places: Places) -> Part:
    """Read metrics by name."""
    for name in value if isinstance(value, dict) else ():
        if not name or "/" in str(name):
            hint = 'a metric named "acc" is logged as "train/acc" and "val/acc".'
            raise places.refusal((*key, name), "a metric's name has no slash.", hint)
    return by_name(_metric)(value, key, places)


def _metric(value: Any, key: Key, places: Places) -> Part:
    """Read a metric: its short name with options, a class, or a function of the output and the target."""
    given = {"name": value} if isinstance(value, str) and "." not in value else value
    if not isinstance(given, dict) or is_node(given):
        return called_with(2)(given, key, places)
    if not isinstance(given.get("name"), str) or not all(isinstance(one, str) for one in given):
        raise places.refusal(key, f"must name a metric; got {shown(value)}.", "{name: accuracy, num_classes: 10}")
    return NamedMetric(given, key, places)
