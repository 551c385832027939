"""What may change between a checkpoint and the resuming run, mid-epoch or mid-accumulation."""

from __future__ import annotations

import re
import warnings
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from unitrain.callbacks import GradientAccumulationSchedule
from unitrain.checkpoint.outside_model import require_loss
from unitrain.data.loaders import members_of, samplers_of
from unitrain.data.own_random import OwnRandom
from unitrain.errors import CheckpointError

if TYPE_CHECKING:
    from pathlib import Path

    from unitrain.backends.protocol import FitJob
    from unitrain.data.sources import DataSource
    from unitrain.run.progress import Progress

_BOUNDARY = "a checkpoint from the end of an epoch can be resumed with the new value."
_TORCH = "torch.optim."
_TORCH_DATA = "torch.utils.data."


def fitted(path: Path, job: FitJob, own: dict[str, Any], progress: Progress) -> Progress:
    """Return ``progress`` adapted to ``job``.

    Args:
        path: The checkpoint, for messages.
        job: The fit that resumes it.
        own: unitrain's own part of the checkpoint.
        progress: Progress of this process.

    Raises:
        CheckpointError: If the pending gradients or the metric states of the running epoch do not match ``job``.
    """
    require_loss(path, job.spec.loss, progress.loss)
    _warn_of_generators(path, job.train, progress)
    _warn_of_own_random(path, job, own, progress)
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


def kinds(job: FitJob) -> dict[str, list[str]]:
    """Return the classes of the optimizers and schedules of ``job``, for ``require_same_kinds``."""
    return {
        "optimizers": [_class_of(optimizer) for optimizer in job.optimizers.values()],
        "schedules": [_class_of(schedule.scheduler) for schedule in job.schedules],
    }


def _class_of(one: Any) -> str:
    """Return the class of an optimizer or scheduler, including those of combined schedulers."""
    one = getattr(one, "called", one)
    within = [_class_of(inner) for inner in getattr(one, "_schedulers", ())]
    return f"{type(one).__module__}.{type(one).__qualname__}" + (f"({', '.join(within)})" if within else "")


def _public(kind: str) -> str:
    """Return ``kind`` without torch's modules, since a release may move classes."""
    return re.sub(r"\btorch\.optim\.(\w+\.)*", _TORCH, kind)


def require_same_kinds(path: Path, job: FitJob, content: dict[str, Any], own: dict[str, Any]) -> None:
    """Refuse the state of another class of optimizer or schedule.

    torch would load it without an error and train with a mixture of both. A user's own class may have been renamed;
    then its state must have the same fields.

    Raises:
        CheckpointError: If there is one; the message names both classes.
    """
    states = {"optimizers": content["optimizer_states"], "schedules": content["lr_schedulers"]}
    fields = {
        "optimizers": [one.state_dict().keys() for one in job.optimizers.values()],
        "schedules": [one.scheduler.state_dict().keys() for one in job.schedules],
    }
    for what, now in kinds(job).items():
        before = own["names"].get("kinds", {}).get(what, now)  # of an older release, or another program
        for one, other, state, known in zip(before, now, states[what], fields[what], strict=True):
            of_torch = one.startswith(_TORCH) and other.startswith(_TORCH)
            if _public(one) != _public(other) and (of_torch or state.keys() != known):
                raise CheckpointError(
                    f"{path} has the state of {one}, and the spec has {other}.",
                    hint="resume with the same spec; or start a new run with these weights:"
                    " model.load_state_dict(unitrain.load_weights(path)).",
                )


def require_rest(path: Path, train: DataSource, progress: Progress) -> None:
    """Refuse to resume within an epoch without remaining batches.

    Raises:
        CheckpointError: If ``train`` has no more batches than are already done.
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
    """Return the number of accumulated batches: that of the option, or one set by a handler that still exists."""
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


def _warn_of_generators(path: Path, train: DataSource, progress: Progress) -> None:
    """Warn if ``generator=`` was added or removed, which changes the order of the samples.

    A user's own sampler may create its generator at any time, so it is not compared.
    """
    before, now = len((progress.rng or {"others": ()})["others"]), len(train.generators)
    parts = [*members_of(train.loader), *samplers_of(train.loader)]
    if (
        progress.rng is not None
        and before != now
        and all(type(one).__module__.startswith(_TORCH_DATA) for one in parts)
    ):
        warnings.warn(
            f"{path} was written with {before} generators of the training loader and its samplers, and there are {now}"
            " now; the order of the samples is not continued. Keep generator= of the loader to continue it.",
            stacklevel=2,
        )


def own_of_validation(job: FitJob) -> OwnRandom:
    """Return the generators in the parts of the validation data."""
    return OwnRandom(source.loader for source in job.val)


def _warn_of_own_random(path: Path, job: FitJob, own: dict[str, Any], progress: Progress) -> None:
    """Warn of generators in the data that are not restored, whose numbers would otherwise silently differ.

    Added or removed validation data and new processes have none to restore.
    """
    if progress.rng is None or len(own.get("ranks", [])) + 1 != job.team.size:
        return
    pairs = [("training", job.train.own_random, progress.rng.get("own", {}))]
    if job.val and progress.val_rng is not None:
        pairs.append(("validation", own_of_validation(job), progress.val_rng))
    for what, found, saved in pairs:
        lost, new = found.differing(saved)
        if lost or new:
            told = [f"the state of {', '.join(lost)}, which cannot be restored"] * bool(lost)
            told += [f"no state of {', '.join(new)}"] * bool(new)
            warnings.warn(
                f"{path} has {' and '.join(told)}, in the {what} data; their random numbers are not continued. If the"
                " data makes them anew each time, nothing is lost; else resume with the same data, and create its"
                " random generators before the fit, such as in __init__.",
                stacklevel=2,
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
