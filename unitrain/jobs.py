"""From what a user gives to a job that a backend can run: everything is checked here, before anything runs."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from unitrain.data import make_source, opened, placement
from unitrain.errors import ConfigError, DataError
from unitrain.features import require_spec
from unitrain.limits import ValidationRule
from unitrain.monitors import require_monitors
from unitrain.optimization import build_optimizers, build_schedules, needs_closure
from unitrain.protocol import EvalJob, FitJob, Stage

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch

    from unitrain.config import TrainerConfig
    from unitrain.events import EventHub
    from unitrain.protocol import Adapter
    from unitrain.spec import TrainSpec


@contextmanager
def fit_job(
    adapter: Adapter,
    config: TrainerConfig,
    hub: EventHub,
    *,
    spec: TrainSpec,
    data: tuple[Any, Any],
    device: torch.device,
) -> Iterator[FitJob]:
    """Yield the checked job of a fit, with its data open.

    Args:
        adapter: Who is to run it.
        config: How to train.
        hub: Whose events to fire.
        spec: What to train.
        data: The training and validation data as given.
        device: Where to run.

    Raises:
        UnitrainError: If anything about it cannot be trained.
    """
    spec.require_fit()
    train, val = data
    with opened(_given(train, "train"), ("train", "val")) as loaders:
        place = placement(device, train)
        train_source = make_source(_given(loaders["train"], "train"), "train", config, place)
        val_loader = val if val is not None else loaders["val"]
        val_source = None if val_loader is None else make_source(val_loader, "val", config, place, required=False)
        if val_source is not None:
            spec.require_evaluation()
            ValidationRule(config, train_source.length)
        spec.model.to(device)
        optimizers = build_optimizers(spec)
        _check_closures(adapter, config, spec, closure=any(map(needs_closure, optimizers.values())))
        schedules = build_schedules(spec, optimizers)
        rules = [schedule.rule for schedule in schedules]
        require_monitors(spec, config, rules, validates=val_source is not None, watched=hub.watched)
        yield FitJob(
            spec=spec,
            config=config,
            hub=hub,
            train=train_source,
            val=val_source,
            optimizers=optimizers,
            schedules=schedules,
            device=device,
        )


@contextmanager
def eval_job(
    config: TrainerConfig, hub: EventHub, *, spec: TrainSpec, data: Any, stage: Stage, device: torch.device
) -> Iterator[EvalJob]:
    """Yield the checked job of an evaluation or a prediction, with its data open; the arguments are as in ``fit_job``.

    Raises:
        UnitrainError: If there is nothing to evaluate, or nothing to evaluate on.
    """
    if stage is not Stage.PREDICT:
        spec.require_evaluation()
    with opened(_given(data, stage.value), (stage.value,)) as loaders:
        source = make_source(_given(loaders[stage.value], stage.value), stage.value, config, placement(device, data))
        spec.model.to(device)
        yield EvalJob(spec=spec, config=config, hub=hub, data=source, stage=stage, device=device)


def _given(data: Any, stage: str) -> Any:
    if data is None:
        raise DataError(
            f"there is no {stage} data.", hint="give a DataLoader, or a DataSpec or datamodule that has one."
        )
    return data


def _check_closures(adapter: Adapter, config: TrainerConfig, spec: TrainSpec, *, closure: bool) -> None:
    require_spec(adapter, spec, closure=closure)
    if config.accumulate_grad_batches == 1:
        return
    if not spec.automatic_optimization:
        raise ConfigError(
            f"accumulate_grad_batches={config.accumulate_grad_batches} has no effect in manual optimization.",
            hint="call run.step() in the training step when it is time.",
        )
    if closure:
        raise ConfigError(
            f"accumulate_grad_batches={config.accumulate_grad_batches}: an optimizer with a closure (LBFGS) clears the"
            " gradients by itself.",
            hint="accumulate_grad_batches=1 and larger batches.",
        )
