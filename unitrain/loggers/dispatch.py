"""Sends the values of a run to its trackers: the same rows on every backend, and no tracker can stop training."""

from __future__ import annotations

import time
import warnings
from collections import deque
from typing import TYPE_CHECKING, Any, Self

from unitrain.callbacks.callback import Callback

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from unitrain.context import RunContext

_KEPT = 100_000
"""Rows that wait for a tracker that fails; the oldest are dropped, and counted."""

_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 60.0
"""Seconds between two attempts; each failure doubles them."""


class Tracking(Callback):
    """Logs each n-th optimizer step's batch, and each epoch's values, to all trackers.

    A row's step is the number of optimizer steps made, and ``epoch`` (from 0) stands beside the values. A step's row
    holds the batch that made the step: its loss and what it logged; the device is waited for only then. As a context
    manager it ends the trackers' runs.

    Args:
        loggers: The trackers.
        every: Optimizer steps between two rows; 0 writes only those of epochs.
    """

    def __init__(self, loggers: Sequence[Any], every: int) -> None:
        self._every = every
        self._outlets = [_Outlet(logger) for logger in loggers]
        self.reset_state()

    def reset_state(self) -> None:
        """Forget the runs before."""
        self._rows = 0
        self._step = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for outlet in self._outlets:
            outlet.close("success" if kind is None else "failed")

    def on_fit_start(self, run: RunContext) -> None:
        """Begin the trackers' runs."""
        self._step = run.state.step
        for outlet in self._outlets:
            outlet.begin(self._rows)
            if run.spec.hparams:
                outlet.send("log_hyperparams", dict(run.spec.hparams))

    def on_batch_end(self, run: RunContext) -> None:
        """Log the batch, if it made a step that is due."""
        step = run.state.step
        if step == self._step:
            return
        self._step = step
        if self._every and step % self._every == 0 and self._outlets:
            gauges = {name: read() for name, read in run.hub.gauges.items()}
            self._send(run, {**gauges, **run.batch_values()})

    def on_epoch_end(self, run: RunContext) -> None:
        """Log what the epoch measured."""
        if self._outlets:
            self._send(run, run.hub.epoch_metrics)

    def _send(self, run: RunContext, values: dict[str, float]) -> None:
        row = {"epoch": run.state.epoch, **values}
        self._rows += 1
        for outlet in self._outlets:
            outlet.send("log_metrics", dict(row), run.state.step)

    def state_dict(self) -> dict[str, Any]:
        """Return how many rows were sent."""
        return {"rows": self._rows}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on after the rows that were sent."""
        self._rows = state["rows"]


class _Outlet:
    """One tracker, and what it has not taken yet."""

    def __init__(self, logger: Any) -> None:
        self._logger = logger
        self._name = type(logger).__name__
        self._waiting: deque[tuple[str, tuple[Any, ...]]] = deque()
        self._lost = 0
        self._begun = self._warned = False
        self._pause = _FIRST_PAUSE
        self._next = 0.0

    def begin(self, rows: int) -> None:
        self._begun = True
        if hasattr(self._logger, "begin"):
            self.send("begin", rows)

    def send(self, method: str, *arguments: Any) -> None:
        """Hand it over, or keep it until the tracker takes it."""
        if not hasattr(self._logger, method):
            return
        self._waiting.append((method, arguments))
        if len(self._waiting) > _KEPT:
            self._waiting.popleft()
            self._lost += 1
        if time.monotonic() >= self._next:
            self._flush()

    def _flush(self) -> None:
        while self._waiting:
            method, arguments = self._waiting[0]
            if not self._call(method, *arguments):
                return
            self._waiting.popleft()

    def _call(self, method: str, *arguments: Any) -> bool:
        try:
            getattr(self._logger, method)(*arguments)
        except Exception as error:  # noqa: BLE001 - whatever a tracker does, training goes on
            self._next = time.monotonic() + self._pause
            self._pause = min(2 * self._pause, _LONGEST_PAUSE)
            self._warn(error)
            return False
        self._pause = _FIRST_PAUSE
        return True

    def _warn(self, error: Exception) -> None:
        if not self._warned:
            self._warned = True
            warnings.warn(
                f"the tracker {self._name} failed: {error!r}. Training goes on; what it did not take is kept and sent"
                " again.",
                stacklevel=2,
            )

    def close(self, status: str) -> None:
        """Send what waits, and end the tracker's run."""
        if not self._begun:
            return
        self._flush()
        lost = self._lost + sum(method == "log_metrics" for method, _ in self._waiting)
        for method, arguments in (("save", ()), ("finalize", (status,))):
            if hasattr(self._logger, method):
                self._call(method, *arguments)
        if lost:
            warnings.warn(f"the tracker {self._name} failed to the end: {lost} rows were lost.", stacklevel=2)
        self._waiting.clear()
        self._lost, self._begun, self._warned = 0, False, False
