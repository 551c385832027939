"""The structure of a batch: its parts, and copies with replaced tensors.

A container is copied, and then its tensors are replaced in the copy. No constructor runs, so nothing is recomputed;
attributes, default factories and the like are kept. The original is never changed.
"""

from __future__ import annotations

import copy
from collections import UserList
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import is_dataclass
from functools import lru_cache, partial
from types import MemberDescriptorType, SimpleNamespace
from typing import Any, TypeAlias

from torch import Tensor, nn
from torch.utils import _pytree as pytree

Change: TypeAlias = Callable[[Any], Any]

_HEAP_TYPE = 1 << 9  # Py_TPFLAGS_HEAPTYPE: a class that Python code made
_APPLYING = frozenset({"tensordict", "torch_geometric"})


class Mapped:
    """Applies a function to each tensor of a batch; a tensor in two places is mapped once.

    Args:
        change: Called with each tensor and each object that is not a container.
        whole: Called first with each container that is not a plain one; returns ``NotImplemented`` to leave it to this
            class.
    """

    def __init__(self, change: Change, whole: Change | None = None) -> None:
        self._change = change
        self._whole = whole
        self._done: dict[int, tuple[Any, Any]] = {}  # with the original, so that its id stays taken

    def __call__(self, value: Any) -> Any:
        """Return ``value`` with its tensors replaced."""
        cls = type(value)
        if cls is list or cls is tuple:
            return cls([self(item) for item in value])
        if cls is dict:
            return {key: self(item) for key, item in value.items()}
        done = self._done.get(id(value))
        if done is None:
            done = self._done[id(value)] = value, self._changed(value)
        return done[1]

    def _changed(self, value: Any) -> Any:
        if isinstance(value, Tensor):
            return self._change(value)
        if self._whole is not None and (found := self._whole(value)) is not NotImplemented:
            return found
        kind = kind_of(type(value))
        return self._change(value) if kind is None else kind.changed(self, value)

    def reached(self, value: Any, fresh: Any) -> None:
        """Remember ``fresh`` for ``value``, which its own attributes may refer to."""
        self._done[id(value)] = value, fresh


class Kind:
    """A kind of container: here an object by its attributes, with the items of a dictionary or a list."""

    def parts(self, value: Any) -> Iterable[Any]:
        """Return the parts."""
        items = list(_items(value))
        known = {id(item) for item in items}
        return items + [item for _, item in _attributes(value) if id(item) not in known]

    def changed(self, mapped: Mapped, value: Any) -> Any:
        """Return a copy of ``value`` whose parts are ``mapped``."""
        fresh = bare(value)
        mapped.reached(value, fresh)
        base = _base(type(value))
        if issubclass(base, dict):
            for key, item in base.items(value):
                base.__setitem__(fresh, key, mapped(item))
        elif issubclass(base, list):
            base.extend(fresh, [mapped(item) for item in base.__iter__(value)])
        for put, item in _attributes(value):
            put(fresh, mapped(item))
        return fresh


class _Tuple(Kind):
    """A named tuple, a PackedSequence, or another subclass of tuple."""

    def changed(self, mapped: Mapped, value: Any) -> Any:
        items = [mapped(item) for item in tuple.__iter__(value)]
        if all(new is old for new, old in zip(items, tuple.__iter__(value), strict=True)):
            return value
        try:
            fresh = tuple.__new__(type(value), items)
        except TypeError:  # one of C's, as torch.max returns it
            return type(value)(items)
        for put, item in _attributes(value):
            put(fresh, mapped(item))
        return fresh


class _Mapping(Kind):
    """A mapping that is not a dictionary: by its attributes, or, if it stores its items elsewhere, by its items."""

    def parts(self, value: Any) -> Iterable[Any]:
        return list(value.values())

    def changed(self, mapped: Mapped, value: Any) -> Any:
        if any(True for _ in tensors([item for _, item in _attributes(value)])):
            return super().changed(mapped, value)
        items = {key: mapped(item) for key, item in value.items()}
        with suppress(TypeError):  # it has a constructor of its own
            return type(value)(items)
        return items


