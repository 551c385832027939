"""Random states of samplers, datasets and transforms, which a resumed run restores."""

from __future__ import annotations

import ast
import re
from collections import deque
from contextlib import suppress
from functools import partial
from itertools import islice
from operator import itemgetter
from types import FunctionType, MemberDescriptorType, MethodType, ModuleType
from typing import TYPE_CHECKING, Any

from torch import Tensor
from torch.utils.data import DataLoader

from unitrain.data.loaders import members_of, samplers_of
from unitrain.utilities.rng import global_generators, kind_of, made, maybe_generators, put, state_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

_OF_LOADER = ("batch_sampler", "sampler", "dataset", "collate_fn")
"""The attributes in which a DataLoader keeps what it consists of."""
_MOST = 2000
"""How many objects are looked at, those near to the loader first."""
_MOST_ITEMS = 100
"""How many items of a container are looked at."""
_PLAIN = {type(None), bool, int, float, complex, str, bytes, Tensor}
_TORCH_DATA = "torch.utils.data."


class OwnRandom:
    """The generators of Python, NumPy and torch in the parts of some loaders, by place.

    They are searched each time, because data may create them only when read. Generators of torch's own loaders and
    samplers are excluded. Worker processes have copies, whose states are unknown here.

    Args:
        loaders: The loaders to search: attributes, containers, partial functions, methods, closures and defaults.
    """

    def __init__(self, loaders: Iterable[Any]) -> None:
        self._loaders = [one for given in loaders for one in members_of(given)]

    def states(self) -> dict[str, Any]:
        """Return the kinds and states by place, for a checkpoint."""
        return {place: [kind_of(one), state_of(one)] for place, one in self._found()[0].items()}

    def put_back(self, saved: Mapping[str, Any], *, absent: bool = True) -> None:
        """Restore the states in ``saved`` of all generators that exist with the same kind.

        Args:
            saved: The result of ``states``.
            absent: Whether to create missing generators, for data that creates one with the first sample if there is
                none. Data that creates one each time replaces it.
        """
        found, holders = self._found()
        for place, (kind, state) in saved.items():
            if place not in found:
                fresh, put_there = made(kind, state), _free(holders, place)
                if absent and fresh is not None and put_there is not None:
                    put_there(fresh)
            elif kind_of(found[place]) == kind:
                put(found[place], state)

    def differing(self, saved: Mapping[str, Any]) -> tuple[list[str], list[str]]:
        """Return the places in ``saved`` that cannot be restored, and the places that are not in ``saved``."""
        found, holders = self._found()
        lost = [
            place
            for place, (kind, state) in saved.items()
            if (
                kind_of(found[place]) != kind
                if place in found
                else _free(holders, place) is None or made(kind, state) is None
            )
        ]
        return lost, [place for place in found if place not in saved]

    def _found(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the generators, and all objects that may hold one, by place; each once, under the nearest place."""
        found: dict[str, Any] = {}
        holders: dict[str, Any] = {str(number): loader for number, loader in enumerate(self._loaders)}
        parts = [*self._loaders, *(one for loader in self._loaders for one in samplers_of(loader))]
        seen = {id(one) for part in parts if _of_torch(part) and (one := getattr(part, "generator", None)) is not None}
        seen |= {id(one) for one in global_generators()}
        queue = deque(holders.items())
        while queue and len(holders) < _MOST:
            place, part = queue.popleft()
            for step, one in _within(part):
                if type(one) in _PLAIN or id(one) in seen:
                    continue
                if type(one) in (list, tuple) and _PLAIN.issuperset(
                    map(type, islice(one, _MOST_ITEMS))
                ):  # such as a batch
                    continue
                seen.add(id(one))
                if kind_of(one) is not None:
                    found[place + step] = one
                elif not issubclass(type(one), (type, ModuleType)):
                    holders[place + step] = one
                    queue.append((place + step, one))
        return found, holders


def _of_torch(part: Any) -> bool:
    return type(part).__module__.startswith(_TORCH_DATA)


def _within(part: Any) -> list[tuple[str, Any]]:
    """Return the parts of ``part``, each with the step that leads to it, without running user code."""
    found: list[tuple[str, Any]] = []
    cls = type(part)
    sequence = next((one for one in (list, tuple) if issubclass(cls, one)), None)
    if sequence is not None:
        found += [(f"[{index}]", one) for index, one in enumerate(islice(sequence.__iter__(part), _MOST_ITEMS))]
    elif issubclass(cls, dict):
        items = islice(dict.items(part), _MOST_ITEMS)
        found += [(f"[{key!r}]", one) for key, one in items if type(key) in (str, int)]
    if cls in (list, tuple, dict):
        return found
    for kind, names in _LOOKED_AT.items():
        if issubclass(cls, kind):
            found += [(f".{name}", getattr(part, name, None)) for name in names]
    if cls is FunctionType:
        pairs = zip(part.__code__.co_freevars, part.__closure__ or (), strict=True)
        return found + [(f".<{name}>", _content(cell)) for name, cell in pairs]
    return found if issubclass(cls, DataLoader) else found + [(f".{key}", one) for key, one in _attributes(part)]


_LOOKED_AT: dict[Any, tuple[str, ...]] = {
    DataLoader: _OF_LOADER,
    partial: ("func", "args", "keywords"),
    MethodType: ("__self__",),
    FunctionType: ("__defaults__", "__kwdefaults__"),
}


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # it is not assigned yet
        return None


def _attributes(part: Any) -> list[tuple[str, Any]]:
    """Return the attributes of ``part`` in an order independent of their creation."""
    kinds = maybe_generators()
    held: dict[str, Any] = {}
    for base in reversed(type(part).__mro__):
        for name, one in vars(base).items():
            if issubclass(type(one), kinds):
                held[name] = one
            elif type(one) is MemberDescriptorType and "__slots__" in vars(base):
                with suppress(AttributeError):  # it is not set
                    held[name] = one.__get__(part)
    held |= {name: one for name, one in dict.items(_dict_of(part)) if type(name) is str}
    return sorted(held.items(), key=itemgetter(0))


def _dict_of(part: Any) -> dict[Any, Any]:
    try:
        held = object.__getattribute__(part, "__dict__")
    except AttributeError:
        return {}
    return held if issubclass(type(held), dict) else {}  # a class has a mapping proxy


def _free(holders: Mapping[str, Any], place: str) -> Callable[[Any], Any] | None:
    """Return a function that sets a generator at ``place``, if the place is empty and can be set."""
    attribute, item = re.fullmatch(r"(.+)\.(\w+)", place), re.fullmatch(r"(.+)\[([^\[\]]+)\]", place)
    if attribute is not None:
        holder = holders.get(attribute[1])
        return None if _of_torch(holder) else _at(_dict_of(holder), attribute[2])
    try:
        return None if item is None else _at(holders.get(item[1]), ast.literal_eval(item[2]))
    except (SyntaxError, ValueError):
        return None


def _at(held: Any, key: Any) -> Callable[[Any], Any] | None:
    free = issubclass(type(held), dict) and dict.get(held, key) is None
    return partial(held.__setitem__, key) if free else None
