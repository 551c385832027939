"""Captures the state of a run in a checkpoint."""

from __future__ import annotations

import copy
import platform
from contextlib import nullcontext
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from unitrain.checkpoint.gate import admitted
from unitrain.checkpoint.hparams import plain_hparams
from unitrain.checkpoint.layout import FORMAT, KEY, LAYOUT_VERSION, PREFIX, VERSION, Counts, loops
from unitrain.checkpoint.outside_model import extra_of_loss, require_in_model
from unitrain.checkpoint.resume_checks import kinds
from unitrain.distributed.strategies.dtensors import is_part
from unitrain.run.hub import Event
from unitrain.utilities.version import __version__

if TYPE_CHECKING:
    from collections.abc import Iterator

    from unitrain.backends.protocol import FitJob
    from unitrain.data.sources import DataSource
    from unitrain.distributed.strategies.fsdp import Sharded
    from unitrain.run.progress import Progress


def capture(job: FitJob, progress: Progress) -> dict[str, Any]:
    """Return the content of a checkpoint, gathered from all processes. Tensors are not copied, the rest is.

    Sharded tensors stay sharded.

    Raises:
        CheckpointError: If it contains anything that could not be read back; the message names the place.
    """
    require_in_model(job.spec.model, job.optimizers)
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
        VERSION: LAYOUT_VERSION,
        "state_dict": {f"{PREFIX}{name}": value for name, value in _weights(job.spec.model).items()},
        "loops": loops(counts),
        "callbacks": {},
        "optimizer_states": [optimizer.state_dict() for optimizer in job.optimizers.values()],
        "lr_schedulers": [schedule.scheduler.state_dict() for schedule in job.schedules],
        KEY: {
            "format": FORMAT,
            "versions": {"unitrain": __version__, "torch": str(torch.__version__), "python": platform.python_version()},
            "names": _names(job),
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


def attempted(job: FitJob, progress: Progress) -> dict[str, Any] | Exception:
    """Return the result of ``capture``, or its error, raised only if a file is written."""
    try:
        return capture(job, progress)
    except Exception as error:  # noqa: BLE001 - also of the state of the user's own objects
        return error


def required(content: dict[str, Any] | Exception) -> dict[str, Any]:
    """Return the content that ``attempted`` captured.

    Raises:
        Exception: The error that it caught.
    """
    if isinstance(content, Exception):
        raise content
    return content


def _names(job: FitJob) -> dict[str, Any]:
    return {
        "optimizers": list(job.optimizers),
        "schedules": [schedule.optimizer_name for schedule in job.schedules],
        "metrics": list(job.spec.metrics or {}),
        "kinds": kinds(job),
    }


def set_apart(content: dict[str, Any]) -> dict[str, Any]:
    """Return a copy of ``content`` with its tensors in host memory; on the CPU, its file has the same bytes.

    Tensors that share memory share it in the copy too, because a file contains it once.
    """
    memo: dict[Any, Any] = {}
    for tensor in _tensors(content):
        if id(tensor) not in memo:
            memo[id(tensor)] = _copied(tensor, memo)
    return copy.deepcopy(content, memo)


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (dict, list, tuple)):
        for one in value.values() if isinstance(value, dict) else value:
            yield from _tensors(one)


def _copied(value: Tensor, memo: dict[Any, Any]) -> Tensor:
    if is_part(value) or value.layout is not torch.strided or value.is_nested:
        return value.detach().clone()
    if not value.is_cpu:
        place = (value.data_ptr(), value.device, value.dtype, value.shape, value.stride())
        if place not in memo or not value.numel():
            memo[place] = value.detach().cpu()
        found: Tensor = memo[place]
        return found
    made: Tensor = copy.deepcopy(value.detach(), memo)  # with all of its storage, which a file has too
    if isinstance(value, nn.Parameter):
        return nn.Parameter(made, requires_grad=value.requires_grad)
    return made.requires_grad_(value.requires_grad)


def require_writable(job: FitJob) -> None:
    """Refuse, before training, state that the first checkpoint of ``job`` could not store.

    Raises:
        CheckpointError: If an optimizer, a schedule or an extra state (of the loss too) contains it; the message names
            the place.
    """
    require_in_model(job.spec.model, job.optimizers)
    states = _weights(job.spec.model).items()
    admitted(
        {
            "state_dict": {f"{PREFIX}{name}": value for name, value in states if not isinstance(value, Tensor)},
            "optimizer_states": [{"param_groups": one.state_dict()["param_groups"]} for one in job.optimizers.values()],
            "lr_schedulers": [schedule.scheduler.state_dict() for schedule in job.schedules],
            KEY: {"loss": extra_of_loss(job.spec.loss)},
        }
    )


def sources(job: FitJob) -> list[DataSource]:
    """Return the data of training and of validation."""
    return [job.train, *job.val]


def _order(job: FitJob) -> int | None:
    """Return the seed of the data's order, for training and validation."""
    return next((source.order_seed for source in sources(job) if source.order_seed is not None), None)


def _weights(model: nn.Module) -> dict[str, Any]:
    """Return the state of ``model``, with one tensor for all names of tied sharded parameters."""
    state = model.state_dict()
    first: dict[int, str] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if name in state and is_part(state[name]):
            state[name] = state[first.setdefault(id(parameter), name)]
    return state


def gradients(model: nn.Module, sharded: Sharded | None = None) -> dict[str, Tensor]:
    """Return the pending gradients of this process by parameter name; gradients of shards add up."""
    with nullcontext() if sharded is None else sharded.gathered():
        return {name: one.grad for name, one in model.named_parameters() if one.grad is not None}
