"""Refuses monitors of metrics that will never be logged, and warns after a fit if one never was."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from unitrain.callbacks import EpochDecision, ModelCheckpoint
from unitrain.callbacks.checkpoint_arguments import require_folder
from unitrain.errors import ConfigError, did_you_mean
from unitrain.metrics.class_names import logged_names
from unitrain.metrics.metric import LOSS
from unitrain.optim.schedules import unknown_monitor
from unitrain.run.stopping import INTERRUPT, MAX_EPOCHS, MAX_STEPS, SIGNAL
from unitrain.utilities.warning import warn_caller

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from unitrain.backends.protocol import FitJob
    from unitrain.callbacks import Callback
    from unitrain.callbacks.file_name import Template
    from unitrain.config import TrainerConfig
    from unitrain.run.context import RunContext
    from unitrain.spec import LRSchedule, TrainSpec


@runtime_checkable
class _Unfreezes(Protocol):
    """A Freeze or Unfreeze, without importing them."""

    def epochs_after(self, epoch: int) -> list[int]: ...


def require_monitors(
    spec: TrainSpec, config: TrainerConfig, rules: Iterable[LRSchedule], *, validated: Sequence[str], watched: bool
) -> None:
    """Refuse a monitor that certainly cannot be logged.

    Custom steps and handlers may log anything; then the first epoch that should have logged the metric checks it.

    Args:
        spec: The spec of the fit.
        config: The trainer's options, which determine the epochs with validation.
        rules: The schedules with their monitors.
        validated: Prefixes of the validation metrics, one per loader; empty if there is no validation data.
        watched: Whether handlers or callbacks may log values of their own.

    Raises:
        ConfigError: If a monitor is never logged; the message lists the logged names.
    """
    validates = bool(validated) and not _never_validates(config)
    stages = ("train", *validated) if validates else ("train",)
    names = [LOSS, *(one for name, given in (spec.metrics or {}).items() for one in logged_names(name, given))]
    logged = {f"{stage}/{name}" for stage in stages for name in names}
    loggers = [one for one in spec.callbacks if not isinstance(one, EpochDecision)]
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
    for one in (*spec.callbacks, *config.callbacks):
        if isinstance(one, ModelCheckpoint):
            require_folder(one.text, logged)
            if not anything:
                _require_named(one.template, logged)


def _require_named(template: Template, logged: set[str]) -> None:
    """Refuse a file name template with a metric that is never measured.

    Raises:
        ConfigError: If a name is unknown; the message suggests the nearest one.
    """
    for field in template.metrics:
        names = [field, *(field[: found.start()] for found in re.finditer(":", field))]  # with and without a format
        if not any(_same(name, one) for name in names for one in logged):
            raise ConfigError(
                f"{template}: no metric named {field!r} is measured.",
                hint=did_you_mean(field.rpartition(":")[0] or field, logged),
            )


def _unvalidated(monitor: str, *, has_data: bool) -> ConfigError:
    if not has_data:
        return ConfigError(
            f"monitor={monitor!r} is measured in validation, but no validation data was given.",
            hint='fit(spec, train, val), or monitor a training metric: "train/loss".',
        )
    return ConfigError(
        f"monitor={monitor!r} is measured in validation, which never runs: check_val_every_n_epoch is greater than"
        f" max_epochs.",
        hint="lower check_val_every_n_epoch.",
    )


def warn_of_idle(job: FitJob) -> None:
    """Warn on rank 0 of each callback, schedule and misspelt event that never acted during the whole fit."""
    run = job.hub.context
    if run is None or run.rank or not run.state.batch or job.hub.stop_reason in (SIGNAL, INTERRUPT):
        return
    known = run.state.metrics
    reports = [_why_idle(one, run) for one in job.callbacks.values()]
    reports += [
        f"LRSchedule(monitor={monitor!r}) never stepped: {monitor!r} was never measured"
        for monitor in (one.rule.monitor for one in job.schedules)
        if monitor is not None and monitor not in known
    ]
    for waited, fired in job.hub.misspelt():
        warn_caller(
            f"{waited!r} was never fired, so its handlers never ran; {fired!r} was fired but has no handlers."
            f" Did you mean {str(fired)!r}?"
        )
    for report in filter(None, reports):
        warn_caller(f"{report}. Available: {', '.join(sorted(known)) or 'none'}.")
    whole = job.hub.stop_reason in (None, MAX_EPOCHS, MAX_STEPS) and not job.config.fast_dev_run
    for report in _cut_short(job, run) if whole else ():
        warn_caller(report)


def _cut_short(job: FitJob, run: RunContext) -> Iterator[str]:
    """Yield actions planned for after the last epoch or step, if the options prevent them, not an early stop."""
    for one in job.callbacks.values():
        late = one.epochs_after(run.state.epoch) if isinstance(one, _Unfreezes) else []
        if late:
            epochs = "epoch" if len(late) == 1 else "epochs"
            yield (
                f"{type(one).__name__} was to unfreeze in {epochs} {', '.join(map(str, late))}, and the last epoch of"
                f" the fit is {run.state.epoch} (the first is 0): what is named there was never trained."
            )
    for schedule in job.schedules:
        if not schedule.paused and schedule.steps < schedule.rule.warmup_steps:
            yield (
                f"LRSchedule(warmup_steps={schedule.rule.warmup_steps}) never reached the full learning rate: the fit"
                f" made {schedule.steps} steps of the optimizer {schedule.optimizer_name!r}."
            )


def _why_idle(one: Callback, run: RunContext) -> str | None:
    monitor = getattr(one, "monitor", None)
    owner = type(one).__name__ if monitor is None else f"{type(one).__name__}(monitor={monitor!r})"
    if isinstance(one, ModelCheckpoint):
        why = one.why_no_file(run)
        return None if why is None else f"{owner} wrote no file: {why}"
    if isinstance(one, EpochDecision) and isinstance(monitor, str) and monitor not in run.state.metrics:
        return f"{owner} made no decision: {monitor!r} was never measured"
    return None


def _monitors_of_callbacks(spec: TrainSpec, config: TrainerConfig) -> list[str | None]:
    """Return the monitors of callbacks, except callbacks that wait for them."""
    deciders = [one for one in (*spec.callbacks, *config.callbacks) if isinstance(one, EpochDecision)]
    return [getattr(one, "monitor", None) for one in deciders if getattr(one, "strict", True)]


def _never_validates(config: TrainerConfig) -> bool:
    every, epochs = config.check_val_every_n_epoch, config.epochs
    return every is not None and epochs is not None and every > epochs


def _same(monitor: str, name: str) -> bool:
    """A metric with several values logs each as ``name_key``."""
    return monitor == name or monitor.startswith(f"{name}_")
