"""When a learning-rate schedule of ``configure_optimizers`` steps."""

# ruff: noqa: SLF001 - what a Trainer keeps has Lightning's private names

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unitrain_bridges.lightning.trainer_protocol import ModuleTrainer

_STRICT = (
    "ReduceLROnPlateau conditioned on metric {key} which is not available. Available metrics are: {there}."
    " Condition can be set using `monitor` key in lr scheduler dict"
)
_LENIENT = (
    "ReduceLROnPlateau conditioned on metric {key} which is not available but strict is set to `False`."
    " Skipping learning rate update."
)


def step_schedules(loop: Any, interval: str, *, plateau: bool) -> None:
    """Step the schedules whose turn it is.

    Args:
        loop: The counters of the epoch.
        interval: ``"step"`` or ``"epoch"``.
        plateau: Those that look at a metric, which follow the validation; else the others, which precede it.

    Raises:
        MisconfigurationException: If a strict one's metric is not there.
    """
    trainer = loop.trainer
    if not trainer.lr_scheduler_configs or not trainer.lightning_module.automatic_optimization:
        return
    if interval == "step" and loop._should_accumulate():
        return
    count = 1 + (loop.batch_idx if interval == "step" else trainer.current_epoch)
    for config in trainer.lr_scheduler_configs:
        if plateau != config.reduce_on_plateau or config.interval != interval or count % config.frequency:
            continue
        value = _monitored(trainer, config) if config.reduce_on_plateau else None
        if config.reduce_on_plateau and value is None:
            continue
        loop.scheduler_progress.increment_ready()
        trainer.hooks.module("lr_scheduler_step", config.scheduler, value)
        loop.scheduler_progress.increment_completed()


def _monitored(trainer: ModuleTrainer, config: Any) -> Any:
    value = trainer.callback_metrics.get(config.monitor)
    if value is None and config.strict:
        there = list(trainer.callback_metrics)
        raise trainer.parts.MisconfigurationException(_STRICT.format(key=config.monitor, there=there))
    if value is None:
        trainer.parts.rank_zero_warn(_LENIENT.format(key=config.monitor), category=RuntimeWarning)
    return value
