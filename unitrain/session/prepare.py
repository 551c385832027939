"""Validates user input and builds the job that a backend runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from unitrain.backends.features import refuse, require_spec
from unitrain.backends.protocol import EvalJob, Feature, FitJob, Stage
from unitrain.backends.registry import adapter_names, find_bridge
from unitrain.callbacks import EpochDecision, GradientAccumulationSchedule, ModelCheckpoint, prepare
from unitrain.checkpoint.capture import require_writable
from unitrain.checkpoint.outside_model import marks_of_loss
from unitrain.data.combined import separated
from unitrain.data.datamodules import opened, placement
from unitrain.data.loaders import named_loaders
from unitrain.data.sharding import shard
from unitrain.data.sources import make_source
from unitrain.distributed.options import FSDP, STRATEGIES
from unitrain.distributed.strategies.batchnorm import synchronized
from unitrain.distributed.strategies.fsdp import check_options, in_parts
from unitrain.errors import CheckpointError, ConfigError, SpecError, did_you_mean
from unitrain.loop.precision import SCALED, convert_model
from unitrain.loop.rank_consistency import require_same_fit, require_same_model
from unitrain.optim.optimizers import build_optimizers, needs_closure
from unitrain.optim.schedules import build_schedules
from unitrain.run.stopping import ValidationRule
from unitrain.session.distributed_refusals import require_shardable, require_together
from unitrain.session.fit_data import FitData, given_data, order_seed
from unitrain.session.monitors import require_monitors
from unitrain.spec import TrainSpec
from unitrain.utilities.files import require_folder
from unitrain.utilities.lazy_layers import require_values

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from unitrain.backends.protocol import Adapter
    from unitrain.callbacks import Callback
    from unitrain.config import TrainerConfig
    from unitrain.data.sources import DataSource
    from unitrain.distributed.collectives import Collectives
    from unitrain.distributed.strategies.fsdp import Sharded
    from unitrain.run.hub import EventHub
    from unitrain.spec import SpecOptions


@dataclass(frozen=True)
class Placement:
    """The device and the processes of a run.

    Attributes:
        device: The device of its tensors.
        team: The processes that run together.
    """

    device: torch.device
    team: Collectives


@contextmanager
def fit_job(
    adapter: Adapter,
    config: TrainerConfig,
    hub: EventHub,
    place: Placement,
    *,
    spec: TrainSpec,
    data: tuple[Any, Any],
    callbacks: Mapping[str, Callback],
) -> Iterator[FitJob]:
    """Yield the checked job of a fit, with its data open.

    Args:
        adapter: The backend of the run.
        config: How to train.
        hub: The hub whose events to fire.
        place: The device and the processes of the run.
        spec: The spec to train.
        data: The given training and validation data.
        callbacks: The callbacks by the name of their state in a checkpoint.

    Raises:
        UnitrainError: If anything about the fit is invalid.
    """
    spec.require_fit()
    with (
        opened(given_data(data[0], "train"), ("train", "val")) as loaders,
        closing(FitData(config, place.device, place.team, data, loaders)) as found,
    ):
        _check_validation(adapter, spec, config, found)
        _prepare(spec, config, place)
        job = FitJob(
            spec=spec,
            config=config,
            hub=hub,
            train=found.train,
            val=found.val,
            optimizers=build_optimizers(spec),
            schedules=(),
            device=place.device,
            callbacks=callbacks,
            team=place.team,
            reload=found.reload,
            rng_at_load=found.rng_at_load,
            loss_before=marks_of_loss(spec.loss, spec.model),
        )
        together = synchronized if config.sync_batchnorm and place.team.size > 1 else nullcontext
        with _own_groups(job):
            ready = _checked(adapter, job)
            with (
                together(spec.model),
                in_parts(spec.model, config, place.device, place.team, callbacks.values()) as sharded,
            ):
                yield ready if sharded is None else _on_parts(ready, sharded)


@contextmanager
def _own_groups(job: FitJob) -> Iterator[None]:
    """Restore the groups of the user's optimizers if no step was made: schedules change rates at the start."""
    begun = job.hub.state  # another one once the run has begun
    groups = [group for one in job.optimizers.values() for group in one.param_groups]
    before = [(group, dict(group), _tensors_of(group)) for group in groups]
    try:
        yield
    except BaseException:
        for group, values, tensors in before if job.hub.state is begun or job.hub.state.step == 0 else ():
            group.clear()
            group.update(values)
            for name, value in tensors.items():
                group[name].copy_(value)
        raise


