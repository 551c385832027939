"""Sends the values of training batches to trackers that take them, in a cadence of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from unitrain.loggers.batch_accuracy import BatchAccuracy, accuracy_in, accuracy_of
from unitrain.loggers.metrics_client import ACCURACY, LOSS, RATE
from unitrain.loggers.outlet import tell
from unitrain.metrics.metric import as_float32
from unitrain.run.hub import Event

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from unitrain.loggers.outlet import Outlet
    from unitrain.run.context import RunContext


class BatchValues:
    """Reads a batch's values where a push is due, and sends them.

    Args:
        clients: The trackers with ``log_batch``, each with its outlet.
    """

    def __init__(self, clients: Sequence[tuple[Any, Outlet]]) -> None:
        self._sends = [(one.every, one.log_batch if one.never_fails else outlet.send_batch) for one, outlet in clients]
        self._accuracy: BatchAccuracy | None = None
        self._pair: tuple[Any, Any] | None = None
        self._optimizer: Any = None
        self._read: Callable[[Any], float] | None = None
        self._due: list[Callable[[dict[str, float], int], None]] = []
        self._rate = 0.0
        self._told = False

    def handlers(self) -> Iterable[tuple[Event, Callable[[RunContext], object]]]:
        """Return the handlers, none if there are no clients."""
        if self._sends:
            yield Event.FIT_START, self.fit_start
            yield Event.BATCH_START, self.batch_start
            yield Event.BATCH_END, self.batch_end

    def fit_start(self, run: RunContext) -> None:
        """Find what measures the accuracy of a batch."""
        self._accuracy = accuracy_of(run.spec.metrics or {}, run.team)
        self._pair, self._told = None, False
        run.hub.batch_output = None if self._accuracy is None else self._keep
        self._read = None  # each fit may have another precision
        self._optimizer = next(iter(run.optimizers.values()))

    def batch_start(self, run: RunContext) -> None:
        """Remember the learning rate: at the end of the batch, a schedule has changed it."""
        batch = run.state.batch + 1
        self._due = [send for every, send in self._sends if batch % every == 0]
        if self._due:
            self._rate = float(self._optimizer.param_groups[0]["lr"])

    def _keep(self, output: Any, target: Any) -> None:
        if self._due:
            self._pair = (output, target)

    def batch_end(self, run: RunContext) -> None:
        """Send the batch's values, if it is due."""
        if self._due:
            values = self._values(run)
            for send in self._due:
                send(values, run.state.step)

    def _values(self, run: RunContext) -> dict[str, float]:
        found, loss, pair = {}, run.state.loss, self._pair
        if loss is not None:
            if self._read is None:
                self._read = torch.Tensor.item if loss.dtype is torch.float32 else as_float32
            found[LOSS] = self._read(loss)
        if pair is not None:
            accuracy, self._pair = self._measured(*pair), None
        else:
            logged = run.logged_values()
            accuracy = accuracy_in(logged) if logged else None
        if accuracy is not None:
            found[ACCURACY] = accuracy
        found[RATE] = self._rate
        return found

    def _measured(self, output: Any, target: Any) -> float | None:
        """Return the accuracy of a batch; None if the metric cannot measure it, which does not stop training."""
        try:
            return None if self._accuracy is None else self._accuracy(output, target)
        except Exception as error:  # noqa: BLE001 - whatever a metric does, training continues
            if not self._told:
                self._told = True
                tell(f"the accuracy of a batch could not be measured: {error!r}. Training continues without it.")
            return None


def first_rate(optimizers: Iterable[Any]) -> float | None:
    """Return the learning rate of the first group of the first optimizer."""
    return next((float(one.param_groups[0]["lr"]) for one in optimizers), None)
