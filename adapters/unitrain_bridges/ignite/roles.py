"""Decides whether an engine trains from the calls in its functions."""

from __future__ import annotations

import functools
import inspect
from types import FunctionType, MethodType, ModuleType
from typing import TYPE_CHECKING, Any

from torch.optim import Optimizer

from unitrain_bridges.ignite.bare import held_by, is_a
from unitrain_bridges.ignite.discovery import is_library, named, names_in, references

if TYPE_CHECKING:
    from collections.abc import Iterator

    from unitrain_ignite._compat import Engine

DEPTH = 6
CHAIN = 3
"""The maximum depth of attribute lookups."""

BACKWARD = frozenset({"backward", "manual_backward"})
"""Calls that mark a training function without an optimizer."""


def trains(engine: Engine) -> bool:
    """Return whether an engine's step, or a handler of the user's own, steps an optimizer or calls backward.

    What counts is what the functions name themselves, in their closures, or in the functions and methods that they
    call: an evaluator may well be a method of an object that has an optimizer too.
    """
    if _trains(engine._process_function, set(), 0):  # noqa: SLF001 - there is no public way to it
        return True
    handlers = [one for listed in engine._event_handlers.values() for one, _, _ in listed]  # noqa: SLF001
    return any(_trains(handler, set(), 0, by_optimizer=False) for handler in handlers if _own(handler))


def _own(handler: Any) -> bool:
    """Return whether a handler is a function of the user's, not a part of a library that may keep optimizers."""
    plain = handler.__func__ if is_a(handler, MethodType) else handler
    return is_a(plain, FunctionType) and not is_library(plain.__module__)


def _trains(value: Any, seen: set[int], depth: int, *, by_optimizer: bool = True) -> bool:
    """Return whether a function trains, or one that it calls."""
    if depth > DEPTH or id(value) in seen:
        return False
    seen.add(id(value))
    if is_a(value, functools.partial):
        parts = (value.func, *value.args, *value.keywords.values())
        return any(_trains(part, seen, depth + 1, by_optimizer=by_optimizer) for part in parts)
    if is_a(value, Optimizer):
        return by_optimizer
    function = _function(value)
    if function is None or (depth and is_library(function.__module__)):
        return False
    if BACKWARD.intersection(names_in(function.__code__)):
        return True
    used = list(references(function).values())
    called = [*used, *_named_below(function, [*used, *_owner(value)])]
    return any(_trains(one, seen, depth + 1, by_optimizer=by_optimizer) for one in called)


def _named_below(function: FunctionType, owners: list[Any]) -> list[Any]:
    """Return the objects that the function may reach by its names: ``self.agent.learn`` is two attributes away."""
    found: list[Any] = []
    for _ in range(CHAIN):
        owners = [part for one in owners for part in _attributes(function, one)]
        found += owners
    return found


def _function(value: Any) -> FunctionType | None:
    """Return the function that a callable runs."""
    if is_a(value, FunctionType):
        function: FunctionType = value
        return function
    if is_a(value, MethodType):
        return _function(value.__func__)
    call = inspect.getattr_static(type(value), "__call__", None)
    return call if isinstance(call, FunctionType) and not is_library(type(value).__module__) else None


def _owner(value: Any) -> list[Any]:
    """Return the object whose method, or whose call, a callable is."""
    if is_a(value, MethodType):
        return [value.__self__]
    return [] if is_a(value, FunctionType) else [value]


def _attributes(function: FunctionType, owner: Any) -> Iterator[Any]:
    """Yield the attributes of ``owner`` that the function names, without evaluating properties."""
    if is_a(owner, (type, ModuleType)) or is_library(type(owner).__module__):
        return
    held = named(function, owner)
    yield from (held_by(owner)[name] for name in held)
    for name in set(names_in(function.__code__)) - set(held):
        method = inspect.getattr_static(type(owner), name, None)
        if is_a(method, FunctionType):
            yield MethodType(method, owner)
