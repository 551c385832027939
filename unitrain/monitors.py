"""Refuses, before training, to watch a metric that no one will log."""

from __future__ import annotations

from typing import TYPE_CHECKING

from unitrain.callbacks import Decider
from unitrain.class_names import logged_names
from unitrain.errors import ConfigError
from unitrain.metrics import LOSS
from unitrain.optimization import unknown_monitor

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from unitrain.config import TrainerConfig
    from unitrain.spec import LRSchedule, TrainSpec


def require_monitors(
    spec: TrainSpec, config: TrainerConfig, rules: Iterable[LRSchedule], *, validated: Sequence[str], watched: bool
) -> None:
    """Refuse a monitor that cannot be logged, where that is certain.

    Custom steps and handlers may log anything; then the check is left to the first epoch that should have logged it.

    Args:
        spec: What is trained.
        config: Says in which epochs validation runs.
        rules: The schedules with their monitors.
        validated: What stands before the names of the validation metrics, one prefix a loader; none if there is no
            validation data.
        watched: Whether handlers or callbacks may log values of their own.

    Raises:
        ConfigError: With the names that will be logged.
    """
    validates = bool(validated) and not _never_validates(config)
    stages = ("train", *validated) if validates else ("train",)
    names = [LOSS, *(one for name, given in (spec.metrics or {}).items() for one in logged_names(name, given))]
    logged = {f"{stage}/{name}" for stage in stages for name in names}
    loggers = [one for one in spec.callbacks if not isinstance(one, Decider)]
    anything = watched or bool(loggers) or spec.training_step is not None
    anything = anything or (validates and spec.validation_step is not None)
    never = set() if validates else {f"val/{name}" for name in (LOSS, *(spec.metrics or {}))}
    for monitor in [*(rule.monitor for rule in rules), *_monitors_of_callbacks(spec, config)]:
        if monitor is None or any(_same(monitor, name) for name in logged):
            continue
        if monitor in never:
            raise _unvalidated(monitor, has_data=bool(validated))
        if not anything:
            raise unknown_monitor(monitor, logged)


def _unvalidated(monitor: str, *, has_data: bool) -> ConfigError:
    if not has_data:
        return ConfigError(
            f"monitor={monitor!r} is measured by validation, and there is no validation data.",
            hint='fit(spec, train, val), or a monitor of training: "train/loss".',
        )
    return ConfigError(
        f"monitor={monitor!r} is measured by validation, and none runs: check_val_every_n_epoch is above max_epochs.",
        hint="lower check_val_every_n_epoch.",
    )


def _monitors_of_callbacks(spec: TrainSpec, config: TrainerConfig) -> list[str | None]:
    """Return what callbacks watch, but for those that are content to wait for it."""
    deciders = [one for one in (*spec.callbacks, *config.callbacks) if isinstance(one, Decider)]
    return [getattr(one, "monitor", None) for one in deciders if getattr(one, "strict", True)]


def _never_validates(config: TrainerConfig) -> bool:
    every, epochs = config.check_val_every_n_epoch, config.epochs
    return every is not None and epochs is not None and every > epochs


def _same(monitor: str, name: str) -> bool:
    """A metric with several values logs each as ``name_key``."""
    return monitor == name or monitor.startswith(f"{name}_")
