"""Keeps the metrics of each epoch."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from unitrain.callbacks.callback import Callback
from unitrain.callbacks.lr_monitor import rates
from unitrain.reports.run.facts import EpochLog

if TYPE_CHECKING:
    from unitrain.run.context import RunContext


class History(Callback):
    """Writes one row per epoch; it becomes ``FitResult.history``.

    Attributes:
        rows: ``epoch``, ``step`` and what the epoch measured.
        log: The times and learning rates of each epoch, for reports. It is not resumed.
    """

    def __init__(self) -> None:
        self.rows: list[dict[str, float]] = []
        self.log = EpochLog(time.perf_counter())
        self._epoch_began: tuple[float, int] | None = None

    def on_epoch_start(self, run: RunContext) -> None:
        """Note what the epoch begins with."""
        self._epoch_began = (time.perf_counter(), run.state.step)
        self.log.rates_at(run.state.epoch, rates(run))

    def on_epoch_end(self, run: RunContext) -> None:
        """Write the epoch's row."""
        state = run.state
        self.rows.append({"epoch": state.epoch, "step": state.step, **run.hub.epoch_metrics})
        if self._epoch_began is not None:
            began, step = self._epoch_began
            self.log.times.extend((state.epoch, state.step - step, time.perf_counter() - began))

    def state_dict(self) -> dict[str, Any]:
        """Return the rows."""
        return {"rows": [dict(row) for row in self.rows]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state returned by ``state_dict``."""
        self.rows = [dict(row) for row in state["rows"]]
