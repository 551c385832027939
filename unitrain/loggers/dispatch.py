"""Sends the same rows to all trackers on every backend; a failing tracker never stops training."""

from __future__ import annotations

import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from unitrain.callbacks.callback import Callback
from unitrain.errors import install_hint
from unitrain.loggers.batches import BatchValues
from unitrain.loggers.outlet import Outlet
from unitrain.loggers.preparation import prepare, takes_batches
from unitrain.run.active_runs import used_alone

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from unitrain.metrics.tables import Table
    from unitrain.run.context import RunContext
    from unitrain.run.hub import Event, EventHub


class Tracking(Callback):
    """Logs the batch of every n-th optimizer step, each epoch's values and the results of evaluations to all trackers.

    A row's step is the number of optimizer steps, and ``epoch`` (from 0) is one of its values. A step's row has the
    values of the batch that made the step: its loss and logged values; only then is the device synchronized.

    Args:
        loggers: The trackers.
        every: Number of optimizer steps between two rows; 0 writes only rows of epochs.
    """

    def __init__(self, loggers: Sequence[Any], every: int) -> None:
        self._every = every
        self._outlets = {name: Outlet(one) for name, one in names_of(loggers).items()}
        self._beginning = [one for one in loggers if hasattr(one, "begin") or takes_batches(one)]
        pairs = zip(loggers, self._outlets.values(), strict=True)
        self._batches = BatchValues([(one, outlet) for one, outlet in pairs if takes_batches(one)])
        self._loggers = tuple(loggers)
        self._hub: EventHub | None = None
        self._undrawn: set[str] = set()
        self.reset_state()

    def reset_state(self) -> None:
        """Forget the runs before."""
        self._begun = self._told = False
        self._rows = 0
        self._step = 0
        self._states: Mapping[str, Any] = {}

    @contextmanager
    def open(self, hub: EventHub, hparams: Mapping[str, Any] | None) -> Iterator[None]:
        """Keep the trackers' runs open. An evaluation continues the run of the preceding fit.

        Args:
            hub: The event hub of the run.
            hparams: The spec's hyper-parameters, sent once per run; None for a prediction, which is not tracked on its
                own.

        Raises:
            ConfigError: If a tracker is in use by another run, or refuses to begin.
        """
        status = "failed"
        with used_alone(self._beginning):
            prepare(self._loggers, lambda: (hub.state.step, hub.state.epoch))
            try:
                self._take_up(hub, hparams)
                yield
                status = "success"
            finally:
                hub.trackers = None
                for outlet in self._outlets.values():
                    outlet.close(status)

    def _take_up(self, hub: EventHub, hparams: Mapping[str, Any] | None) -> None:
        self._hub = hub
        hub.trackers = self if self._outlets else None
        for name, outlet in self._outlets.items():
            outlet.open(hub.clock)
            if not self._begun:
                outlet.begin(self._rows, self._states.get(name))
            if hparams and not self._told:
                outlet.send("log_hyperparams", dict(hparams))
        self._begun, self._told = True, self._told or bool(hparams)

    def on_fit_start(self, run: RunContext) -> None:
        """Record the steps of an earlier part of the run."""
        self._step = run.state.step

    def on_batch_end(self, run: RunContext) -> None:
        """Log the batch, if its step is due."""
        step = run.state.step
        if step == self._step:
            return
        self._step = step
        if self._every and step % self._every == 0 and self._outlets:
            gauges = {name: read() for name, read in run.hub.step_metrics.items()}
            self.log_metrics({**gauges, **run.batch_values()})

    def extra_handlers(self) -> Iterable[tuple[Event, Callable[[RunContext], Any]]]:
        """Return the handlers for trackers of batches, if there are any."""
        return self._batches.handlers()

    def on_epoch_end(self, run: RunContext) -> None:
        """Log the epoch's metrics."""
        if self._outlets:
            self.log_metrics(run.hub.epoch_metrics)

    def log_metrics(self, values: Mapping[str, float]) -> None:
        """Send one row to all trackers, at the current step."""
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

    def log_table(self, name: str, table: Table) -> None:
        """Send a figure of a matrix or of curves; warn once if it cannot be drawn, and continue without."""
        takers = [outlet for outlet in self._outlets.values() if outlet.takes("log_figure")]
        metric = name.rpartition("/")[2]
        if not takers or metric in self._undrawn:
            return
        from unitrain.loggers.drawing import can_draw, drawn  # noqa: PLC0415 - only who asks for it pays for it

        if not can_draw():
            self._give_up(metric, "matplotlib is not installed", install_hint("plot"))
            return
        figure = drawn(name, table)
        if figure is None:
            shapes = ", ".join(f"{one}: {tuple(tensor.shape)}" for one, tensor in table.by_name(metric).items())
            self._give_up(metric, f"its shape cannot be drawn ({shapes})", "run.log_figure(name, figure)")
        else:
            self.log_figure(name, figure)

    def _give_up(self, metric: str, why: str, hint: str) -> None:
        self._undrawn.add(metric)
        warnings.warn(
            f"no figure of the metric {metric!r} is sent to trackers: {why}; its values are in run.state.tensors and"
            f" FitResult.tensors.\nHint: {hint}",
            stacklevel=2,
        )

    def log_figure(self, name: str, figure: Any) -> None:
        """Send a figure to all trackers that support figures, at the current step; warn once of those that do not."""
        if self._hub is None:
            return
        for outlet in self._outlets.values():
            if outlet.takes("log_figure"):
                outlet.send("log_figure", name, figure, self._hub.state.step)

    def state_dict(self) -> dict[str, Any]:
        """Return the number of sent rows, and the data by which each tracker finds its run again."""
        states = {name: outlet.run_state() for name, outlet in self._outlets.items()}
        return {"rows": self._rows, "trackers": {name: state for name, state in states.items() if state}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue the trackers' runs after the rows already sent."""
        self._rows = state["rows"]
        self._states = state.get("trackers", {})


def names_of(loggers: Sequence[Any]) -> dict[str, Any]:
    """Return the trackers by class name, as in a checkpoint; the second of a class is ``Name#2``."""
    found: dict[str, Any] = {}
    for logger in loggers:
        name = type(logger).__name__
        number = 1 + sum(key.partition("#")[0] == name for key in found)
        found[name if number == 1 else f"{name}#{number}"] = logger
    return found
