"""Does an engine train? Told from what its functions call, before it runs."""

from __future__ import annotations

import functools
import inspect
from types import CodeType, FunctionType, MethodType
from typing import TYPE_CHECKING, Any

from torch.optim import Optimizer

from unitrain_bridges.ignite.found import references

if TYPE_CHECKING:
    from collections.abc import Iterator

    from unitrain_ignite._compat import Engine

DEPTH = 6
BACKWARD = frozenset({"backward", "manual_backward"})
"""What a function that trains calls, if it has no optimizer at hand."""

_LIBRARIES = ("torch", "ignite", "pytorch_lightning", "lightning")


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
    plain = handler.__func__ if isinstance(handler, MethodType) else handler
    return isinstance(plain, FunctionType) and not _library(plain)


def _library(function: FunctionType) -> bool:
    return (function.__module__ or "").partition(".")[0] in _LIBRARIES


def _trains(value: Any, seen: set[int], depth: int, *, by_optimizer: bool = True) -> bool:
    """Return whether a function trains, or one that it calls."""
    if depth > DEPTH or id(value) in seen:
        return False
    seen.add(id(value))
    if isinstance(value, functools.partial):
        parts = (value.func, *value.args, *value.keywords.values())
        return any(_trains(part, seen, depth + 1, by_optimizer=by_optimizer) for part in parts)
    if isinstance(value, Optimizer):
        return by_optimizer
    function, owner = _unbound(value)
    if function is None or (depth and _library(function)):
        return False
    names = set(_names(function.__code__))
    if names & BACKWARD:
        return True
    called = [*references(function).values(), *_attributes(owner, names)]
    return any(_trains(one, seen, depth + 1, by_optimizer=by_optimizer) for one in called)


def _unbound(value: Any) -> tuple[FunctionType | None, Any]:
    """Return the function that a callable runs, and the object it is bound to."""
    if isinstance(value, FunctionType):
        return value, None
    if isinstance(value, MethodType):
        return _unbound(value.__func__)[0], value.__self__
    call = inspect.getattr_static(type(value), "__call__", None)
    if isinstance(call, FunctionType) and (type(value).__module__ or "").partition(".")[0] not in _LIBRARIES:
        return call, value
    return None, None


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            yield from _names(inner)


def _attributes(owner: Any, names: set[str]) -> Iterator[Any]:
    """Yield the attributes of ``owner`` that its function names; no property is asked."""
    if owner is None:
        return
    held = getattr(owner, "__dict__", {})
    for name in sorted(names):
        if name in held:
            yield held[name]
        else:
            method = getattr(type(owner), name, None)
            if isinstance(method, FunctionType):
                yield MethodType(method, owner)
