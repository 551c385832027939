"""Sends the values of a LightningModule's batches to trackers that take them, on Lightning and elsewhere."""

# ruff: noqa: SLF001 - what a Trainer keeps has Lightning's private names

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from unitrain.loggers.batch_accuracy import accuracy_in
from unitrain.loggers.batches import first_rate
from unitrain.loggers.metrics_client import ACCURACY, LOSS, RATE
from unitrain.loggers.outlet import Outlet
from unitrain.loggers.preparation import prepare, takes_batches
from unitrain.metrics.metric import as_float32, is_number
from unitrain_lightning.namespace import OnLightning

if TYPE_CHECKING:
    from collections.abc import Sequence

    from unitrain_bridges.lightning.namespace import Parts

_LOSSES = ("loss", "train_loss", "train/loss")
"""Names under which a module logs its loss; manual optimization need not return it."""


def batch_values(parts: Parts, loggers: Sequence[Any]) -> list[Any]:
    """Return a Lightning callback for the trackers of batches among ``loggers``; none without any."""
    clients = [one for one in loggers if takes_batches(one)]
    return [parts.made(BatchCallback)(clients)] if clients else []


class BatchCallback(OnLightning):
    """Sends each batch's values, on rank 0.

    Args:
        clients: The trackers of batches.
    """

    stands_on = "Callback"

    def __init__(self, clients: Sequence[Any]) -> None:
        super().__init__()
        self._clients = [(one, Outlet(one)) for one in clients]
        self._due = False
        self._now = 0, 0
        self._rate: float | None = None

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:  # noqa: ARG002 - Lightning's signature, so below
        """Begin a run, unless a tracker refuses it."""
        if not trainer.is_global_zero:
            return
        self._now = trainer.global_step, trainer.current_epoch
        prepare((one for one, _ in self._clients), lambda: self._now)
        for _, outlet in self._clients:
            outlet.open()
            outlet.begin(0, None)

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:  # noqa: ARG002
        """Remember the learning rate: at the end of the batch, a schedule has changed it."""
        number = trainer.fit_loop.epoch_loop.total_batch_idx + 1
        self._due = trainer.is_global_zero and any(number % client.every == 0 for client, _ in self._clients)
        self._now = trainer.global_step, trainer.current_epoch
        if self._due:
            self._rate = first_rate(trainer.optimizers)

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:  # noqa: ARG002
        """Send the values, if they are due."""
        self._now = trainer.global_step, trainer.current_epoch  # after the last batch, Lightning counts an epoch more
        if not self._due:
            return
        number = trainer.fit_loop.epoch_loop.total_batch_idx + 1
        values = self._values(trainer, outputs if isinstance(outputs, Mapping) else {"loss": outputs})
        for client, outlet in self._clients:
            if number % client.every == 0:
                outlet.send("log_batch", values, trainer.global_step)

    def _values(self, trainer: Any, outputs: Mapping[str, Any]) -> dict[str, float]:
        logged = trainer.fit_loop.epoch_loop._results.metrics(True)["callback"]  # of this batch, not of the epoch
        named = (logged.get(one) for name in _LOSSES for one in (f"{name}_step", name))
        loss = next((one for one in (outputs.get("loss"), *named) if is_number(one)), None)
        returned = accuracy_in(outputs)
        found = {
            LOSS: None if loss is None else as_float32(loss),
            ACCURACY: accuracy_in(logged) if returned is None else returned,
            RATE: self._rate,
        }
        return {name: value for name, value in found.items() if value is not None}

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:  # noqa: ARG002
        """End the run as failed."""
        self._close("failed")

    def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:  # noqa: ARG002
        """End the run."""
        self._close("success")

    def _close(self, status: str) -> None:
        for _, outlet in self._clients:
            outlet.close(status)
