"""Resumes a run: finds the file and checks whether any steps remain."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unitrain.callbacks import EpochDecision, ModelCheckpoint, Preparer, named
from unitrain.checkpoint import sharded_files as parts
from unitrain.checkpoint.capture import capture
from unitrain.checkpoint.model_weights import load_weights_of, weights_of
from unitrain.checkpoint.outside_model import load_loss
from unitrain.checkpoint.owned_files import own_again
from unitrain.checkpoint.restore import own_part, read_for, restored_but_for_weights
from unitrain.checkpoint.resume_checks import require_rest
from unitrain.checkpoint.saving import write_one
from unitrain.config import UNLIMITED
from unitrain.errors import ConfigError
from unitrain.run.stopping import MAX_EPOCHS, MAX_STEPS, StopRule
from unitrain.utilities.files import user_file, user_path
from unitrain.utilities.ledger import FOLDER
from unitrain.utilities.rng import RngSnapshot, preserved_rng

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from unitrain.backends.protocol import FitJob
    from unitrain.callbacks import Callback
    from unitrain.checkpoint.restore import Found
    from unitrain.config import TrainerConfig
    from unitrain.run.progress import Progress


def find_checkpoint(
    given: str | Path, callbacks: Iterable[Callback], newest: Path | None, config: TrainerConfig
) -> Path:
    """Return the file for ``ckpt_path=``.

    ``"last"`` and ``"best"`` are those of the trainer's own run; before its first run, as in a restarted script, those
    of the newest run that wrote to the folder of its ModelCheckpoint.

    Args:
        given: A path, ``"last"`` or ``"best"``.
        callbacks: The trainer's callbacks; a ModelCheckpoint knows its best and its last file.
        newest: The trainer's last written file.
        config: The trainer's options, with the folder for files.

    Raises:
        ConfigError: If there is no such checkpoint.
    """
    if given not in _BY_ROLE:
        return user_file(given, "ckpt_path", ConfigError)
    for callback in callbacks:
        path = getattr(callback, f"{given}_model_path", None)
        if path:
            return Path(path)
    if given == "last" and newest is not None:
        return newest
    keepers = {name: one for name, one in named(callbacks).items() if isinstance(one, ModelCheckpoint)}
    for name, keeper in keepers.items():
        found = _BY_ROLE[given](name, keeper.earlier_files(config))
        if found is not None:
            return found
    folders = {str(keeper.dirpath or Path(config.default_root_dir) / FOLDER) for keeper in keepers.values()}
    looked = f" It looked in {', '.join(sorted(folders))}." if folders else ""
    raise ConfigError(
        f"ckpt_path={given!r}: this trainer wrote no such checkpoint and found none of an earlier run.{looked}",
        hint="pass its path, or a ModelCheckpoint with the folder of the earlier run.",
    )


def _newest_file(_: str, files: Sequence[Path]) -> Path | None:
    return next(iter(files), None)


def _best_of(name: str, files: Sequence[Path]) -> Path | None:
    """Return the best file of the ModelCheckpoint ``name``, according to the newest file."""
    for path in files:
        content = parts.read_any(path)
        kept = own_part(path, content)["callbacks"].get(name, {}).get("best_k_models", ())
        here = [path.with_name(Path(one).name) for one, _ in kept]
        found = next((one for one in here if one.exists()), None)
        if found is not None:
            return found
    return None


_BY_ROLE: dict[Any, Callable[[str, Sequence[Path]], Path | None]] = {"last": _newest_file, "best": _best_of}


def readable(job: FitJob, path: Path) -> Found:
    """Read the checkpoint at ``path``, if it fits ``job``, and leave ``job`` unchanged.

    Raises:
        CheckpointError: If the file cannot be used.
        ConfigError: If the checkpoint is beyond the requested end, or the run cannot be resumed.
    """
    if job.train.repeat:
        raise ConfigError(
            "overfit_batches trains on the batches of the first epoch, which checkpoints do not contain.",
            hint="limit_train_batches uses the same number of batches and can be resumed.",
        )
    found = read_for(path, job)
    epochs, done, midway = job.config.epochs, found.progress.epochs_done, found.progress.midway
    if epochs is not None and (done > epochs or (done == epochs and midway)):
        begun = " and started the next" if midway else ""
        raise ConfigError(
            f"{path} has already run {done} epochs{begun}, but max_epochs={epochs}.",
            hint=f"use max_epochs={done + 1} or more.",
        )
    return found


def resumed(job: FitJob, found: Found) -> FitJob:
    """Return ``job`` with a checkpoint restored. Weights are loaded last, when nothing can be refused any more.

    Raises:
        CheckpointError: If its optimizers or callbacks cannot load it; they, and the model, are then unchanged.
    """
    with restored_but_for_weights(found, job):
        own_again(job, found.path)
        job = _with_its_loaders(replace(job, resume=found.progress), found.progress)
        require_rest(found.path, job.train, found.progress)
        finished(job)
        load_weights_of(found.path, job.spec.model, weights_of(found.content))
        load_loss(job.spec.loss, found.progress.loss, job.device)
    return job


def finished(job: FitJob) -> bool:
    """Return whether the resumed run has already ended: by its epochs, its steps or a persistent request to stop.

    A request that a minimum delays is made again. If a callback acts at the end of the run and the checkpoint was
    written before, the run has not ended.

    Raises:
        CheckpointError: If such an end can no longer be run.
    """
    if job.resume is None:
        return False
    asked = _ask_again(job)
    steps = job.config.max_steps != UNLIMITED and job.hub.state.step >= job.config.max_steps
    if steps:
        job.hub.stop_reason = MAX_STEPS
    done = job.resume.epochs_done
    ended = steps or done == job.config.epochs or (asked and StopRule(job.config, job.hub).minimum_met(done))
    preparers = [one for one in job.callbacks.values() if isinstance(one, Preparer)]
    if not ended or not any(one.resume_ended(job.spec.model, midway=job.resume.midway) for one in preparers):
        return ended
    job.hub.request_stop(MAX_EPOCHS)  # before an epoch begins: only the end is left
    return False


def _ask_again(job: FitJob) -> bool:
    """Repeat the requests to stop that are stored in a checkpoint, and return whether there are any."""
    deciders = [one for one in job.callbacks.values() if isinstance(one, EpochDecision)]
    reasons = [reason for reason in (one.asked() for one in deciders) if reason is not None]
    for reason in reasons:
        job.hub.request_stop(reason)
    return bool(reasons)


class Ended:
    """A run that had already ended before it was resumed; it can only be saved.

    Args:
        job: The fit, resumed.
    """

    at_rest = True

    def __init__(self, job: FitJob) -> None:
        self._job = job

    def save_checkpoint(self, path: str | Path, *, sharded: bool = False) -> None:
        """Write a checkpoint of the run's final state."""
        assert self._job.resume is not None  # noqa: S101 - for the type checker
        write_one(user_path(path).absolute(), capture(self._job, self._job.resume), self._job.team, sharded=sharded)


def _with_its_loaders(job: FitJob, progress: Progress) -> FitJob:
    """Return ``job`` with the loaders of the resumed epoch, if loaders are recreated."""
    every, epoch = job.config.reload_dataloaders_every_n_epochs, progress.epochs_done
    if job.reload is None or not (progress.midway or epoch % every):
        return job  # the next epoch makes its own
    with preserved_rng():
        if progress.rng_at_load is not None:
            RngSnapshot.from_state_dict(progress.rng_at_load).restore()
        return job.reload(job, epoch - epoch % every)
