"""Logs the learning rates."""

from __future__ import annotations

from typing import TYPE_CHECKING

from unitrain.callbacks.callback import Callback

if TYPE_CHECKING:
    from unitrain.run.context import RunContext


class LRMonitor(Callback):
    """Logs each learning rate as ``lr/<optimizer>``, or ``lr/<optimizer>-pg1``, ``-pg2`` for its parameter groups.

    An epoch's value is the rate that it starts with, as in Lightning's ``LearningRateMonitor``. A tracker's row of a
    step shows the rate with which the step's batch began. A single optimizer is called ``optimizer``.

    Example:
        >>> trainer = UnifiedTrainer("reference", callbacks=[LRMonitor()], loggers=[CSVLogger("runs")])
    """

    def __init__(self) -> None:
        self._rates: dict[str, float] = {}

    def on_fit_start(self, run: RunContext) -> None:
        """Offer the rates to trackers."""
        self._rates = rates(run)
        for name in self._rates:
            run.hub.step_metrics[name] = lambda name=name: self._rates[name]  # type: ignore[misc]

    def on_epoch_start(self, run: RunContext) -> None:
        """Log the rates of the epoch."""
        run.hub.publish(rates(run))

    def on_batch_start(self, run: RunContext) -> None:
        """Remember the rates: at the end of the batch, a schedule has changed them."""
        every = run.config.log_every_n_steps if run.config.loggers else 0
        if every and (run.state.step + 1) % every == 0:  # else no row of a step follows
            self._rates = rates(run)


def rates(run: RunContext) -> dict[str, float]:
    """Return the learning rates as they are, by name."""
    found = {}
    for name, optimizer in run.optimizers.items():
        groups = optimizer.param_groups
        for number, group in enumerate(groups, 1):
            found[f"lr/{name}-pg{number}" if len(groups) > 1 else f"lr/{name}"] = float(group["lr"])
    return found
