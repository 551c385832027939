"""Sends the values of a run to its trackers: the same rows on every backend, and no tracker can stop training."""

from __future__ import annotations

import time
import warnings
from collections import Counter, deque
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from unitrain.callbacks.callback import Callback
from unitrain.loggers.figures import frozen

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from unitrain.context import RunContext
    from unitrain.events import EventHub
    from unitrain.profiling import Clock

_KEPT = 100_000
"""Rows that wait for a tracker that fails; the oldest are dropped, and counted."""

_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 60.0
"""Seconds between two attempts; each failure doubles them."""

_LOSSES = {"log_metrics": "rows", "log_figure": "figures"}
"""What is counted if a tracker does not take it to the end."""


class Tracking(Callback):
    """Logs each n-th optimizer step's batch, each epoch's values and the result of an evaluation to all trackers.

    A row's step is the number of optimizer steps made, and ``epoch`` (from 0) stands beside the values. A step's row
    holds the batch that made the step: its loss and what it logged; the device is waited for only then.

    Args:
        loggers: The trackers.
        every: Optimizer steps between two rows; 0 writes only those of epochs.
    """

    def __init__(self, loggers: Sequence[Any], every: int) -> None:
        self._every = every
        self._outlets = _named_outlets(loggers)
        self._hub: EventHub | None = None
        self.reset_state()

    def reset_state(self) -> None:
        """Forget the runs before."""
        self._begun = self._told = False
        self._rows = 0
        self._step = 0
        self._states: Mapping[str, Any] = {}

    @contextmanager
    def open(self, hub: EventHub, hparams: Mapping[str, Any] | None) -> Iterator[None]:
        """Keep the trackers' runs open. An evaluation goes on with the run of the fit before.

        Args:
            hub: Where the run is.
            hparams: The spec's, told once a run; None of a prediction, which by itself is no run to be tracked.
        """
        self._hub = hub
        hub.trackers = self if self._outlets else None
        for name, outlet in self._outlets.items():
            outlet.open(hub.clock)
            if not self._begun:
                outlet.begin(self._rows, self._states.get(name))
            if hparams and not self._told:
                outlet.send("log_hyperparams", dict(hparams))
        self._begun, self._told = True, self._told or bool(hparams)
        status = "failed"
        try:
            yield
            status = "success"
        finally:
            hub.trackers = None
            for outlet in self._outlets.values():
                outlet.close(status)

    def on_fit_start(self, run: RunContext) -> None:
        """Take note of the steps that an earlier part of the run has made."""
        self._step = run.state.step

    def on_batch_end(self, run: RunContext) -> None:
        """Log the batch, if it made a step that is due."""
        step = run.state.step
        if step == self._step:
            return
        self._step = step
        if self._every and step % self._every == 0 and self._outlets:
            gauges = {name: read() for name, read in run.hub.gauges.items()}
            self.log_metrics({**gauges, **run.batch_values()})

    def on_epoch_end(self, run: RunContext) -> None:
        """Log what the epoch measured."""
        if self._outlets:
            self.log_metrics(run.hub.epoch_metrics)

    def log_metrics(self, values: Mapping[str, float]) -> None:
        """Send one row to all trackers, at the step where the run is."""
        if self._hub is None or not self._outlets:
            return
        state = self._hub.state
        self._rows += 1
        for outlet in self._outlets.values():
            outlet.send("log_metrics", {**values, "epoch": state.epoch}, state.step)

    def log_hyperparams(self, params: Mapping[str, Any]) -> None:
        """Send further hyper-parameters to all trackers."""
        for outlet in self._outlets.values():
            outlet.send("log_hyperparams", dict(params))

    def log_figure(self, name: str, figure: Any) -> None:
        """Send a figure to all trackers that take one, at the step where the run is; warn once of those that do not."""
        if self._hub is None:
            return
        for outlet in self._outlets.values():
            if outlet.takes("log_figure"):
                outlet.send("log_figure", name, figure, self._hub.state.step)

    def state_dict(self) -> dict[str, Any]:
        """Return how many rows were sent, and by what each tracker knows its run again."""
        states = {name: outlet.run_state() for name, outlet in self._outlets.items()}
        return {"rows": self._rows, "trackers": {name: state for name, state in states.items() if state}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on after the rows that were sent, in the trackers' own runs."""
        self._rows = state["rows"]
        self._states = state.get("trackers", {})


def _named_outlets(loggers: Sequence[Any]) -> dict[str, _Outlet]:
    """Return the trackers by class name, for a checkpoint; the second of a class is ``Name#2``."""
    found: dict[str, _Outlet] = {}
    for logger in loggers:
        name = type(logger).__name__
        number = 1 + sum(key.partition("#")[0] == name for key in found)
        found[name if number == 1 else f"{name}#{number}"] = _Outlet(logger)
    return found


class _Outlet:
    """One tracker, and what it has not taken yet."""

    def __init__(self, logger: Any) -> None:
        self._logger = logger
        self._name = type(logger).__name__
        self._waiting: deque[tuple[str, tuple[Any, ...]]] = deque()
        self._lost: Counter[str] = Counter()
        self._open = self._warned = False
        self._refused: set[str] = set()
        self._clock: Clock | None = None
        self._pause = _FIRST_PAUSE
        self._next = 0.0

    def open(self, clock: Clock | None = None) -> None:
        """Take what is sent from now on; ``clock`` measures how long the tracker takes."""
        self._open, self._clock = True, clock

    def begin(self, rows: int, state: Any) -> None:
        """Begin a run; or go on after ``rows`` rows, with what ``run_state`` returned in the earlier part."""
        if state:
            self.send("load_run_state", dict(state))
        self.send("begin", rows)

    def run_state(self) -> dict[str, Any]:
        """Return by what the tracker knows its run again; nothing if it cannot tell."""
        if not hasattr(self._logger, "run_state"):
            return {}
        try:
            return dict(self._logger.run_state())
        except Exception as error:  # noqa: BLE001 - whatever a tracker does, training goes on
            self._warn(error)
            return {}

    def takes(self, method: str) -> bool:
        """Return whether the tracker has ``method``, and warn once if it has not."""
        if hasattr(self._logger, method):
            return True
        if method not in self._refused:
            self._refused.add(method)
            warnings.warn(f"the tracker {self._name} has no {method}(), so it gets none.", stacklevel=2)
        return False

    def send(self, method: str, *arguments: Any) -> None:
        """Hand it over, or keep it until the tracker takes it."""
        if not hasattr(self._logger, method):
            return
        self._waiting.append((method, arguments))
        if len(self._waiting) > _KEPT:
            self._lost[self._waiting.popleft()[0]] += 1
        if time.monotonic() >= self._next:
            self._flush()
        if method == "log_figure" and self._waiting:
            self._keep(*arguments)

    def _keep(self, name: str, figure: Any, step: int) -> None:
        """Let what waits be a picture: the figure may be drawn anew before it is taken."""
        self._waiting.pop()
        try:
            self._waiting.append(("log_figure", (name, frozen(figure), step)))
        except Exception as error:  # noqa: BLE001 - a figure that cannot be drawn
            self._lost["log_figure"] += 1
            self._warn(error)

    def _flush(self) -> None:
        while self._waiting:
            method, arguments = self._waiting[0]
            if not self._call(method, *arguments):
                return
            self._waiting.popleft()

    def _call(self, method: str, *arguments: Any) -> bool:
        try:
            call = getattr(self._logger, method)
            if self._clock is not None:
                call = self._clock.timed(f"tracker {self._name}", call)
            call(*arguments)
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
        if not self._open:
            return
        self._flush()
        self._lost.update(method for method, _ in self._waiting)
        lost = " and ".join(f"{self._lost[method]} {what}" for method, what in _LOSSES.items() if self._lost[method])
        for method, arguments in (("save", ()), ("finalize", (status,))):
            if hasattr(self._logger, method):
                self._call(method, *arguments)
        if lost:
            warnings.warn(f"the tracker {self._name} failed to the end: {lost} were lost.", stacklevel=2)
        self._waiting.clear()
        self._lost.clear()
        self._open = self._warned = False
