"""What is in a checkpoint, how it is taken from a run and how it is put back."""

from __future__ import annotations

import copy
import platform
import warnings
from contextlib import nullcontext
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.parameter import is_lazy

from unitrain._version import __version__
from unitrain.checkpoint import sharded_files as parts
from unitrain.checkpoint.changed import fitted
from unitrain.checkpoint.gate import admitted, restored
from unitrain.checkpoint.hparams import plain_hparams
from unitrain.checkpoint.layout import KEY, LIGHTNING_VERSION, PREFIX, VERSION, Counts, loops
from unitrain.checkpoint.optimizer_states import load_optimizer
from unitrain.checkpoint.weights import SUFFIX, unpacked
from unitrain.data.position import Position, keeper
from unitrain.distributed.strategies.dtensors import is_part, part_like
from unitrain.errors import DISTRIBUTION, CheckpointError
from unitrain.optim.optimizers import all_parameters
from unitrain.run.hub import Event
from unitrain.run.progress import Progress, shared_out
from unitrain.utilities.files import user_file
from unitrain.utilities.rng import RngSnapshot

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import nn
    from torch.optim import Optimizer

    from unitrain.backends.protocol import FitJob
    from unitrain.callbacks import Callback
    from unitrain.data.sources import DataSource
    from unitrain.distributed.strategies.fsdp import Sharded
    from unitrain.run.hub import EventHub

FORMAT = 1


def capture(job: FitJob, progress: Progress) -> dict[str, Any]:
    """Return the content of a checkpoint, for which all processes are asked. Tensors are not copied, the rest is.

    What is in parts is still so.

    Raises:
        CheckpointError: If it holds what could not be read back; it names the place.
    """
    ranks = job.team.all_gather_object(
        {one.name: copy.deepcopy(getattr(progress, one.name)) for one in fields(progress)}
    )
    counts = Counts(
        epoch=progress.epochs_done if progress.midway else max(progress.epochs_done - 1, 0),
        batches=job.hub.state.batch,
        batches_in_epoch=progress.in_epoch,
        steps=job.hub.occurred(Event.OPTIMIZER_STEP),
        midway=progress.midway,
        validated=job.hub.occurred(Event.VAL_END) > 0,
    )
    content = {
        "epoch": counts.epoch,
        "global_step": counts.steps,
        VERSION: LIGHTNING_VERSION,
        "state_dict": {f"{PREFIX}{name}": value for name, value in _weights(job.spec.model).items()},
        "loops": loops(counts),
        "callbacks": {},
        "optimizer_states": [optimizer.state_dict() for optimizer in job.optimizers.values()],
        "lr_schedulers": [schedule.scheduler.state_dict() for schedule in job.schedules],
        KEY: {
            "format": FORMAT,
            "versions": {"unitrain": __version__, "torch": str(torch.__version__), "python": platform.python_version()},
            "names": {
                "optimizers": list(job.optimizers),
                "schedules": [schedule.optimizer_name for schedule in job.schedules],
                "metrics": list(job.spec.metrics or {}),
            },
            "progress": ranks[0],
            "ranks": ranks[1:],
            "run": {"epoch_length": job.train.length, "max_epochs": job.config.epochs, "order": _order(job)},
            "schedule_steps": [schedule.steps for schedule in job.schedules],
            "hub": job.hub.state_dict(),
            "callbacks": {name: callback.state_dict() for name, callback in job.callbacks.items()},
            "hparams": plain_hparams(job.spec.hparams),
        },
    }
    return admitted(content)


def require_writable(job: FitJob) -> None:
    """Refuse, before training, what the first checkpoint of ``job`` could not keep.

    Raises:
        CheckpointError: If it is in an optimizer, a schedule or the extra state of a module; it names the place.
    """
    states = _weights(job.spec.model).items()
    admitted(
        {
            "state_dict": {f"{PREFIX}{name}": value for name, value in states if not isinstance(value, Tensor)},
            "optimizer_states": [{"param_groups": one.state_dict()["param_groups"]} for one in job.optimizers.values()],
            "lr_schedulers": [schedule.scheduler.state_dict() for schedule in job.schedules],
            KEY: {},
        }
    )


