"""Event filters."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from unitrain.errors import SpecError

EventFilter: TypeAlias = "Callable[[Any, int], bool]"
"""Takes the ``RunContext`` and the number of the occurrence, from 1."""


def predicate(
    every: int | None,
    once: int | Sequence[int] | None,
    before: int | None,
    after: int | None,
    event_filter: EventFilter | None,
) -> EventFilter:
    """Return the predicate for the arguments of a filter.

    Raises:
        SpecError: If nothing is given, a number is below 1, or exclusive filters are mixed.
    """
    ranged = not (every is None and before is None and after is None)
    if (event_filter is not None) + (once is not None) + ranged != 1:
        raise SpecError(
            "An event filter takes one of event_filter=, once=, or every=/before=/after= together;"
            f" got {_given(every=every, once=once, before=before, after=after, event_filter=event_filter)}.",
            hint="Event.EPOCH_END(every=2, after=4)",
        )
    if event_filter is not None:
        if not callable(event_filter) or not fits(event_filter, None, 1):
            raise SpecError(
                f"event_filter must be callable as (run, count) -> bool, got {event_filter!r}.",
                hint="Event.BATCH_END(event_filter=lambda run, count: count % 10 == 0)",
            )
        return event_filter
    if once is not None:
        return _Once(frozenset(_counts("once", once)))
    (step,) = _counts("every", 1 if every is None else every)
    if before is None and after is None:
        return _Every(step)
    (low,) = _counts("after", 0 if after is None else after, least=0)
    (high,) = _counts("before", _NEVER if before is None else before, least=0)
    return _Within(low, high, step)


_NEVER = 2**62


# These are classes since a trigger is sent to other processes, and a local function cannot be.


@dataclass(frozen=True)
class _Once:
    wanted: frozenset[int]

    def __call__(self, _: object, count: int) -> bool:
        return count in self.wanted


@dataclass(frozen=True)
class _Every:
    step: int

    def __call__(self, _: object, count: int) -> bool:
        return count % self.step == 0


@dataclass(frozen=True)
class _Within:
    """As in Ignite, a range starts with its first occurrence: every=2, after=4 means 5, 7, 9, ..."""

    low: int
    high: int
    step: int

    def __call__(self, _: object, count: int) -> bool:
        return self.low < count < self.high and (count - self.low - 1) % self.step == 0


def _counts(name: str, value: int | Sequence[int], least: int = 1) -> tuple[int, ...]:
    values = tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else (value,)
    if not values or any(not isinstance(n, int) or isinstance(n, bool) or n < least for n in values):
        raise SpecError(
            f"{name} must be an integer of at least {least}, got {value!r}.", hint="occurrences are counted from 1."
        )
    return values


def _given(**arguments: Any) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in arguments.items() if value is not None) or "nothing"


def fits(function: Callable[..., Any], *args: object) -> bool:
    """Return whether ``function`` can be called with ``args``."""
    try:
        return binds(inspect.signature(function), *args)
    except TypeError:
        return False
    except ValueError:  # some builtins have no signature
        return bool(args)


def binds(signature: inspect.Signature, *args: object) -> bool:
    """Return whether what has ``signature`` can be called with ``args``."""
    try:
        signature.bind(*args)
    except TypeError:
        return False
    return True
