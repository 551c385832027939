"""Restores a checkpoint's state into a run."""

from __future__ import annotations

import copy
import warnings
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from torch import Tensor
from torch.nn.parameter import is_lazy

from unitrain.callbacks import ModelCheckpoint
from unitrain.checkpoint import sharded_files as parts
from unitrain.checkpoint.capture import sources
from unitrain.checkpoint.forms import misfit, unlike
from unitrain.checkpoint.gate import restored
from unitrain.checkpoint.layout import FORMAT, KEY
from unitrain.checkpoint.model_weights import require_same_weights, weights_of
from unitrain.checkpoint.optimizer_forms import require_usable
from unitrain.checkpoint.optimizer_states import load_optimizer
from unitrain.checkpoint.resume_checks import fitted, own_of_validation, require_same_kinds
from unitrain.data.position import Position, keeper
from unitrain.distributed.strategies.dtensors import is_part, part_like
from unitrain.errors import DISTRIBUTION, CheckpointError, UnitrainError
from unitrain.metrics.metric import stage_metric
from unitrain.optim.optimizers import all_parameters
from unitrain.run.progress import Progress, shared_out
from unitrain.utilities.rng import RngSnapshot, preserved_rng

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from torch import nn
    from torch.optim import Optimizer

    from unitrain.backends.protocol import FitJob
    from unitrain.callbacks import Callback
    from unitrain.data.sources import DataSource
    from unitrain.metrics.metric import StageMetric
    from unitrain.run.hub import EventHub


_CHANGING = ("last_epoch", "best", "num_bad_epochs", "cooldown_counter", "T_cur", "T_i")
"""What torch's schedulers count; the rest is options, of which an older release may lack some."""
_METRICS = ("torchmetrics", "ignite", "unitrain")


@contextmanager
def _as_written(path: Path) -> Iterator[None]:
    """Turn errors caused by a malformed file into an error that says so."""
    try:
        yield
    except (UnitrainError, Warning, OSError, MemoryError):
        raise
    except Exception as error:
        raise _not_as_written(path, repr(error)) from error


def _not_as_written(path: Path, why: str) -> CheckpointError:
    return CheckpointError(
        f"{path} is damaged: its contents are not as unitrain writes them ({why}).",
        hint="use an older checkpoint.",
    )


@dataclass(frozen=True)
class Found:
    """A checkpoint that matches a job, read but not yet loaded into it.

    Attributes:
        path: The file.
        content: The whole content.
        own: unitrain's own part of it.
        progress: Progress of the run.
    """

    path: Path
    content: dict[str, Any]
    own: dict[str, Any]
    progress: Progress


def read_for(path: Path, job: FitJob) -> Found:
    """Read the checkpoint at ``path`` for ``job``, which is unchanged.

    Raises:
        CheckpointError: If the file is damaged, of a newer format, of another model or not unitrain's.
    """
    content = parts.read_any(path)
    with _as_written(path):
        own, weights = own_part(path, content), weights_of(content)
    require_same_weights(path, job.spec.model, weights)
    with _as_written(path):
        _require_same_names(path, job, own["names"])
        progress = fitted(path, job, own, shared_out([own["progress"], *own.get("ranks", [])], job.team))
        _require_random_states(progress, job)
        _require_measures(path, progress, job)
    return Found(path, content, own, progress if progress.rng is not None else _with_own_rng(progress, job))


@contextmanager
def restored_but_for_weights(found: Found, job: FitJob) -> Iterator[None]:
    """Load a checkpoint into ``job``'s optimizers, schedules, hub and callbacks; undo it if the block raises.

    After an error, optimizers are as before, and the hub and the callbacks as at the start of a run.
    """
    before = [(one, one.state, one.param_groups) for one in job.optimizers.values()]
    try:
        with _as_written(found.path):
            optimizers = list(zip(job.optimizers.values(), found.content["optimizer_states"], strict=True))
            states, steps = found.content["lr_schedulers"], found.own["schedule_steps"]
            schedules = list(zip(job.schedules, states, steps, strict=True))
        _load_optimizers(found.path, optimizers)
        with _as_written(found.path):
            require_same_kinds(found.path, job, found.content, found.own)
        for schedule, state, number in schedules:
            with _fitting(found.path, schedule.scheduler):
                _require_alike(schedule.scheduler, state, schedule.scheduler.state_dict)
                schedule.scheduler.load_state_dict(state)
            schedule.steps = number
        with _as_written(found.path):
            job.hub.load_state_dict(found.own["hub"])
        _load_callbacks(found.path, job.callbacks, found.own["callbacks"])
        if found.own["run"].get("order") is not None:
            for source in sources(job):
                source.draw_order(found.own["run"]["order"])
        yield
    except BaseException:
        for optimizer, state, groups in before:  # torch loads into new ones
            vars(optimizer).update(state=state, param_groups=groups)
        begin(job)
        raise