def restore(path: Path, job: FitJob) -> Progress:
    """Put the checkpoint at ``path`` into ``job``'s model, optimizers, schedules, hub and callbacks.

    Returns:
        Where the run goes on.

    Raises:
        CheckpointError: If the file is damaged, from a newer format, of another model or not unitrain's.
    """
    content = parts.read_any(path)
    own = own_part(path, content)
    _load_weights(path, job.spec.model, weights_of(content))
    _load_optimizers(path, job, content, own["names"])
    for schedule, state, steps in zip(job.schedules, content["lr_schedulers"], own["schedule_steps"], strict=True):
        schedule.scheduler.load_state_dict(state)
        schedule.steps = steps
    job.hub.load_state_dict(own["hub"])
    _load_callbacks(path, job.callbacks, own["callbacks"])
    if own["run"].get("order") is not None:
        for source in _sources(job):
            source.draw_order(own["run"]["order"])
    progress = fitted(path, job, own, shared_out([own["progress"], *own.get("ranks", [])], job.team))
    return progress if progress.rng is not None else _with_own_rng(progress, job)


def _sources(job: FitJob) -> list[DataSource]:
    return [job.train, *job.val]


def _order(job: FitJob) -> int | None:
    """Return what the order of the data is drawn from, for training and for validation alike."""
    return next((source.order_seed for source in _sources(job) if source.order_seed is not None), None)


def _with_own_rng(progress: Progress, job: FitJob) -> Progress:
    """Return ``progress``, of a file that another program wrote, with this run's random numbers as they are."""
    rng = RngSnapshot(job.train.generators).state_dict()
    return replace(progress, rng=rng, rng_at_iter=rng if progress.midway else None)


def restore_result(
    content: dict[str, Any],
    model: nn.Module,
    optimizers: Mapping[str, Optimizer],
    hub: EventHub,
    callbacks: Mapping[str, Callback],
) -> None:
    """Put the end of a run in other processes into the objects of this one."""
    own = restored(content)[KEY]
    model.load_state_dict(weights_of(content))
    for optimizer, state in zip(optimizers.values(), content["optimizer_states"], strict=True):
        load_optimizer(optimizer, state)
    hub.load_state_dict(own["hub"])
    for name, callback in callbacks.items():
        callback.load_state_dict(copy.deepcopy(own["callbacks"].get(name, {})))


def own_part(path: Path, content: dict[str, Any]) -> dict[str, Any]:
    """Return what only unitrain knows of the checkpoint.

    Raises:
        CheckpointError: If it is not unitrain's, or of a newer format.
    """
    own = content.get(KEY)
    if not isinstance(own, dict):
        raise CheckpointError(
            f"{path} was not written by unitrain, so where its run stood is not in it.",
            hint="`unitrain convert FILE NEW --to portable` makes one to go on with;"
            " unitrain.load_weights(file) takes the weights alone.",
        )
    if own["format"] > FORMAT:
        raise CheckpointError(
            f"{path} has format {own['format']}; this unitrain reads up to {FORMAT}.",
            hint=f"pip install --upgrade {DISTRIBUTION}",
        )
    return own


def weights_of(content: dict[str, Any]) -> dict[str, Tensor]:
    """Return the weights in the content of a checkpoint, by the model's own names."""
    return {name.removeprefix(PREFIX): value for name, value in content["state_dict"].items()}


def _load_weights(path: Path, model: nn.Module, weights: dict[str, Tensor]) -> None:
    there = model.state_dict()
    lazy = {name for name, value in there.items() if is_lazy(value)}  # these take the shapes of the file
    expected = {name: tuple(one.shape) for name, one in there.items() if isinstance(one, Tensor) and name not in lazy}
    found = {name: tuple(one.shape) for name, one in weights.items() if isinstance(one, Tensor) and name not in lazy}
    if expected != found:
        differing = sorted({*expected.items()} ^ {*found.items()})[:6]
        raise CheckpointError(
            f"{path} is of another model than {type(model).__name__}; among what differs:"
            f" {', '.join(f'{name} {shape}' for name, shape in differing)}.",
            hint="build the model as it was when the checkpoint was written.",
        )
    model.load_state_dict({name: part_like(there[name], value) for name, value in weights.items()})


def _weights(model: nn.Module) -> dict[str, Any]:
    """Return the state of ``model``; of tied parameters in parts, one tensor for all their names."""
    state = model.state_dict()
    first: dict[int, str] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if name in state and is_part(state[name]):
            state[name] = state[first.setdefault(id(parameter), name)]
    return state


