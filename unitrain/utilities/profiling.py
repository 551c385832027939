"""A time profile of a run, with the same parts on every backend."""

from __future__ import annotations

import functools
import time
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from inspect import ismethod
from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypeVar

from unitrain.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

P = ParamSpec("P")
T = TypeVar("T")

SIMPLE: Final = "simple"
MOVE, STEP, BACKWARD, OPTIMIZER = "move to device", "training step", "backward", "optimizer step"
VALIDATION, CHECKPOINT = "validation", "write checkpoint"

WIDTH = 100
"""The maximum width of the table."""

_HEADER = ("part", "calls", "mean ms", "total s", "% of run")
_OF_EVERY_RUN = frozenset(
    {
        "unitrain.callbacks.history",
        "unitrain.loggers.dispatch",
        "unitrain.session.run_scope",
        "unitrain.session.signals",
    }
)
"""Modules whose handlers are internal; trackers are measured separately."""

_MILLI, _PERCENT = 1e3, 100.0


def load(stage: str) -> str:
    """Return the part for loading a batch of a stage."""
    return f"load {stage} batch"


def evaluated(stage: str) -> str:
    """Return the part for a batch of an evaluation."""
    return f"{stage} step"


@dataclass(frozen=True)
class ProfileRow:
    """One part of a run.

    Attributes:
        part: Name of the part.
        calls: Number of calls.
        seconds: Total time, in seconds.
    """

    part: str
    calls: int
    seconds: float


@dataclass(frozen=True)
class Profile:
    """The time profile of a run; ``str()`` is a table of at most 100 columns.

    Parts and calls are the same on every backend. Times are measured on the host: a GPU may still be working when the
    next part begins. Nested parts count in both: in manual optimization the training step includes the whole step, the
    validation includes its batches, and a handler everything that it calls.

    Attributes:
        rows: The parts in the order of a step, then handlers and trackers by name.
        total: Duration of the run, in seconds.
    """

    rows: tuple[ProfileRow, ...]
    total: float

    def __str__(self) -> str:
        """Return the table."""
        cells = [_HEADER, *(_cells(row, self.total) for row in self.rows)]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        widths[0] = min(widths[0], WIDTH - sum(widths[1:]) - 2 * len(widths[1:]))
        lines = ["  ".join(_placed(row, widths)) for row in cells]
        lines.insert(1, "-" * len(lines[0]))
        return "\n".join([*lines, f"the run took {self.total:.3f} s"])


def _cells(row: ProfileRow, total: float) -> tuple[str, ...]:
    mean = _MILLI * row.seconds / row.calls
    return row.part, f"{row.calls:,}", f"{mean:.3f}", f"{row.seconds:.3f}", f"{_PERCENT * row.seconds / total:.1f}"


def _placed(row: tuple[str, ...], widths: list[int]) -> Iterator[str]:
    part = row[0] if len(row[0]) <= widths[0] else f"{row[0][: widths[0] - 1]}…"
    yield part.ljust(widths[0])
    for cell, width in zip(row[1:], widths[1:], strict=True):
        yield cell.rjust(width)


class Clock:
    """Measures the parts of the current run."""

    def __init__(self) -> None:
        self._began = time.perf_counter()
        self._calls: dict[str, int] = {}
        self._seconds: dict[str, float] = {}

    def add(self, part: str, began: float) -> None:
        """Record a part that began at ``began`` and ends now."""
        self._calls[part] = self._calls.get(part, 0) + 1
        self._seconds[part] = self._seconds.get(part, 0.0) + time.perf_counter() - began

    @contextmanager
    def measure(self, part: str) -> Iterator[None]:
        """Measure the block, even if it raises."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.add(part, began)

    def timed(self, part: str, function: Callable[P, T]) -> Callable[P, T]:
        """Return ``function``, measured."""

        @functools.wraps(function)
        def measured(*args: P.args, **kwargs: P.kwargs) -> T:
            with self.measure(part):
                return function(*args, **kwargs)

        return measured

    def reading(self, part: str, iterator: Iterator[T]) -> Iterator[T]:
        """Yield what ``iterator`` yields, and measure how long each takes; its end does not count as a call."""
        end: Any = object()
        while True:
            began = time.perf_counter()
            item = next(iterator, end)
            if item is end:
                return
            self.add(part, began)
            yield item

    def handle(self, handler: Any, call: Callable[[Any], object], run: Any) -> None:
        """Call a handler, measured under its name unless every run has it."""
        owner = getattr(handler, "__self__", handler)
        if getattr(owner, "__module__", "") in _OF_EVERY_RUN:
            call(run)
            return
        with self.measure(f"handler {handler_name(handler)}"):
            call(run)

    def report(self) -> Profile:
        """Return the profile so far."""
        total = time.perf_counter() - self._began
        parts = sorted(self._calls, key=_order)
        return Profile(tuple(ProfileRow(one, self._calls[one], self._seconds[one]) for one in parts), total)


_PARTS = (load("train"), MOVE, STEP, BACKWARD, OPTIMIZER, VALIDATION, load("val"), evaluated("val"), CHECKPOINT)
_FIRST = {part: index for index, part in enumerate(_PARTS)}


def _order(part: str) -> tuple[int, str]:
    return _FIRST.get(part, len(_FIRST)), part


def handler_name(handler: Any) -> str:
    """Return the name of a handler: ``Class.method`` of a callback, a function's own, or its class."""
    handler = getattr(handler, "func", handler)  # of a partial
    if ismethod(handler) and not isinstance(handler.__self__, type):
        return f"{type(handler.__self__).__name__}.{handler.__name__}"
    name: str = getattr(handler, "__qualname__", type(handler).__qualname__)
    return name.rpartition("<locals>.")[2]


def measured(clock: Clock | None, part: str) -> AbstractContextManager[None]:
    """Measure the block, if a clock is given."""
    return nullcontext() if clock is None else clock.measure(part)


def is_profiler(value: Any) -> bool:
    """Return whether ``value`` is used as a ``torch.profiler.profile``: started, stepped and stopped."""
    return not isinstance(value, type) and all(
        callable(getattr(value, name, None)) for name in ("start", "step", "stop")
    )


def made_profiler(given: Any) -> Any:
    """Return the given profiler, or the one that the factory creates.

    Raises:
        ConfigError: If the factory returns something else.
    """
    if is_profiler(given):
        return given
    made = given()
    if is_profiler(made):
        return made
    raise ConfigError(
        f"profiler={given!r} returned {made!r}, which lacks start(), step() and stop().",
        hint="profiler=lambda: torch.profiler.profile(...)",
    )