def _tensors_of(group: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return copies of tensors that a schedule writes in place, such as a learning rate."""
    return {name: value.detach().clone() for name, value in group.items() if isinstance(value, Tensor)}


def _checked(adapter: Adapter, job: FitJob) -> FitJob:
    """Check ``job`` and return it with its schedules."""
    spec, config, callbacks = job.spec, job.config, job.callbacks.values()
    closure = any(map(needs_closure, job.optimizers.values()))
    _check_closures(adapter, config, spec, closure=closure)
    if job.team.size > 1:
        require_together(config, job.device, callbacks, closure=closure)
        require_shardable(config, spec)
    prepare(callbacks, spec, config, job.optimizers)
    schedules = build_schedules(spec, job.optimizers)
    rules = [schedule.rule for schedule in schedules]
    prefixes = [source.prefix for source in job.val]
    require_monitors(spec, config, rules, validated=prefixes, watched=_may_log(job.hub))
    require_same_fit(
        config,
        spec,
        job.team,
        optimizers=job.optimizers,
        schedules=schedules,
        callbacks=callbacks,
        data=(job.train, job.val),
    )
    ready = replace(job, schedules=schedules)
    keepers = [callback for callback in callbacks if isinstance(callback, ModelCheckpoint)]
    if keepers:
        if Feature.CHECKPOINTS not in adapter.features:
            raise refuse(adapter, Feature.CHECKPOINTS, "the callback ModelCheckpoint", "remove it.")
        require_writable(ready)
    for one in keepers:
        require_folder(CheckpointError, one.dirpath or Path(config.default_root_dir))
    return ready


def _on_parts(job: FitJob, sharded: Sharded) -> FitJob:
    """Return ``job`` with optimizers of the sharded parameters; the earlier ones served only for checks."""
    sharded.optimizers = optimizers = build_optimizers(job.spec)
    prepare(job.callbacks.values(), job.spec, job.config, optimizers)
    return replace(job, optimizers=optimizers, schedules=build_schedules(job.spec, optimizers), sharded=sharded)


def _prepare(spec: TrainSpec, config: TrainerConfig, place: Placement) -> None:
    """Move the model to its device and precision, with the weights of rank 0."""
    _place(spec, place.device)
    convert_model(spec.model, config.precision)
    if place.team.size > 1:
        require_values(spec.model, "training with several processes")
    require_same_model(spec.model, place.team)
    place.team.broadcast(spec.model.state_dict().values())


def _check_validation(adapter: Adapter, spec: TrainSpec, config: TrainerConfig, found: FitData) -> None:
    """Refuse validation data that cannot be used, and validation options without data."""
    _require_sanity_data(config, found.val)
    if found.val:
        if Feature.EVALUATION not in adapter.features:
            raise refuse(adapter, Feature.EVALUATION, "validation data", "remove it, or set limit_val_batches=0.")
        spec.require_evaluation()
        ValidationRule(config, found.train.length)


def _require_sanity_data(config: TrainerConfig, val: Sequence[DataSource]) -> None:
    """Refuse a sanity validation without data, or with data that can only be iterated once."""
    asked = f"num_sanity_val_steps={config.num_sanity_val_steps}"
    if not config.num_sanity_val_steps:
        return
    if not val:
        raise ConfigError(f"{asked} has no effect without validation data.", hint="num_sanity_val_steps=0")
    once = next((source for source in val if isinstance(source.loader, Iterator)), None)
    if once is not None:
        raise ConfigError(
            f"{asked} would consume the {once.label}, which can only be iterated once.",
            hint="num_sanity_val_steps=0, or pass a re-iterable loader.",
        )


@contextmanager
def eval_job(
    config: TrainerConfig, hub: EventHub, place: Placement, *, spec: TrainSpec, data: Any, stage: Stage
) -> Iterator[EvalJob]:
    """Yield the checked job of an evaluation or a prediction, with its data open; the arguments are as in ``fit_job``.

    Raises:
        UnitrainError: If there is nothing to evaluate, or no data.
    """
    if stage is not Stage.PREDICT:
        spec.require_evaluation()
    with opened(given_data(data, stage.value), (stage.value,)) as loaders:
        name, team = stage.value, place.team
        seed = order_seed(config, team)
        named = named_loaders(separated(given_data(loaders(name), name)), name)
        moved = partial(placement, place.device, data, prefetch=config.prefetch_to_device)
        sources = [
            make_source(shard(one, name, team, seed), name, config, moved(index), called)
            for index, (called, one) in enumerate(named.items())
        ]
        _prepare(spec, config, place)
        with _workers_ended(*sources):
            yield EvalJob(spec=spec, config=config, hub=hub, data=sources, stage=stage, device=place.device, team=team)


@contextmanager
def _workers_ended(*sources: DataSource) -> Iterator[None]:
    """End all worker processes of these loaders."""
    with ExitStack() as stack:
        for source in sources:
            stack.callback(source.workers.close, source.loader)
        yield


def check_native_names(config: TrainerConfig, adapter: Adapter) -> None:
    """Refuse arguments for an unknown framework.

    Raises:
        ConfigError: If a name is unknown; the message suggests the nearest one.
    """
    known = {*adapter_names(), adapter.name, *(strategy.name for strategy in STRATEGIES.values())}
    for name, options in (config.native or {}).items():
        if name not in known:
            raise ConfigError(f"native= contains the unknown framework {name!r}.", hint=did_you_mean(name, known))
        if name in STRATEGIES and name != config.plan.name:
            raise ConfigError(
                f"native={{{name!r}: ...}} has no effect: strategy={config.plan.name!r}.", hint=f"strategy={name!r}"
            )
        if name == FSDP.name:
            check_options(options)


def _may_log(hub: EventHub) -> bool:
    """Return whether a handler might log its own values; callbacks that only decide do not."""
    return any(not isinstance(getattr(handler, "__self__", None), EpochDecision) for handler in hub.handlers)


def _place(spec: TrainSpec, device: torch.device) -> None:
    """Move the model and the loss to ``device``.

    Raises:
        SpecError: If the loss has parameters, which no optimizer would train.
    """
    spec.model.to(device)
    if isinstance(spec.loss, nn.Module):
        if any(parameter.requires_grad for parameter in spec.loss.parameters()):
            raise SpecError(
                f"the loss {type(spec.loss).__name__} has parameters, which would never be trained: the optimizer"
                f" only gets those of the model.",
                hint="make it part of the model and use it in a training_step, or set requires_grad=False.",
            )
        spec.loss.to(device)


def _check_closures(adapter: Adapter, config: TrainerConfig, spec: TrainSpec, *, closure: bool) -> None:
    require_spec(adapter, spec, closure=closure)
    if closure and not spec.automatic_optimization:
        raise ConfigError(
            "an optimizer that needs a closure (LBFGS) cannot be stepped by run.step() in manual optimization.",
            hint="automatic_optimization=True evaluates the closure for it.",
        )
    if closure and config.precision == SCALED:
        raise ConfigError(
            f"precision={SCALED!r} checks the gradients before a step, but an optimizer with a closure (LBFGS)"
            f" computes them inside its step.",
            hint='precision="bf16-mixed" needs no scaling.',
        )
    what = _accumulation(adapter, config, spec)
    if not what:
        return
    if not spec.automatic_optimization:
        raise ConfigError(
            f"{what} has no effect in manual optimization.",
            hint="call run.step() in the training step when needed.",
        )
    if closure:
        raise ConfigError(
            f"{what}: an optimizer with a closure (LBFGS) clears the gradients itself.",
            hint="use accumulate_grad_batches=1 and larger batches.",
        )


def _accumulation(adapter: Adapter, config: TrainerConfig, spec: TrainSpec) -> str:
    """Describe what asks for accumulation; return an empty string if nothing does."""
    given = (*spec.callbacks, *config.callbacks)
    schedules = [one for one in given if isinstance(one, GradientAccumulationSchedule)]
    number = config.accumulate_grad_batches
    if not schedules:
        return "" if number == 1 else f"accumulate_grad_batches={number}"
    if Feature.ACCUMULATION not in adapter.features:
        raise refuse(adapter, Feature.ACCUMULATION, "GradientAccumulationSchedule", "remove it.")
    if number != 1 or len(schedules) > 1:
        other = f"accumulate_grad_batches={number}" if number != 1 else "another one"
        raise ConfigError(
            f"GradientAccumulationSchedule and {other} both set the number of batches to accumulate.",
            hint="use only one of them.",
        )
    return "GradientAccumulationSchedule"


def with_fields(model: Any, fields: SpecOptions) -> Any:
    """Return the first argument of ``fit`` for the arguments of ``train``.

    Args:
        model: A TrainSpec, a framework's own code, or a plain module.
        fields: The other fields of a TrainSpec, with a plain module.

    Raises:
        SpecError: If fields come with a TrainSpec, or ``model`` is none of the three.
    """
    if isinstance(model, TrainSpec):
        if fields:
            raise SpecError(
                f"train() takes keyword fields only with a plain module; got a TrainSpec and {', '.join(fields)}=.",
                hint="dataclasses.replace(spec, ...)",
            )
        return model
    if not fields and find_bridge(model) is not None:
        return model
    if not isinstance(model, nn.Module):
        raise SpecError(f"train() takes a TrainSpec or a torch.nn.Module; got {model!r}.")
    return TrainSpec(model=model, **fields)
