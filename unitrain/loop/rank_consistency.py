"""Compares settings across processes before training, because mismatches would hang."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any

from unitrain.errors import ConfigError, DataError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from torch import nn
    from torch.optim import Optimizer

    from unitrain.callbacks import Callback
    from unitrain.config import TrainerConfig
    from unitrain.data.sources import DataSource
    from unitrain.distributed.collectives import Collectives
    from unitrain.optim.schedules import Schedule
    from unitrain.spec import TrainSpec

_OWN = frozenset({"devices", "callbacks", "loggers", "default_root_dir", "enable_progress_bar", "native", "profiler"})
"""Options that may differ between processes, or that are compared by their effect."""

_SHOWN = 4
"""The maximum number of differences in a message."""

Facts = dict[str, str]


def require_same_model(model: nn.Module, team: Collectives) -> None:
    """Compare the model's tensors.

    Raises:
        ConfigError: On every process, if the models differ.
    """
    if team.size == 1:
        return
    facts = {f"the buffer {name!r}": _tensor(value) for name, value in model.named_buffers()}
    for name, value in model.named_parameters():
        facts[f"the parameter {name!r}"] = _tensor(value) + ("" if value.requires_grad else " (frozen)")
    _require_same(facts, team)


def _tensor(value: Any) -> str:
    return f"{tuple(value.shape)} of {value.dtype}"


def require_same_fit(
    config: TrainerConfig,
    spec: TrainSpec,
    team: Collectives,
    *,
    optimizers: Mapping[str, Optimizer],
    schedules: Sequence[Schedule],
    callbacks: Iterable[Callback],
    data: tuple[DataSource, Sequence[DataSource]],
) -> None:
    """Compare everything that determines what processes exchange, and how often.

    Args:
        config: The trainer's arguments.
        spec: The spec of the fit.
        team: The processes that train it.
        optimizers: The optimizers by name.
        schedules: The learning-rate schedules.
        callbacks: The callbacks in order.
        data: This process's share of the training and validation data.

    Raises:
        ConfigError: On every process, if anything differs; the message says what, and on which ranks.
        DataError: If the numbers of training batches differ.
    """
    if team.size == 1:
        return
    facts = {f"the option {one.name}": repr(getattr(config, one.name)) for one in fields(config)}
    facts = {name: value for name, value in facts.items() if name.split()[-1] not in _OWN}
    facts |= dict(_of_optimizers(optimizers))
    facts["the schedules"] = ", ".join(f"{one.kind} {one.rule}" for one in schedules) or "none"
    facts["the callbacks"] = ", ".join(type(one).__name__ for one in callbacks)
    facts["the metrics"] = ", ".join(spec.metrics or ()) or "none"
    facts["automatic_optimization"] = str(spec.automatic_optimization)
    for name in ("training_step", "validation_step"):
        facts[name] = _name_of(getattr(spec, name))
    facts["validation data"] = ", ".join(source.name or "some" for source in data[1]) or "none"
    _require_same(facts, team)
    _require_same_length(data[0].length, team)


def _of_optimizers(optimizers: Mapping[str, Optimizer]) -> Iterator[tuple[str, str]]:
    for name, optimizer in optimizers.items():
        yield f"the optimizer {name!r}", type(optimizer).__name__
        for index, group in enumerate(optimizer.param_groups):
            said = [f"{key}={value}" for key, value in group.items() if isinstance(value, (int, float, str, tuple))]
            yield f"group {index} of the optimizer {name!r}", f"{len(group['params'])} parameters, {', '.join(said)}"


def _name_of(step: Any) -> str:
    return "none" if step is None else str(getattr(step, "__qualname__", type(step).__qualname__))


def _require_same(own: Facts, team: Collectives) -> None:
    everybodys: list[Facts] = team.all_gather_object(own)
    first = everybodys[0]
    differing = [
        f"{name} is {first.get(name, 'missing')} on rank 0 and {facts.get(name, 'missing')} on rank {rank}"
        for rank, facts in enumerate(everybodys)
        for name in dict.fromkeys((*first, *facts))
        if first.get(name) != facts.get(name)
    ]
    if differing:
        more = len(differing) - _SHOWN
        raise ConfigError(
            f"the processes have different settings: {'; '.join(differing[:_SHOWN])}"
            f"{f'; and {more} more' if more > 0 else ''}.",
            hint="create the spec and the trainer with the same arguments and the same random seed on each rank.",
        )


def _require_same_length(own: int | None, team: Collectives) -> None:
    lengths = team.all_gather_object(own)
    if len(set(lengths)) > 1:
        raise _uneven({rank: "an unknown number of" if one is None else str(one) for rank, one in enumerate(lengths)})


def require_same_end(team: Collectives, done: int, *, last: bool) -> None:
    """Compare whether the current batch is the last one of the epoch, for loaders without a length.

    Args:
        team: The processes that train.
        done: Number of batches of the epoch, including this one.
        last: Whether it is the last one on this process.

    Raises:
        DataError: On every process, if one has fewer batches than another.
    """
    if team.size > 1 and all(team.all_reduce_max([last, not last])):
        ends = team.all_gather_object(last)
        raise _uneven({rank: str(done) if end else f"more than {done}" for rank, end in enumerate(ends)})


def _uneven(lengths: dict[int, str]) -> DataError:
    said = ", ".join(f"rank {rank} has {length}" for rank, length in lengths.items())
    return DataError(
        f"the processes have different numbers of training batches in an epoch: {said}, which would deadlock.",
        hint="OwnBatches must yield the same number on each rank: drop the surplus, or use ShardedBatches.",
    )