def begin(job: FitJob) -> None:
    """Begin a run with fresh counters and callbacks."""
    job.hub.begin(job.train.length, validates=bool(job.val))
    for callback in job.callbacks.values():
        callback.reset_state()
    job.hub.keepers = {name: one for name, one in job.callbacks.items() if isinstance(one, ModelCheckpoint)}


def _require_random_states(progress: Progress, job: FitJob) -> None:
    """Restore each random state briefly, so that invalid ones raise before training begins."""
    train, val = job.train, own_of_validation(job)
    with preserved_rng(train.generators, train.own_random), preserved_rng(own=val):
        val.put_back(progress.val_rng or {}, absent=False)
        for state in (progress.rng, progress.rng_at_iter, progress.rng_before_ahead, progress.rng_at_load):
            if state is not None:
                RngSnapshot.from_state_dict(state, train.generators).restore()
                train.own_random.put_back(state.get("own", {}), absent=False)


def _require_measures(path: Path, progress: Progress, job: FitJob) -> None:
    """Refuse metric states and pending gradients of another type or shape."""
    measured = (progress.meter or {}).get("metrics", {})
    for name, given in (job.spec.metrics or {}).items() if measured else ():
        _require_metric(path, name, stage_metric(name, given), measured[name])
    if progress.gradients is None or job.sharded is not None:
        return
    shapes = {name: one.shape for name, one in job.spec.model.named_parameters() if not is_lazy(one)}
    for name, one in progress.gradients.items():
        if one.shape != shapes.get(name, one.shape):
            raise _not_of_spec(
                path,
                f"the gradient of {name!r} has the shape {tuple(one.shape)}, and its parameter {tuple(shapes[name])}",
            )


def _require_metric(path: Path, name: str, fresh: StageMetric, state: Any) -> None:
    """Refuse a state of another type than that of ``fresh``, and one that it cannot load.

    After an update, a user's own metric may hold anything, and a library's metric tensors of any shape.
    """
    known = fresh.mean is not None or type(fresh.given).__module__.partition(".")[0] in _METRICS
    wrong = unlike(state, fresh.state_dict(), f"the state of the metric {name!r}", sized=False) if known else None
    if wrong is not None:
        raise _not_of_spec(path, wrong)
    try:
        fresh.load_state_dict(copy.deepcopy(state))
    except (UnitrainError, Warning, MemoryError):
        raise
    except Exception as error:
        raise _not_of_spec(path, f"the metric {name!r} cannot load its state: {error!r}") from error


def _not_of_spec(path: Path, why: str) -> CheckpointError:
    return CheckpointError(
        f"{path} does not fit: {why}.", hint="resume with the same spec, or from a checkpoint between epochs."
    )


def _require_alike(one: Any, state: Any, known: Callable[[], dict[str, Any]]) -> None:
    """Refuse an incomplete state of a torch or unitrain class, or one with other types.

    Raises:
        ValueError: If the state is invalid; the message names the place.
    """
    called = getattr(one, "called", one)
    if not type(called).__module__.startswith(("torch.", "unitrain.")):
        return
    now = known()
    wrong = unlike(state, now, "its state")
    counts = _CHANGING if type(called).__module__.startswith("torch.") and wrong is None else ()
    missing = [name for name in counts if name in now and name not in state]
    if wrong is not None or missing:
        raise ValueError(wrong or f"it lacks {', '.join(map(repr, missing))}.")


def _with_own_rng(progress: Progress, job: FitJob) -> Progress:
    """Return ``progress`` of another program's file, with this run's current random states."""
    rng = RngSnapshot(job.train.generators).state_dict()
    return replace(progress, rng=rng, rng_at_iter=rng if progress.midway else None)


def restore_result(
    content: dict[str, Any],
    model: nn.Module,
    optimizers: Mapping[str, Optimizer],
    hub: EventHub,
    callbacks: Mapping[str, Callback],
) -> None:
    """Load the final state of a run in other processes into this process's objects."""
    own = restored(content)[KEY]
    model.load_state_dict(weights_of(content))
    for optimizer, state in zip(optimizers.values(), content["optimizer_states"], strict=True):
        load_optimizer(optimizer, state)
    hub.load_state_dict(own["hub"])
    for name, callback in callbacks.items():
        callback.load_state_dict(copy.deepcopy(own["callbacks"].get(name, {})))


def own_part(path: Path, content: dict[str, Any]) -> dict[str, Any]:
    """Return unitrain's own part of the checkpoint.

    Raises:
        CheckpointError: If it was not written by unitrain, or has a newer format.
    """
    own = content.get(KEY)
    if not isinstance(own, dict):
        raise CheckpointError(
            f"{path} was not written by unitrain, so it has no position to resume from.",
            hint="`unitrain convert FILE NEW --to portable` converts it to one;"
            " unitrain.load_weights(file) loads only the weights.",
        )
    if isinstance(own.get("format"), int) and own["format"] > FORMAT:
        raise CheckpointError(
            f"{path} has format {own['format']}; this unitrain reads up to {FORMAT}.",
            hint=f"pip install --upgrade {DISTRIBUTION}",
        )
    wrong = misfit(own, KEY)
    if wrong is not None:
        raise _not_as_written(path, wrong)
    return own


