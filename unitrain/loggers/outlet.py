"""The queue of one tracker: rows wait during an outage, and a rejected value is dropped."""

from __future__ import annotations

import math
import time
import warnings
from collections import Counter, deque
from contextlib import contextmanager
from numbers import Real
from typing import TYPE_CHECKING, Any

from unitrain.loggers.figures import frozen

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from unitrain.utilities.profiling import Clock

_KEPT = 100_000
"""The maximum number of rows queued for a failing tracker; the oldest are dropped and counted."""

_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 60.0
"""Seconds between retries; doubled after each failure."""

_LOSSES = {
    "log_metrics": "rows",
    "log_batch": "batches' values",
    "log_figure": "figures",
    "log_hyperparams": "sets of hyper-parameters",
}
"""Labels for reporting lost values."""

_NAMED = ("log_metrics", "log_batch", "log_hyperparams")
"""Methods whose first argument is a mapping from which a single value can be dropped."""

_REFUSING = frozenset({400, 409, 413, 422})
"""HTTP status codes that are not worth a retry."""


class Outlet:
    """Sends rows to one tracker, in order, and keeps those that it cannot accept at the moment.

    After a temporary error (connection, timeout, full disk, server error), everything is kept and sent again. A refusal
    (ValueError, TypeError, a status such as 400) would recur: the refused value is found and dropped with one warning,
    and the rest of the row is sent. Other errors count as temporary until the run ends, then as refusals.

    Args:
        logger: The tracker.
    """

    def __init__(self, logger: Any) -> None:
        self._logger = logger
        self._name = type(logger).__name__
        self._waiting: deque[tuple[str, tuple[Any, ...]]] = deque()
        self._lost: Counter[str] = Counter()
        self._open = self._warned = self._last = self._hopeless = False
        self._without: set[str] = set()
        self._told: set[tuple[str, str]] = set()
        self._refused: dict[str, set[str]] = {method: set() for method in _NAMED}
        self._clock: Clock | None = None
        self._pause = _FIRST_PAUSE
        self._next = 0.0

    def open(self, clock: Clock | None = None) -> None:
        """Start sending; ``clock`` measures the tracker's time."""
        self._open, self._clock = True, clock

    def begin(self, rows: int, state: Any) -> None:
        """Begin a run, or continue after ``rows`` rows, with the ``run_state`` of the earlier part."""
        if state:
            self.send("load_run_state", dict(state))
        self.send("begin", rows)

    def run_state(self) -> dict[str, Any]:
        """Return the data by which the tracker finds its run again, if any."""
        if not hasattr(self._logger, "run_state"):
            return {}
        try:
            return dict(self._logger.run_state())
        except Exception as error:  # noqa: BLE001 - whatever a tracker does, training continues
            self._warn(error)
            return {}

    def takes(self, method: str) -> bool:
        """Return whether the tracker has ``method``; warn once if not."""
        if hasattr(self._logger, method):
            return True
        if method not in self._without:
            self._without.add(method)
            tell(f"the tracker {self._name} has no {method}(), so none are sent.")
        return False

    def send(self, method: str, *arguments: Any) -> None:
        """Send it, or keep it until the tracker accepts it."""
        if not hasattr(self._logger, method):
            return
        self._waiting.append((method, arguments))
        if len(self._waiting) > _KEPT:
            self._lost[self._waiting.popleft()[0]] += 1
        if time.monotonic() >= self._next:
            self._flush()
        if method == "log_figure" and self._waiting:
            self._keep(*arguments)

    def send_batch(self, values: Mapping[str, float], step: int) -> None:
        """Send the values of one batch."""
        self.send("log_batch", values, step)

    def _keep(self, name: str, figure: Any, step: int) -> None:
        """Store a waiting figure as an image, because it may be redrawn before it is sent."""
        self._waiting.pop()
        try:
            self._waiting.append(("log_figure", (name, frozen(figure), step)))
        except Exception as error:  # noqa: BLE001 - a figure that cannot be drawn
            self._lost["log_figure"] += 1
            self._warn(error)

    def _flush(self) -> None:
        while self._waiting:
            method, arguments = self._waiting[0]
            if not self._take(method, *arguments):
                return
            self._waiting.popleft()

    def _take(self, method: str, *arguments: Any) -> bool:
        """Send one item, without refused values; return False if it must wait."""
        if method in _NAMED:
            values, *rest = arguments
            known = self._refused[method]
            left = {name: value for name, value in values.items() if name not in known}
            if values and not left:
                return True
            arguments = (left, *rest)
        error = self._call(method, *arguments)
        if error is None:
            self._hopeless, self._pause = False, _FIRST_PAUSE
            return True
        if self._passes(error):
            return self._wait(error)
        if method in _NAMED and not self._hopeless:
            return self._sift(method, error, *arguments)
        return self._drop(method, error)

    def _wait(self, error: Exception) -> bool:
        self._next = time.monotonic() + self._pause
        self._pause = min(2 * self._pause, _LONGEST_PAUSE)
        self._warn(error)
        return False

    def _drop(self, method: str, error: Exception) -> bool:
        if method not in _LOSSES:  # a run that could not begin: there is nothing to be sent to
            return self._wait(error)
        self._lost[method] += 1
        if not self._warned:
            self._warned = True
            tell(f"the tracker {self._name} refused {_LOSSES[method]}: {error!r}. Training continues; others are sent.")
        return True

    def _sift(self, method: str, error: Exception, values: Mapping[str, Any], *rest: Any) -> bool:
        """Find the refused values of a row: omit one, then all similar ones, then send each alone.

        Returns:
            Whether the row is done; False if it must wait.
        """
        odd = [name for name in sorted(values, key=_plain) if not _plain(name)]
        for left_out in [*([name] for name in sorted(values, key=_plain)), odd, list(values)]:
            others = {name: value for name, value in values.items() if name not in left_out}
            second = self._call(method, others, *rest) if others else None
            if second is None:
                return self._alone(method, error, {name: values[name] for name in left_out}, *rest, whole=not others)
            if self._passes(second):
                return self._wait(second)
        return self._drop(method, error)

    def _alone(self, method: str, error: Exception, values: Mapping[str, Any], *rest: Any, whole: bool) -> bool:
        """Send values separately after the rest of their row; a single one is known to be refused."""
        single = len(values) == 1 and not whole
        errors = {name: error if single else self._call(method, {name: one}, *rest) for name, one in values.items()}
        passing = next((one for one in errors.values() if one is not None and self._passes(one)), None)
        if passing is not None:
            return self._wait(passing)
        if whole and all(errors.values()):
            self._hopeless = True  # not for a value of its own: the next row is not taken apart
            return self._drop(method, error)
        for name, one in errors.items():
            if one is not None:
                self._leave_out(method, name, values[name], one)
        return True

    def _passes(self, error: Exception) -> bool:
        """Return whether a later attempt may succeed."""
        return isinstance(error, OSError) or not (self._last or is_refusal(error))

    def _leave_out(self, method: str, name: str, value: Any, error: Exception) -> None:
        if not isinstance(value, Real) or math.isfinite(value):  # else another value of that name may be taken
            self._refused[method].add(name)
        if (method, name) not in self._told:
            self._told.add((method, name))
            tell(
                f"the tracker {self._name} refused the value {name!r}: {error!r}. Training continues, and everything"
                f" else is sent."
            )

    def _call(self, method: str, *arguments: Any) -> Exception | None:
        """Call the tracker, and return its error, if any; a warning is not one, even where warnings are errors."""
        try:
            with _warnings_are_none():
                call = getattr(self._logger, method)
                if self._clock is not None:
                    call = self._clock.timed(f"tracker {self._name}", call)
                call(*arguments)
        except Exception as error:  # noqa: BLE001 - whatever a tracker does, training continues
            return error
        return None

    def _warn(self, error: Exception) -> None:
        if not self._warned:
            self._warned = True
            tell(f"the tracker {self._name} failed: {error!r}. Training continues; unsent rows are kept and retried.")

    def close(self, status: str) -> None:
        """Send waiting rows, and end the tracker's run."""
        if not self._open:
            return
        self._last = True
        self._flush()
        self._last = False
        self._lost.update(method for method, _ in self._waiting)
        lost = " and ".join(f"{self._lost[method]} {what}" for method, what in _LOSSES.items() if self._lost[method])
        for method, arguments in (("save", ()), ("finalize", (status,))):
            if hasattr(self._logger, method) and (error := self._call(method, *arguments)) is not None:
                self._wait(error)
        if lost:
            tell(f"the tracker {self._name} failed and never recovered: {lost} were lost.")
        self._waiting.clear()
        self._lost.clear()
        self._open = self._warned = self._hopeless = False


