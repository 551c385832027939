"""A fast ``self.log`` for repeated calls in a training step, where only the value changes.

Lightning checks the arguments of each ``self.log`` anew, builds their metadata, compares it, and moves the whole result
to its device. Here the first call with some arguments goes that way; a later one with equal arguments, in the same
hook, only adds its value to the result that the first one made. Whatever differs (another hook, an epoch's first batch,
another device, a Metric, a number) goes Lightning's way again.
"""

# ruff: noqa: SLF001 - what a Trainer keeps has Lightning's private names

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager
from functools import partial, wraps
from threading import Lock
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, cast

import torch

from unitrain_bridges.lightning.stock import stock

if TYPE_CHECKING:
    from collections.abc import Iterator

    from unitrain_bridges.lightning.trainer_protocol import ModuleTrainer


Log: TypeAlias = Callable[..., None]


class _Logged(NamedTuple):
    """Where the values of one call go.

    Attributes:
        key: In the collection of results.
        metric: The result there.
        form: Type, device and number of elements of the value that came first.
    """

    key: str
    metric: Any
    form: tuple[Any, ...]


class RepeatedLog:
    """Stands for ``module.log`` while a module is trained; a copy of the module logs as Lightning's own.

    Args:
        trainer: The trainer that the module sees as ``self.trainer``.
        plain: Lightning's own ``log``.
        switch: What stands in Lightning's class meanwhile.
    """

    def __init__(self, trainer: ModuleTrainer, plain: Log, switch: Log) -> None:
        self._trainer = trainer
        self._module = trainer.lightning_module
        self._plain, self._switch = plain, switch
        self._results = trainer.fit_loop.epoch_loop._results
        self._training = trainer.parts.RunningStage.TRAINING
        self._logging = trainer.logging
        step = self._module.training_step
        self._iterates = trainer.parts.is_param_in_hook_signature(step, "dataloader_iter", explicit=True)
        self._known: dict[Any, _Logged] = {}
        self._long = False

    def took_long_way(self) -> bool:
        """Return whether Lightning's own ``log`` was called since the last check."""
        long, self._long = self._long, False
        return long or type(self._module).log is not self._switch  # somebody has replaced it

    def __call__(self, name: str, value: Any, *arguments: Any, **options: Any) -> None:
        """Log a value, as ``LightningModule.log`` does."""
        if arguments or not options.keys() <= _SIMPLE or (self._iterates and options.get("batch_size") is None):
            self._long = True
            self._plain(self._module, name, value, *arguments, **options)
            return
        size = options.pop("batch_size", None)  # it is only passed on, and often differs
        hook = self._module._current_fx_name
        call = (hook, name, tuple(options.items()))
        logged = self._known.get(call)
        if logged is None or not self._still_holds(logged, value, hook):
            self._long = True
            self._plain(self._module, name, value, batch_size=size, **options)
            self._remember(call, value, options)
            return
        value = value.detach().clone()
        self._add(logged, value.squeeze() if value.ndim else value, size)
        self._logging._current_fx = hook

    def _still_holds(self, logged: _Logged, value: Any, hook: str | None) -> bool:
        results, logging, trainer = self._results, self._logging, self._trainer
        if type(value) is not torch.Tensor or _form(value) != logged.form or results.dataloader_idx is not None:
            return False
        return (
            results.get(logged.key) is logged.metric
            and trainer.state.stage is self._training
            and self._module._trainer is trainer  # a run within this one has a Trainer of its own
            # else Lightning resets what the hook has logged
            and (logging._current_fx == hook or logging._first_loop_iter is False)
        )

    def _remember(self, call: tuple[Any, ...], value: Any, options: dict[str, Any]) -> None:
        hook, name, _ = call
        key = f"{hook}.{name}"
        metric = self._results.get(key)
        warns = options.get("logger") and not self._trainer.loggers  # Lightning says so each time
        if metric is None or warns or type(value) is not torch.Tensor or self._results.dataloader_idx is not None:
            return
        adds = metric.is_tensor and all(stock(getattr(type(metric), one), one) for one in ("forward", "update"))
        if adds and value.numel() == 1 and value.dtype in (torch.float32, torch.float64):
            self._known[call] = _Logged(key, metric, _form(value))

    def _add(self, logged: _Logged, value: torch.Tensor, batch_size: int | None) -> None:
        """Do what the result's ``update`` does with a mean: keep the value of the step, add up the epoch's."""
        metric = logged.metric
        meta, state = metric.meta, vars(metric)
        if meta.on_step:
            state["_forward_cache"] = value
        if meta.on_epoch:
            size = self._results._extract_batch_size(metric, batch_size, meta)
            state["value"] = state["value"] + value * size
            state["cumulated_batch_size"] = state["cumulated_batch_size"] + size
        else:
            state["value"] = value
        state["_computed"] = None
        state["_update_count"] += 1
        state["has_reset"] = False


def _form(value: torch.Tensor) -> tuple[Any, ...]:
    return value.dtype, value.device, value.numel()


_SIMPLE = frozenset({"prog_bar", "logger", "on_step", "on_epoch", "batch_size"})
"""Options with which a value is reduced to its mean, of this process alone."""


_RUNNING: dict[int, RepeatedLog] = {}
"""The logs of the modules in training, by the id of the module."""
_PLAIN: dict[Log, Log] = {}
"""Lightning's own ``log`` of each switch."""
_LOCK = Lock()


@contextmanager
def repeated_log(trainer: ModuleTrainer) -> Iterator[None]:
    """Let the module's ``self.log`` take the short way, unless it has a ``log`` of its own or is compiled."""
    module, cls = trainer.lightning_module, trainer.parts.LightningModule
    plain = _PLAIN.get(cls.log, cls.log)
    is_lightnings = "log" not in vars(module) and type(module).log is cls.log and stock(plain, "log")
    compiled = getattr(module, "_compiler_ctx", None) is not None
    if not is_lightnings or compiled or not trainer.short_way or id(module) in _RUNNING:
        yield
        return
    switch = _switched_on(cls, plain)
    trainer.logging.repeated = _RUNNING[id(module)] = RepeatedLog(trainer, plain, switch)
    try:
        yield
    finally:
        trainer.logging.repeated = None
        del _RUNNING[id(module)]
        _switch_off(cls, plain, switch)


def _switched_on(cls: Any, plain: Log) -> Log:
    """Return a ``log``, now in Lightning's class, that takes the short way for the modules in training."""

    @wraps(plain)
    def log(module: Any, *arguments: Any, **options: Any) -> None:
        (_RUNNING.get(id(module)) or partial(plain, module))(*arguments, **options)

    with _LOCK:
        if cls.log is plain:
            _PLAIN[log] = plain
            cls.log = log
        return cast("Log", cls.log)


def _switch_off(cls: Any, plain: Log, switch: Log) -> None:
    with _LOCK:
        if cls.log is switch and not any(isinstance(one._module, cls) for one in _RUNNING.values()):
            cls.log = plain
            del _PLAIN[switch]
