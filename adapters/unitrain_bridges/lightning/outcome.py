"""The result of a LightningModule's fit, read from a Trainer or its stand-in."""

# ruff: noqa: SLF001 - what a Trainer keeps has Lightning's private names

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from unitrain.run.result import FitResult
from unitrain_lightning.namespace import OnLightning
from unitrain_lightning.stopping import why_stopped

if TYPE_CHECKING:
    from collections.abc import Mapping

    from unitrain_bridges.lightning.namespace import Parts


def recorder(parts: Parts) -> Any:
    """Return a callback that keeps the metrics of each epoch."""
    return parts.made(EpochRecorder)()


class EpochRecorder(OnLightning):
    """Keeps one row per epoch.

    An epoch's values are complete when the next one begins, or the fit ends. A value that was not measured again is
    the same object as before, and belongs to an earlier row.

    Attributes:
        rows: One dict an epoch: ``epoch``, ``step`` and what that epoch measured.
    """

    stands_on = "Callback"

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[dict[str, float]] = []
        self._seen: dict[str, Any] = {}
        self._open: tuple[int, int] | None = None

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:  # noqa: ARG002 - Lightning's signature
        """Start over."""
        self.rows, self._seen, self._open = [], {}, None

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:  # noqa: ARG002
        """Close the row of the epoch before."""
        self._close(trainer)

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:  # noqa: ARG002
        """Open a row."""
        self._open = trainer.current_epoch, trainer.global_step

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:  # noqa: ARG002
        """Close the last row."""
        self._close(trainer)

    def _close(self, trainer: Any) -> None:
        if self._open is None:
            return
        (epoch, step), self._open = self._open, None
        there = dict(trainer.callback_metrics)
        new = {name: value for name, value in there.items() if self._seen.get(name) is not value}
        self._seen = there
        self.rows.append({"epoch": epoch, "step": step, **floats(new)})


def floats(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Return Lightning's metrics as plain numbers."""
    return {name: float(value) for name, value in metrics.items()}


def outcome(parts: Parts, trainer: Any, rows: list[dict[str, float]], framework: str, native: Any) -> FitResult:
    """Return the result of a fit.

    Args:
        parts: The parts of Lightning that the module comes from.
        trainer: The Trainer, or its stand-in.
        rows: One dict an epoch.
        framework: The backend whose engine ran the steps.
        native: The real engine.
    """
    saved = next((one for one in trainer.checkpoint_callbacks if isinstance(one, parts.ModelCheckpoint)), None)
    return FitResult(
        metrics=floats(trainer.callback_metrics),
        history=rows,
        epoch=max(trainer.fit_loop.epoch_progress.current.processed - 1, 0),
        step=trainer.global_step,
        stopped_by=_stopped_by(parts, trainer),
        framework=framework,
        native=native,
        best_checkpoint=_path(saved and saved.best_model_path),
        last_checkpoint=_path(saved and (saved.last_model_path or saved._last_checkpoint_saved)),
    )


def _path(text: str | None) -> Path | None:
    return Path(text) if text else None


def _stopped_by(parts: Parts, trainer: Any) -> str:
    if trainer.max_steps not in (None, -1) and trainer.global_step >= trainer.max_steps:
        return "max_steps"
    done = trainer.fit_loop.epoch_progress.current.processed
    if trainer.max_epochs not in (None, -1) and done >= trainer.max_epochs:
        return "max_epochs"
    return why_stopped(trainer.callbacks, parts.EarlyStopping, parts.Timer)
