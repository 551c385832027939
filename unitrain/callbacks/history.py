"""Keeps the metrics of each epoch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from unitrain.callbacks.callback import Callback

if TYPE_CHECKING:
    from unitrain.run.context import RunContext


class History(Callback):
    """Writes one row per epoch; it becomes ``FitResult.history``.

    Attributes:
        rows: ``epoch``, ``step`` and what the epoch measured.
    """

    def __init__(self) -> None:
        self.rows: list[dict[str, float]] = []

    def on_epoch_end(self, run: RunContext) -> None:
        """Write the epoch's row."""
        self.rows.append({"epoch": run.state.epoch, "step": run.state.step, **run.hub.epoch_metrics})

    def state_dict(self) -> dict[str, Any]:
        """Return the rows."""
        return {"rows": [dict(row) for row in self.rows]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state returned by ``state_dict``."""
        self.rows = [dict(row) for row in state["rows"]]
