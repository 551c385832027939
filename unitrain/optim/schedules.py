"""Builds learning-rate schedules from the spec, and steps them."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from torch.optim.lr_scheduler import ConstantLR, LRScheduler, ReduceLROnPlateau

from unitrain.errors import ConfigError, SpecError, did_you_mean, nearest
from unitrain.optim.optimizers import check_rates
from unitrain.optim.parameter_schedules import CalledSchedule, ParameterScheduler
from unitrain.optim.warmup import Warmup, lift
from unitrain.spec import LRSchedule

if TYPE_CHECKING:
    from torch.optim import Optimizer

    from unitrain.spec import TrainSpec


class Schedule:
    """A scheduler at work on one optimizer.

    Args:
        optimizer_name: Name of its optimizer.
        scheduler: The torch scheduler.
        rule: The spec's LRSchedule, which says when to step it.

    Attributes:
        paused: Whether a callback controls the learning rates, so that it is not stepped.
        warmup: The warm-up of its optimizer, if one of its schedules sets one.
    """

    paused = False
    warmup: Warmup | None = None

    def __init__(self, optimizer_name: str, scheduler: LRScheduler, rule: LRSchedule) -> None:
        self.optimizer_name = optimizer_name
        self.scheduler = scheduler
        self.rule = rule
        self.steps = 0

    @property
    def plateau(self) -> bool:
        """Whether it has a monitor."""
        return isinstance(self.scheduler, ReduceLROnPlateau)

    @property
    def kind(self) -> str:
        """Name of the scheduler's class."""
        return type(getattr(self.scheduler, "called", self.scheduler)).__name__

    def after_step(self) -> None:
        """Record a step of its optimizer."""
        self.steps += 1
        if self.paused:
            return
        if self.rule.interval == "step" and self.steps % self.rule.frequency == 0:
            self._step()
        elif self.warmup is not None:
            with self.warmup.lifted(self.steps):
                pass

    def after_last_batch(self, epoch: int) -> None:
        """Record the last batch of ``epoch`` (from 0)."""
        by_epochs = self.rule.interval == "epoch" and not self.paused
        if by_epochs and not self.plateau and (epoch + 1) % self.rule.frequency == 0:
            self._step()

    def after_epoch(
        self, epoch: int, measured: Mapping[str, float], known: Mapping[str, float], *, awaiting_validation: bool
    ) -> None:
        """Step on the monitored metric, if the epoch measured it.

        Args:
            epoch: The epoch that ended, from 0.
            measured: The metrics of the epoch, by name.
            known: The latest values of the run.
            awaiting_validation: Whether there will be a validation but none has run yet.

        Raises:
            ConfigError: If the metric is never logged.
        """
        monitor = self.rule.monitor
        if self.paused or not self.plateau or monitor is None or (epoch + 1) % self.rule.frequency:
            return
        if monitor in measured:
            self._step(measured[monitor])
        elif monitor not in known and not (awaiting_validation and monitor.startswith("val/")):
            raise unknown_monitor(monitor, known)

    def _step(self, *value: Any) -> None:
        if self.warmup is None:
            self.scheduler.step(*value)
            return
        with self.warmup.lifted(self.steps):
            self.scheduler.step(*value)


_MEASURE = 'TrainSpec(metrics={"acc": ...}) measures "val/acc"; run.log("name", value) in a handler logs a value.'


def unknown_monitor(monitor: str, logged: Iterable[str]) -> ConfigError:
    """Return the error for a monitored name that is never logged."""
    known = sorted(logged)
    last = monitor.rpartition("/")[2]
    meant = [name for name in known if name.rpartition("/")[2] == last]  # "acc" is "val/acc", or "val/day/acc"
    near = max(meant, key=lambda name: name.startswith("val/"), default=None) or nearest(monitor, known)
    return ConfigError(
        f"no metric named {monitor!r} is logged; available: {', '.join(known) or 'nothing'}.",
        hint=_MEASURE if near is None else f"did you mean {near!r}?",
    )


