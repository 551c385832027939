"""The record of a run that a file of LightningCLI configures: ``run.json`` in Lightning's own folder of the run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from unitrain.reports.run.record import begin_record, end_record
from unitrain_lightning.namespace import OnLightning

if TYPE_CHECKING:
    from unitrain.reports.run.record import Outcome


class RunRecorder(OnLightning):
    """Begins the record once the run's folder is known, and its configuration is saved.

    Args:
        framework: The backend.

    Attributes:
        seed: The seed that was sown, which LightningCLI may have drawn.
        checkpoint: The ``ckpt_path`` that was given.
        folder: The folder of the run; None before training, and where nothing is written.
        warned: The warnings of the run.
    """

    stands_on = "Callback"

    def __init__(self, framework: str) -> None:
        super().__init__()
        self._framework = framework
        self.seed: int | None = None
        self.checkpoint: Any = None
        self.folder: Path | None = None
        self.warned: list[Any] = []

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        """Write it, on the first process.

        Raises:
            ConfigError: If the folder has the record of another run.
        """
        found = trainer.log_dir  # on every process: it is broadcast
        if not trainer.is_global_zero or trainer.fast_dev_run or not found or "://" in str(found):
            return
        folder = Path(found)
        checkpoint = trainer.ckpt_path or self.checkpoint  # a sharded strategy restores later than this
        saved = folder / "config.yaml"
        begin_record(
            folder,
            config=saved.read_text(encoding="utf-8") if saved.is_file() else "",
            spec=repr(pl_module),
            framework=self._framework,
            seed=self.seed,
            resumed_from=None if checkpoint is None else str(checkpoint),
        )
        self.folder = folder

    def end(self, outcome: Outcome | BaseException) -> None:
        """Complete it, if it was begun."""
        if self.folder is not None:
            end_record(self.folder, outcome, self.warned)
