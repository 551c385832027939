"""Writes a run for TensorBoard."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unitrain.compat.other_names import callback_arguments_for
from unitrain.errors import BackendNotInstalledError, ConfigError, install_hint, named_arguments
from unitrain.loggers.logger import flat, group_folder, run_folder
from unitrain.utilities.files import user_path
from unitrain.utilities.signature import Shown

if TYPE_CHECKING:
    from collections.abc import Mapping


@named_arguments(ConfigError, callback_arguments_for)
class TensorBoardLogger(Shown):
    """Writes event files into ``<save_dir>/<name>``, for ``tensorboard --logdir <save_dir>``.

    A new run goes to ``<name>-2`` and so on. A resumed run continues in its own folder; values that the interrupted run
    logged after the checkpoint are no longer shown.

    Args:
        save_dir: Parent directory.
        name: Name of the run's folder.

    Raises:
        BackendNotInstalledError: If tensorboard is not installed.

    Example:
        >>> trainer = UnifiedTrainer("reference", max_epochs=1, loggers=[TensorBoardLogger("runs")])
    """

    def __init__(self, save_dir: str | Path, name: str = "run") -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415 - only those who use it need it
        except ImportError as error:
            raise BackendNotInstalledError(
                "TensorBoardLogger needs the package tensorboard, which is not installed.",
                hint=install_hint("tensorboard"),
            ) from error
        self._make = SummaryWriter
        self._save_dir = user_path(save_dir)
        self._name = name
        self._before: str | None = None
        self._of_trial = False
        self.begin(0)

    def begin_group(self, study: str) -> dict[str, str]:
        """Make the folder of a study."""
        return group_folder(self._save_dir, study)

    def for_trial(self, name: str, group: Mapping[str, Any]) -> TensorBoardLogger:
        """Return the tracker of a trial, whose folder is that of the trial."""
        made = copy.copy(self)
        vars(made).update(_save_dir=self._save_dir / group["folder"], _name=name, _of_trial=True)
        made.begin(0)
        return made

    def end_trial(self, state: str, params: dict[str, Any], values: Mapping[str, float | None]) -> None:
        """Write the trial's line of the tab HPARAMS, with the values of its objectives."""
        measured = {f"objective/{name}": value for name, value in values.items()}
        self._write_hparams({**params, "state": state}, measured)
        for name, value in measured.items():
            if value is not None:
                self.writer.add_scalar(name, value, 0)
        self.finalize(state)

    def begin(self, rows: int) -> None:
        """Start a run, or continue with the last one."""
        self._resumed = rows > 0
        self._here = Path.cwd()  # a later os.chdir must not split the run's files
        self._writer: Any = None
        self.folder: Path | None = None

    def run_state(self) -> dict[str, Any]:
        """Return the folder of the run, for a checkpoint."""
        return {} if self.folder is None else {"folder": str(self.folder.absolute())}

    def load_run_state(self, state: Mapping[str, Any]) -> None:
        """Continue in the folder of the resumed run."""
        self._before = state.get("folder")

    @property
    def writer(self) -> Any:
        """The ``SummaryWriter``, for figures and histograms of one's own."""
        return self._open(None)

    def log_metrics(self, metrics: dict[str, float], step: int) -> None:
        """Write one row."""
        writer = self._open(step)
        for name, value in metrics.items():
            writer.add_scalar(name, value, step)

    def log_hyperparams(self, params: dict[str, Any]) -> None:
        """Write the hyper-parameters, for the tab HPARAMS; a resumed run has them already; a trial has them last."""
        if not self._resumed and not self._of_trial:
            self._write_hparams(params, {})

    def _write_hparams(self, params: Mapping[str, Any], values: Mapping[str, Any]) -> None:
        from torch.utils.tensorboard.summary import hparams  # noqa: PLC0415 - only those who use it need it

        for summary in hparams(plain(params), dict(values)):  # type: ignore[no-untyped-call]
            self.writer.file_writer.add_summary(summary)

    def log_figure(self, name: str, figure: Any, step: int) -> None:
        """Write a figure as an image."""
        canvas = figure.canvas
        try:
            self._open(step).add_figure(name, figure, step, close=False)
        finally:
            figure.set_canvas(canvas)  # TensorBoard draws on one of its own, and leaves it there

    def _open(self, step: int | None) -> Any:
        """Return the writer; the first row of a resumed run hides what was written at its step and later."""
        if self._writer is None:
            purge = step if (self._resumed or self._of_trial) and self.folder is None else None
            self.folder = self.folder or self._found_folder()
            self._writer = self._make(log_dir=str(self.folder), purge_step=purge)
        return self._writer

    def _found_folder(self) -> Path:
        parent = self._here / self._save_dir
        if self._of_trial:
            return parent / self._name
        return run_folder(parent, self._name, resumed=self._resumed, before=self._before)

    def save(self) -> None:
        """Write what is in the writer's queue."""
        if self._writer is not None:
            self._writer.flush()

    def finalize(self, status: str) -> None:  # noqa: ARG002 - Lightning's shape
        """Close the files."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None


def plain(params: Mapping[str, Any]) -> dict[str, Any]:
    """Return hyper-parameters in the kinds that TensorBoard knows, nested ones as ``outer/inner``."""
    return {name: value if isinstance(value, (bool, int, float)) else str(value) for name, value in flat(params)}