def is_refusal(error: Exception) -> bool:
    """Return whether a later attempt would also fail, because of the values rather than the connection or server."""
    if isinstance(error, OSError):  # a connection, a timeout, a disk; requests' own errors too
        return False
    return isinstance(error, (ValueError, TypeError)) or _status(error) in _REFUSING


def _status(error: Exception) -> int | None:
    """Return the HTTP status of an error, such as one of MLflow, requests, httpx or W&B."""
    ask = getattr(error, "get_http_status_code", None)
    found = ask() if callable(ask) else getattr(error, "status_code", None)
    found = getattr(getattr(error, "response", None), "status_code", None) if found is None else found
    return found if isinstance(found, int) else None


def _plain(name: Any) -> bool:
    """Sort likely refused values first: names with characters that most libraries reject."""
    return all(one.isalnum() or one in "_-./ " for one in str(name))


@contextmanager
def _warnings_are_none() -> Iterator[None]:
    """Show a warning of a tracker where it would be raised: it is not a failure, and training continues."""
    if not any(action == "error" for action, *_ in warnings.filters):
        yield
        return
    with warnings.catch_warnings():
        shown = [("always", *rest) if action == "error" else (action, *rest) for action, *rest in warnings.filters]
        warnings.filters[:] = shown  # type: ignore[index]
        yield


def tell(message: str) -> None:
    """Warn; if warnings are errors, only show the warning, so that no tracker ends a fit."""
    with _warnings_are_none():
        warnings.warn(message, stacklevel=3)