def _require_same_names(path: Path, job: FitJob, names: dict[str, Any]) -> None:
    given = {"optimizers": list(job.optimizers), "schedules": [schedule.optimizer_name for schedule in job.schedules]}
    for what, expected in given.items():
        if names[what] != expected:
            raise CheckpointError(
                f"{path} has the {what} {names[what]}, but the spec has {expected}.", hint="resume with the same spec."
            )


def _load_optimizers(path: Path, pairs: Sequence[tuple[Optimizer, dict[str, Any]]]) -> None:
    for optimizer, state in pairs:
        with _fitting(path, optimizer):
            known = optimizer.param_groups
            load_optimizer(optimizer, _in_parts(path, optimizer, state))
            require_usable(optimizer, state, known)


@contextmanager
def _fitting(path: Path, one: Any) -> Iterator[None]:
    """Turn an error of loading a state into ``one``, which may be of a user's class, into a CheckpointError."""
    try:
        yield
    except (UnitrainError, Warning):
        raise
    except Exception as error:
        reason = error if isinstance(error, ValueError) else repr(error)
        raise CheckpointError(
            f"{path}: the state does not fit {type(getattr(one, 'called', one)).__name__}: {reason}",
            hint="resume with the same spec.",
        ) from error


def _in_parts(path: Path, optimizer: Optimizer, state: dict[str, Any]) -> dict[str, Any]:
    """Return an optimizer's state, sharded like its parameters."""
    parameters = all_parameters(optimizer)
    if not any(map(is_part, parameters)):
        return state
    changed = {
        index: {name: _like(path, parameters[index], name, value) for name, value in one.items()}
        for index, one in state["state"].items()
    }
    return {**state, "state": changed}


def _like(path: Path, parameter: Tensor, name: str, value: Any) -> Any:
    if not isinstance(value, Tensor) or value.dim() == 0:
        return value
    if value.shape != parameter.shape:
        raise CheckpointError(
            f"{path}: optimizer state {name!r} has shape {tuple(value.shape)}, not its parameter's"
            f" {tuple(parameter.shape)}; it cannot be re-sharded.",
            hint='resume with strategy="ddp".',
        )
    return part_like(parameter, value)


def _load_callbacks(path: Path, callbacks: Mapping[str, Callback], states: dict[str, Any]) -> None:
    for name, callback in callbacks.items():
        if name in states:
            with _fitting(path, callback):
                _require_alike(callback, states[name], callback.state_dict)
                callback.load_state_dict(copy.deepcopy(states[name]))
    left = [name for name, state in states.items() if state not in (None, {}, []) and name not in callbacks]
    if left:
        warnings.warn(f"{path} contains state for callbacks not in this run: {', '.join(left)}.", stacklevel=2)


def position(source: DataSource, progress: Progress) -> Position:
    """Return where the loader of an interrupted epoch continues."""
    generators, own = source.generators, source.own_random

    def snapshot(state: dict[str, Any]) -> RngSnapshot:
        return RngSnapshot.from_state_dict(state, generators, own)

    ahead = progress.rng_before_ahead
    return Position(
        skip=progress.in_epoch,
        at_iter=snapshot(progress.rng_at_iter or {}),
        before_ahead=None if ahead is None else snapshot(ahead),
        now=snapshot(progress.rng or {}),
        loader=progress.loader,
    )


def take_up(progress: Progress, job: FitJob) -> None:
    """Restore random states, pending gradients and the data's state between epochs, after FIT_START."""
    holder = None if progress.midway or progress.loader is None else keeper(job.train.loader, midway=False)
    if holder is not None:
        holder.load_state_dict(copy.deepcopy(progress.loader))
    # within an epoch, the data's own come back when the data is read: one that it made since must not be there before
    own = None if progress.midway else job.train.own_random
    RngSnapshot.from_state_dict(progress.rng or {}, job.train.generators, own).restore()
    own_of_validation(job).put_back(progress.val_rng or {})
    if progress.accumulate is not None and job.hub.context is not None:
        job.hub.context.accumulate_grad_batches = progress.accumulate[1]
    for parameter in job.spec.model.parameters():
        parameter.grad = None  # of another run of the same model
    if progress.gradients is None:
        return
    with nullcontext() if job.sharded is None else job.sharded.gathered():
        for name, parameter in job.spec.model.named_parameters():
            if name in progress.gradients:
                parameter.grad = progress.gradients[name].to(parameter)
