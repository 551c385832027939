"""Puts configuration files and overrides on top of each other; what comes later wins.

Mappings are merged, everything else is replaced. A class that is replaced by another takes its arguments along: they
belong to it. So a new class has exactly the arguments that were given with it or after it, and a note says which ones
were dropped. To name only another class, so that all arguments would be lost, is an error.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from unitrain.cli.configuration.places import Key, Place, Places, dotted
from unitrain.cli.configuration.signatures import ARGUMENTS, CLASS, PASSED_ON
from unitrain.cli.configuration.yaml_files import parsed
from unitrain.errors import ConfigError
from unitrain.utilities.secrets import HIDDEN, is_secret, without_secrets
from unitrain.utilities.signature import shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from unitrain.cli.configuration.command_line import Override
    from unitrain.cli.configuration.yaml_files import Document

NODE = (CLASS, ARGUMENTS, PASSED_ON)
SCHEDULE = ("spec", "lr_scheduler")
RULE = ("interval", "frequency", "monitor", "warmup_steps")
"""Keys of a learning-rate schedule beside its class: when it steps."""


class _Change(NamedTuple):
    """A class that was replaced."""

    old: str
    arguments: dict[str, Any]


@dataclass(frozen=True)
class Merged:
    """The files and overrides as one configuration.

    Attributes:
        tree: Its values.
        places: Where each was given.
        notes: What the user should know: arguments that were dropped.
    """

    tree: dict[str, Any]
    places: Places
    notes: tuple[str, ...]


class Layers:
    """A configuration that grows by files and overrides."""

    def __init__(self) -> None:
        self._tree: dict[str, Any] = {}
        self._known: dict[Key, Place] = {}
        self._changes: dict[Key, _Change] = {}

    def add(self, document: Document) -> None:
        """Put a file on top."""
        for name, value in document.values.items():
            self._put(self._tree, name, (), value, document.places.get)

    def override(self, given: Override) -> None:
        """Put an option on top.

        Raises:
            ConfigError: If its key leads nowhere, or it appends to something that is no list.
        """
        value, key = parsed(given.text, given.option), given.key
        if key[-1] == CLASS and len(key) > 1:
            key, value = key[:-1], {CLASS: value}
        container, name, around = self._found(key, given)
        place = Place(given.option)
        if given.appends:
            self._append(container, name, value, given)
            self._known[(*around, name, len(container[name]) - 1)] = place
        else:
            self._put(container, name, around, value, lambda _: place)

    def merged(self) -> Merged:
        """Return the configuration.

        Raises:
            ConfigError: If a class was replaced by the name of another, and had arguments.
        """
        places, notes = Places(self._known), []
        for key, change in self._changes.items():
            now = self._at(key)
            if not isinstance(now, dict):
                continue
            kept = now.get(ARGUMENTS) if CLASS in now else {}
            dropped = {name: value for name, value in change.arguments.items() if name not in (kept or {})}
            lost = ", ".join(f"{name}={_told((name,), value)}" for name, value in dropped.items())
            if kept is None and lost:
                raise places.refusal(
                    key,
                    f"{now.get(CLASS)} replaces {change.old}, whose arguments would be lost: {lost}.",
                    f"give the new ones: --{dotted(key)}.NAME VALUE; or --{dotted(key)}.{ARGUMENTS} '{{}}' for its"
                    " defaults.",
                )
            if lost:
                notes.append(f"{dotted(key)}: {now.get(CLASS, ', '.join(now))} replaces {change.old}; dropped: {lost}.")
        return Merged(self._tree, places, tuple(notes))

    def _put(self, container: Any, name: Any, around: Key, value: Any, place: Callable[[Key], Place | None]) -> None:
        """Put a value into a mapping or a list, on top of what is there."""
        key = (*around, name)
        old = container[name] if isinstance(container, list) else container.get(name)
        if isinstance(old, dict) and CLASS in old and isinstance(value, str) and "." in value:
            value = {CLASS: value}
        elif isinstance(old, str) and "." in old and isinstance(value, dict) and value.keys() & {CLASS, ARGUMENTS}:
            old = container[name] = {CLASS: old}
        if not (isinstance(old, dict) and isinstance(value, dict)) or _other_kind(old, value):
            if isinstance(old, dict) and CLASS in old and old.get(ARGUMENTS):
                self._changes[key] = _Change(str(old[CLASS]), old[ARGUMENTS])
            container[name] = value
            self._forget(key)
            self._known |= {one: found for one in _keys(key, value) if (found := place(one)) is not None}
            return
        if CLASS in old and value.get(CLASS, old[CLASS]) != old[CLASS]:
            before = self._changes.get(key, _Change("", {})).arguments
            self._changes[key] = _Change(str(old[CLASS]), {**before, **(old.pop(ARGUMENTS, None) or {})})
            self._forget((*key, ARGUMENTS))
        for one, part in value.items():
            self._put(old, one, key, part, place)

    def _forget(self, key: Key) -> None:
        for one in [one for one in self._known if one[: len(key)] == key]:
            del self._known[one]

    def _found(self, key: tuple[str, ...], given: Override) -> tuple[Any, Any, Key]:
        """Return the container of the last part of ``key``, that part, and the key of the container."""
        node: Any = self._tree
        around: Key = ()
        parts = list(key)
        while True:
            part: Any = parts.pop(0)
            if isinstance(node, list):
                part, parts = _index(node, part, parts, given)
            elif CLASS in node and part not in NODE and not (around == SCHEDULE and part in RULE):
                part, parts = ARGUMENTS, [part, *parts]
            if not parts:
                return node, part, around
            below = node[part] if isinstance(node, list) else node.get(part)
            if isinstance(below, str) and "." in below:
                below = {CLASS: below}
            elif below is None:
                below = {}
            elif not isinstance(below, (dict, list)):
                raise ConfigError(
                    f"{given.option}: {dotted((*around, part))} is {_told((*around, part), below)}, which has no keys.",
                    hint=f"--{dotted((*around, part))} VALUE replaces it.",
                )
            node[part] = below
            node, around = below, (*around, part)

    def _at(self, key: Key) -> Any:
        node: Any = self._tree
        for part in key:
            try:
                node = node[part]
            except (KeyError, IndexError, TypeError):
                return None
        return node

    def _append(self, container: Any, name: Any, value: Any, given: Override) -> None:
        old = container[name] if isinstance(container, list) else container.get(name)
        if not isinstance(old, (list, type(None))):
            raise ConfigError(
                f"{given.option}: {dotted(given.key)} is {_told(given.key, old)}, which is no list.",
                hint=f"{given.option[:-1]} VALUE replaces it.",
            )
        container[name] = [*(old or []), *(value if isinstance(value, list) else [value])]


def _told(key: Key, value: Any) -> str:
    """Return a value for a message, unless it is a secret."""
    return HIDDEN if any(is_secret(str(part)) for part in key) else without_secrets(shown(value))


def _other_kind(old: dict[str, Any], value: dict[str, Any]) -> bool:
    """Return whether one mapping describes a class, and the other one has names: of optimizers, or of a metric."""
    node = {CLASS, ARGUMENTS, PASSED_ON, *RULE}
    return (CLASS in old and not value.keys() & node) or (CLASS in value and bool(old.keys() - node))


def _keys(key: Key, value: Any) -> Iterator[Key]:
    """Yield the keys of a value and of everything in it."""
    yield key
    below = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, one in below:
        yield from _keys((*key, name), one)


def _index(node: list[Any], part: str, rest: list[str], given: Override) -> tuple[int, list[str]]:
    """Return the index of an item, and what follows; without an index, the last item is meant."""
    if not node or (part.isdecimal() and int(part) >= len(node)):
        raise ConfigError(
            f"{given.option}: the list has {len(node)} items.", hint="items are numbered from 0; NAME+=VALUE appends."
        )
    return (int(part), rest) if part.isdecimal() else (len(node) - 1, [part, *rest])