class _Applying(Kind):
    """A batch of TensorDict or PyTorch Geometric, which calls a function with each of its tensors."""

    def parts(self, value: Any) -> Iterable[Any]:
        return list(value.to_dict().values())

    def changed(self, mapped: Mapped, value: Any) -> Any:
        return copy.copy(value).apply(mapped)


class _Registered(Kind):
    """A registered pytree type."""

    def parts(self, value: Any) -> Iterable[Any]:
        return list(pytree.SUPPORTED_NODES[type(value)].flatten_fn(value)[0])

    def changed(self, mapped: Mapped, value: Any) -> Any:
        node = pytree.SUPPORTED_NODES[type(value)]
        items, context = node.flatten_fn(value)
        return node.unflatten_fn([mapped(item) for item in items], context)


def movable(cls: type) -> bool:
    """Return whether objects of ``cls`` have a ``to()`` of their own."""
    return callable(getattr(cls, "to", None))


_OBJECT = Kind()
_REGISTERED = _Registered()
_KINDS: tuple[tuple[Callable[[type], bool], Kind], ...] = (
    (lambda cls: any(one.__module__.partition(".")[0] in _APPLYING for one in cls.__mro__), _Applying()),
    (lambda cls: issubclass(cls, tuple), _Tuple()),
    (lambda cls: issubclass(cls, (dict, list, UserList, SimpleNamespace)), _OBJECT),
    (lambda cls: is_dataclass(cls) or hasattr(cls, "__attrs_attrs__"), _OBJECT),
    (lambda cls: issubclass(cls, Mapping), _Mapping()),
    (lambda cls: cls in pytree.SUPPORTED_NODES, _REGISTERED),
    (movable, _OBJECT),
)


def kind_of(cls: type) -> Kind | None:
    """Return the kind of container that ``cls`` is, or None."""
    return _kind(cls) or (_REGISTERED if cls in pytree.SUPPORTED_NODES else None)  # it may be registered late


@lru_cache(maxsize=256)
def _kind(cls: type) -> Kind | None:
    if issubclass(cls, (Tensor, nn.Module)):
        return None
    return next((kind for fits, kind in _KINDS if fits(cls)), None)


def tensors(value: Any, _seen: frozenset[int] = frozenset()) -> Iterator[Tensor]:
    """Yield the tensors inside a batch, depth first."""
    if isinstance(value, Tensor):
        yield value
    elif id(value) not in _seen:
        for item in parts(value):
            yield from tensors(item, _seen | {id(value)})


def parts(value: Any) -> Iterable[Any]:
    """Return the parts of a container; nothing for anything else."""
    if type(value) in (list, tuple):
        return value  # type: ignore[no-any-return]
    if type(value) is dict:
        return list(value.values())
    kind = kind_of(type(value))
    return () if kind is None else kind.parts(value)


def bare(value: Any) -> Any:
    """Return a new object of the class of ``value``, without calling a constructor."""
    return _base(type(value)).__new__(type(value))


def _base(cls: type) -> Any:
    """Return the builtin base class of ``cls``."""
    return next(one for one in cls.__mro__ if not one.__flags__ & _HEAP_TYPE)


def _items(value: Any) -> Iterable[Any]:
    base = _base(type(value))
    if issubclass(base, dict):
        return list(base.values(value))
    return list(base.__iter__(value)) if issubclass(base, (list, tuple)) else ()


def _attributes(value: Any) -> Iterator[tuple[Callable[[Any, Any], None], Any]]:
    """Yield a setter that bypasses the class, and the value, of each attribute."""
    cls: type = type(value)
    for member in _members(cls):
        with suppress(AttributeError):  # not set
            yield member.__set__, member.__get__(value)
    for name, item in list(getattr(value, "__dict__", {}).items()):
        yield partial(_put, name), item


def _put(name: str, fresh: Any, item: Any) -> None:
    fresh.__dict__[name] = item


@lru_cache(maxsize=256)
def _members(cls: type) -> list[MemberDescriptorType]:
    """Return the slots of a class, and the default factory of a defaultdict."""
    found = [(name, one) for base in cls.__mro__ for name, one in vars(base).items()]
    return [one for name, one in found if isinstance(one, MemberDescriptorType) and name != "__dict__"]