def build_schedules(spec: TrainSpec, optimizers: Mapping[str, Optimizer]) -> list[Schedule]:
    """Return the spec's learning-rate schedules.

    Raises:
        SpecError: If one cannot be created, names an unknown optimizer, or is a ReduceLROnPlateau without a monitor.
    """
    for optimizer in optimizers.values():
        lift(optimizer)  # one that is given may come from a run that was stopped during its warm-up
    schedules = [_schedule(name, optimizers, given) for name, given in _named_schedules(spec, optimizers)]
    for name, optimizer in optimizers.items():
        check_rates(name, optimizer)  # a scheduler sets the rate when it is made
        _warm_up(name, optimizer, [one for one in schedules if one.optimizer_name == name])
    return schedules


def _warm_up(name: str, optimizer: Optimizer, schedules: Sequence[Schedule]) -> None:
    """Begin the warm-up of one optimizer, if a schedule sets one."""
    lengths = [schedule.rule.warmup_steps for schedule in schedules if schedule.rule.warmup_steps]
    if len(lengths) > 1:
        raise SpecError(
            f"{len(lengths)} schedules of the optimizer {name!r} set warmup_steps; only one can.",
            hint="set warmup_steps on one of them; it scales the combined learning rate.",
        )
    for length in lengths:
        warmup = Warmup(optimizer, length)
        with warmup.lifted(0):
            for schedule in schedules:
                schedule.warmup = warmup


def _named_schedules(spec: TrainSpec, optimizers: Mapping[str, Optimizer]) -> list[tuple[str, Any]]:
    given = spec.lr_scheduler
    if given is None:
        return []
    if isinstance(given, Mapping):
        return list(given.items())
    if len(optimizers) > 1:
        raise SpecError(
            "with several optimizers, lr_scheduler must be a mapping from optimizer name to scheduler.",
            hint=f"lr_scheduler={{{next(iter(optimizers))!r}: LRSchedule(...)}}",
        )
    several = given if isinstance(given, Sequence) else (given,)
    return [(next(iter(optimizers)), one) for one in several]


def _how_to_make(factory: Any) -> str:
    """Return a hint on missing arguments of a scheduler's class; by default, an example."""
    taken = inspect.signature(factory).parameters.values() if isinstance(factory, type) else ()
    lacking = [one.name for one in taken if one.default is one.empty and one.kind is one.POSITIONAL_OR_KEYWORD][1:]
    if not lacking:
        return "LRSchedule(partial(torch.optim.lr_scheduler.StepLR, step_size=2))"
    return f"LRSchedule(partial({factory.__name__}, {', '.join(f'{one}=...' for one in lacking)}))"


def _schedule(name: str, optimizers: Mapping[str, Optimizer], given: Any) -> Schedule:
    if name not in optimizers:
        raise SpecError(f"lr_scheduler contains the unknown optimizer {name!r}.", hint=did_you_mean(name, optimizers))
    rule = given if isinstance(given, LRSchedule) else LRSchedule(given)
    factory = rule.factory or _constant
    try:
        scheduler = factory(optimizers[name])
        if not isinstance(scheduler, LRScheduler) and isinstance(scheduler, ParameterScheduler):
            scheduler = CalledSchedule(optimizers[name], scheduler)
    except (TypeError, ValueError) as error:
        raise SpecError(
            f"the scheduler of the optimizer {name!r} could not be created: {error}",
            hint=_how_to_make(factory),
        ) from error
    if not isinstance(scheduler, LRScheduler):
        raise SpecError(
            f"LRSchedule(factory=) must return a torch scheduler or an Ignite parameter scheduler; it returned"
            f" {scheduler!r}.",
            hint="LRSchedule(partial(torch.optim.lr_scheduler.StepLR, step_size=2))",
        )
    schedule = Schedule(name, scheduler, rule)
    _check_monitor(schedule)
    return schedule


def _constant(optimizer: Optimizer) -> LRScheduler:
    """Return the scheduler of a warm-up alone, which leaves the rate unchanged."""
    return ConstantLR(optimizer, factor=1.0, total_iters=0)


def _check_monitor(schedule: Schedule) -> None:
    rule = schedule.rule
    if not schedule.plateau:
        if rule.monitor is not None:
            raise SpecError(
                f"LRSchedule(monitor={rule.monitor!r}) has no effect on {schedule.kind}.",
                hint="monitor= only applies to ReduceLROnPlateau.",
            )
        return
    if rule.monitor is None:
        raise SpecError("ReduceLROnPlateau needs a metric to monitor.", hint='LRSchedule(factory, monitor="val/loss")')
    if rule.interval != "epoch":
        raise SpecError("ReduceLROnPlateau steps once per epoch.", hint='interval="epoch"')
