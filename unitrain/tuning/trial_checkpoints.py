"""The checkpoints of a trial: when they are written, which one a trial resumes from, and which one is its result."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Any, Protocol

from unitrain.callbacks import Callback, ModelCheckpoint, Preparer
from unitrain.checkpoint.io import read
from unitrain.checkpoint.layout import KEY
from unitrain.errors import CheckpointError
from unitrain.metrics.metric import float32
from unitrain.run.stopping import SIGNAL
from unitrain.tuning.plan import BEST, LAST

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch.nn import Module
    from torch.optim import Optimizer

    from unitrain.config import TrainerConfig
    from unitrain.run.context import RunContext
    from unitrain.spec import TrainSpec
    from unitrain.tuning.plan import StudyPlan

_SAVE_EVERY = 2.0
"""Seconds between two checkpoints of a trial, at the ends of epochs."""
_LAST, _ENDED = "last.ckpt", "ended"


class Stop(Protocol):
    """Says whether all is to stop.

    Attributes:
        reason: Why, or None.
    """

    reason: str | None


class TrialCheckpoint(ModelCheckpoint, Preparer):
    """Keeps the state to resume a trial from: at the end of an epoch, not too often, and at the end of the fit.

    Args:
        folder: Of the trial.
        halt: Whether the worker is to stop; the fit's own handlers know of the signals that come later.
    """

    saves_at_interrupt = True
    on_batch_end = Callback.on_batch_end  # it is not called after each batch, which would cost a trial time

    def __init__(self, folder: Path, halt: Stop | None = None) -> None:
        super().__init__(folder, save_top_k=0, save_last=True)
        self._halt = halt
        self._saved = time.monotonic()
        self._ended = False

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what is of this process."""
        return {**vars(self), "_halt": None}

    def prepare(self, spec: TrainSpec, config: TrainerConfig, optimizers: Mapping[str, Optimizer]) -> None:
        """Refuse nothing."""

    def resume_ended(self, model: Module, *, midway: bool) -> bool:  # noqa: ARG002 - of all callbacks
        """Return whether a signal cut the fit after its last epoch, before the final checkpoint."""
        return not self._ended

    def on_fit_start(self, run: RunContext) -> None:
        """Start the clock; stop at once if a signal came before the fit."""
        self._saved, self._ended = time.monotonic(), False
        if self._halt is not None and self._halt.reason is not None:
            run.hub.stop_reason = SIGNAL

    def decide(self, run: RunContext) -> None:
        """Write, if it is time; of several clocks that of rank 0 counts."""
        if run.rank == 0 and time.monotonic() >= self._saved + _SAVE_EVERY:
            self._saved = time.monotonic()
            self._want(run, _LAST)

    def on_fit_end(self, run: RunContext) -> None:
        """Write the end, unless a signal cut the fit, which has a checkpoint of its own."""
        if run.hub.stop_reason != SIGNAL:
            self._ended = True
            self._want(run, _LAST)

    def state_dict(self) -> dict[str, Any]:
        """Return also whether the fit has ended, by which ``TuneResult`` knows the last file from an earlier one."""
        return {**super().state_dict(), _ENDED: self._ended}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what ``state_dict`` returned."""
        super().load_state_dict(state)
        self._ended = bool(state.get(_ENDED))


class BestCheckpoint(ModelCheckpoint):
    """Keeps the weights of a trial's best epoch, and a name of its own in checkpoints."""


def best_kept(folder: Path, plan: StudyPlan) -> BestCheckpoint:
    """Return what keeps the weights of a trial's best epoch."""
    return BestCheckpoint(folder, BEST, monitor=plan.monitor[0], mode=plan.mode)  # type: ignore[arg-type]


def newest_checkpoint(folder: Path) -> Path | None:
    """Return the checkpoint of a trial that was written last."""
    return next(iter(_written(folder, ("last", "best", "interrupted"))), None)


def _written(folder: Path, names: tuple[str, ...]) -> list[Path]:
    """Return the files of these names, the newest first; the user's own callbacks may write others beside."""
    pattern = re.compile(rf"({'|'.join(names)})(-v\d+)?\.ckpt")
    found = [(one.stat().st_mtime_ns, one) for one in folder.glob("*.ckpt") if pattern.fullmatch(one.name)]
    return [one for _, one in sorted(found, reverse=True)]


def final_checkpoint(plan: StudyPlan, trial: Any) -> Path:
    """Return the checkpoint with the weights that a complete trial ended with, or had in its best epoch.

    Raises:
        CheckpointError: If it is not in the trial's folder, as where another machine ended the trial.
    """
    folder = plan.folder(trial.number)
    found = _written(folder, (BEST if plan.value == BEST else LAST,))
    for path in found:
        if _is_final(plan, trial, path):
            return path
    why = "was written before the trial ended" if found else "does not exist"
    raise CheckpointError(
        f"the final checkpoint of trial {trial.number} is not here: {found[0] if found else folder} {why}.",
        hint=f"another machine ended the trial. Copy {folder.name} from there to {folder.parent}, or give all machines"
        " one dirpath=; best_spec() builds the spec to train again.",
    )


def _is_final(plan: StudyPlan, trial: Any, path: Path) -> bool:
    """Return whether the callback that wrote a file knew the end of the fit, or its best value."""
    callbacks = read(path)[KEY]["callbacks"]
    if plan.value != BEST:
        return bool(callbacks.get(TrialCheckpoint.__name__, {}).get(_ENDED))
    kept = callbacks.get(BestCheckpoint.__name__, {}).get("best_k_models", ())
    return [value for _, value in kept] == [float32(trial.value)]
