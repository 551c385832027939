"""Going on with a run: which file, and whether there is anything left to do."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from unitrain.checkpoint.continued import own_again
from unitrain.checkpoint.snapshot import restore
from unitrain.errors import ConfigError
from unitrain.rng import RngSnapshot, preserved_rng

if TYPE_CHECKING:
    from collections.abc import Iterable

    from unitrain.callbacks import Callback
    from unitrain.checkpoint.ranks import Progress
    from unitrain.protocol import FitJob


def find_checkpoint(given: str | Path, callbacks: Iterable[Callback], newest: Path | None) -> Path:
    """Return the file that ``ckpt_path=`` means.

    Args:
        given: A path, ``"last"`` or ``"best"``.
        callbacks: Those of the trainer; a ModelCheckpoint knows its best and its last.
        newest: The file that the trainer wrote last.

    Raises:
        ConfigError: If there is no such checkpoint.
    """
    if given not in ("last", "best"):
        return Path(given)
    for callback in callbacks:
        path = getattr(callback, f"{given}_model_path", None)
        if path:
            return Path(path)
    if given == "last" and newest is not None:
        return newest
    raise ConfigError(
        f"ckpt_path={given!r}: this trainer knows of no such checkpoint.",
        hint="give its path, or a ModelCheckpoint in UnifiedTrainer(callbacks=[...]).",
    )


def resumed(job: FitJob, path: Path) -> FitJob:
    """Return ``job`` brought to where the checkpoint at ``path`` stands.

    Raises:
        CheckpointError: If the file cannot be used.
        ConfigError: If there is nothing left to train, or the run cannot be gone on with.
    """
    if job.train.repeat:
        raise ConfigError(
            "overfit_batches trains on the batches of the first epoch, which no checkpoint holds.",
            hint="limit_train_batches takes as many batches, and can be gone on with.",
        )
    progress = restore(path, job)
    own_again(job, path)
    if job.config.epochs is not None and progress.epochs_done >= job.config.epochs:
        raise ConfigError(
            f"{path} has run {progress.epochs_done} epochs already, and max_epochs={job.config.epochs}.",
            hint=f"max_epochs={progress.epochs_done + 1}, or more.",
        )
    return replace(_with_its_loaders(job, progress), resume=progress)


def _with_its_loaders(job: FitJob, progress: Progress) -> FitJob:
    """Return ``job`` with the loaders of the epoch that goes on, where they are made anew in some epochs."""
    every, epoch = job.config.reload_dataloaders_every_n_epochs, progress.epochs_done
    if job.reload is None or not (progress.midway or epoch % every):
        return job  # the next epoch makes its own
    with preserved_rng():
        if progress.rng_at_load is not None:
            RngSnapshot.from_state_dict(progress.rng_at_load).restore()
        return job.reload(job, epoch - epoch % every)