def _load_optimizers(path: Path, job: FitJob, content: dict[str, Any], names: dict[str, Any]) -> None:
    given = {"optimizers": list(job.optimizers), "schedules": [schedule.optimizer_name for schedule in job.schedules]}
    for what, expected in given.items():
        if names[what] != expected:
            raise CheckpointError(
                f"{path} has the {what} {names[what]}, and the spec has {expected}.", hint="resume with the same spec."
            )
    for optimizer, state in zip(job.optimizers.values(), content["optimizer_states"], strict=True):
        try:
            load_optimizer(optimizer, _in_parts(path, optimizer, state))
        except ValueError as error:
            raise CheckpointError(
                f"{path}: the state does not fit {type(optimizer).__name__}: {error}", hint="resume with the same spec."
            ) from error


def _in_parts(path: Path, optimizer: Optimizer, state: dict[str, Any]) -> dict[str, Any]:
    """Return the state of an optimizer in the parts of its parameters, where they are in parts."""
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
            f"{path}: the optimizer keeps {name!r} of the shape {tuple(value.shape)} for a parameter of the shape"
            f" {tuple(parameter.shape)}; how its parts belong to the processes is not known.",
            hint='strategy="ddp" goes on with it.',
        )
    return part_like(parameter, value)


def _load_callbacks(path: Path, callbacks: Mapping[str, Callback], states: dict[str, Any]) -> None:
    for name, callback in callbacks.items():
        if name in states:
            callback.load_state_dict(copy.deepcopy(states[name]))
    left = [name for name, state in states.items() if state and name not in callbacks]
    if left:
        warnings.warn(f"{path} holds states of callbacks that are not there now: {', '.join(left)}.", stacklevel=2)


def gradients(model: nn.Module, sharded: Sharded | None = None) -> dict[str, Tensor]:
    """Return the pending gradients of this process by parameter name; those of parts add up in the whole."""
    with nullcontext() if sharded is None else sharded.gathered():
        return {name: one.grad for name, one in model.named_parameters() if one.grad is not None}


def position(source: DataSource, progress: Progress) -> Position:
    """Return where the loader of an interrupted epoch goes on."""
    generators = source.generators

    def snapshot(state: dict[str, Any]) -> RngSnapshot:
        return RngSnapshot.from_state_dict(state, generators)

    ahead = progress.rng_before_ahead
    return Position(
        skip=progress.in_epoch,
        at_iter=snapshot(progress.rng_at_iter or {}),
        before_ahead=None if ahead is None else snapshot(ahead),
        now=snapshot(progress.rng or {}),
        loader=progress.loader,
    )


def take_up(progress: Progress, job: FitJob) -> None:
    """Put back the random numbers and the pending gradients, once FIT_START is over, and the data between epochs."""
    holder = None if progress.midway or progress.loader is None else keeper(job.train.loader, midway=False)
    if holder is not None:
        holder.load_state_dict(copy.deepcopy(progress.loader))
    RngSnapshot.from_state_dict(progress.rng or {}, job.train.generators).restore()
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


def load_model(path: Path, model: nn.Module) -> None:
    """Put the weights in the checkpoint at ``path`` into ``model``.

    Raises:
        CheckpointError: If the file is damaged or of another model.
    """
    _load_weights(path, model, load_weights(path))


def load_weights(path: str | Path) -> dict[str, Tensor]:
    """Return the model's weights in a checkpoint, by the model's own names; no framework is needed.

    Args:
        path: A file or folder written by unitrain, a file of Lightning's, or a .safetensors file.

    Raises:
        CheckpointError: If it is damaged or holds no weights.

    Example:
        >>> trainer = UnifiedTrainer("reference", max_epochs=1, enable_progress_bar=False)
        >>> _ = trainer.fit(spec, batches)
        >>> trainer.save_checkpoint("run.ckpt")
        >>> load_weights("run.ckpt")["weight"].shape
        torch.Size([1, 4])
    """
    path = user_file(path, "path", CheckpointError)
    if path.suffix == SUFFIX:
        return unpacked(path)
    content = parts.read_any(path)
    if not isinstance(content.get("state_dict"), dict):
        raise CheckpointError(f"{path} holds no state_dict.", hint="give a checkpoint of unitrain or Lightning.")
    return weights_of(content)
