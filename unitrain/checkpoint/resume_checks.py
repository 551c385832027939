"""What may change between a checkpoint and the resuming run, mid-epoch or mid-accumulation."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from unitrain.callbacks import GradientAccumulationSchedule
from unitrain.errors import CheckpointError

if TYPE_CHECKING:
    from pathlib import Path

    from unitrain.backends.protocol import FitJob
    from unitrain.data.sources import DataSource
    from unitrain.run.progress import Progress

_BOUNDARY = "a checkpoint from the end of an epoch can be resumed with the new value."


def fitted(path: Path, job: FitJob, own: dict[str, Any], progress: Progress) -> Progress:
    """Return ``progress`` as it holds for ``job``.

    Args:
        path: The checkpoint, for messages.
        job: The fit that resumes it.
        own: What only unitrain knows of the checkpoint.
        progress: Where this process resumes.

    Raises:
        CheckpointError: If the pending gradients, or what the running epoch has measured, do not fit ``job``.
    """
    _require_measured(path, job, progress)
    _warn_of_other_length(path, job, own, progress)
    if progress.accumulate is None:  # of an older release
        _require_same_scale(path, job, progress)
        return progress
    number = _accumulation(job, own, progress)
    if progress.gradients and job.spec.automatic_optimization and progress.accumulate[1] != number:
        raise CheckpointError(
            f"{path} was written while accumulating {progress.accumulate[1]} batches, and this run accumulates"
            f" {number}.",
            hint=f"accumulate_grad_batches={progress.accumulate[1]}; {_BOUNDARY}",
        )
    _require_same_scale(path, job, progress)
    return replace(progress, accumulate=[job.config.accumulate_grad_batches, number])


def require_rest(path: Path, train: DataSource, progress: Progress) -> None:
    """Refuse to resume within an epoch that has no batch left.

    Raises:
        CheckpointError: If ``train`` has no more batches than were done.
    """
    length = train.length
    if length is None and isinstance(train.limit, int):
        length = train.limit
    if progress.midway and length is not None and progress.in_epoch >= length:
        raise CheckpointError(
            f"{path} was written after {progress.in_epoch} batches of an epoch, and an epoch now has {length}.",
            hint=f"resume with the original data; {_BOUNDARY}",
        )


def _accumulation(job: FitJob, own: dict[str, Any], progress: Progress) -> int:
    """Return how many batches are accumulated: as the option says, or as a handler has set that is still there."""
    given, now = progress.accumulate or (None, 1)
    number = job.config.accumulate_grad_batches
    for callback in job.callbacks.values():
        if isinstance(callback, GradientAccumulationSchedule):
            return callback.at(progress.epochs_done)
    gone = own["callbacks"].keys() - job.callbacks.keys()
    return now if given == number and not gone else number


def _require_same_scale(path: Path, job: FitJob, progress: Progress) -> None:
    scaled = job.config.precision == "16-mixed"
    if progress.gradients and (progress.scaler is not None) != scaled:
        raise CheckpointError(
            f"{path} contains pending gradients that are {'not ' if scaled else ''}scaled as with precision='16-mixed',"
            f" and this run has precision={job.config.precision!r}.",
            hint=f"resume with the same precision; {_BOUNDARY}",
        )


def _require_measured(path: Path, job: FitJob, progress: Progress) -> None:
    lacking = [] if progress.meter is None else [name for name in job.spec.metrics or {} if _lacks(progress, name)]
    if lacking:
        raise CheckpointError(
            f"{path} was written within an epoch that did not measure the metric {', '.join(map(repr, lacking))}.",
            hint=f"resume with the same metrics; {_BOUNDARY}",
        )


def _lacks(progress: Progress, name: str) -> bool:
    return name not in (progress.meter or {}).get("metrics", {})


def _warn_of_other_length(path: Path, job: FitJob, own: dict[str, Any], progress: Progress) -> None:
    before, now = own["run"].get("epoch_length"), job.train.length
    same_team = len(own.get("ranks", [])) + 1 == job.team.size
    known = same_team and job.reload is None and before is not None
    if progress.midway and known and now is not None and before != now > progress.in_epoch:
        warnings.warn(
            f"{path} was written after {progress.in_epoch} of {before} batches of an epoch, and an epoch now has"
            f" {now}; the first {progress.in_epoch} are skipped.",
            stacklevel=2,
        )
