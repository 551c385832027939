"""A fast ``self.log`` for repeated calls in a training step, where only the value changes.

Lightning checks the arguments of each ``self.log`` anew, builds their metadata, compares it, and moves the whole result
to its device. Here the first call with some arguments goes that way; a later one with equal arguments, in the same
hook, only adds its value to the result that the first one made. Whatever differs (another hook, an epoch's first batch,
another device, a Metric, a number) goes Lightning's way again.
"""

# ruff: noqa: SLF001 - what a Trainer keeps has Lightning's private names

from __future__ import annotations

from contextlib import contextmanager
from types import MethodType
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from unitrain_bridges.lightning.stock import as_in, stock

if TYPE_CHECKING:
    from collections.abc import Iterator

    from unitrain_bridges.lightning.trainer_protocol import ModuleTrainer


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
    """Stands for ``module.log`` while a module is trained.

    A deep copy or a pickle of the module has Lightning's own ``log``; a shallow copy shares this one, as it shares the
    Trainer to which it logs.

    Args:
        trainer: The trainer that the module sees as ``self.trainer``.
    """

    def __init__(self, trainer: ModuleTrainer) -> None:
        self._trainer = trainer
        self._module = trainer.lightning_module
        self._plain = type(self._module).log
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
        return long

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

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        """Return the copied module's own ``log``: a copy trains elsewhere, or not at all."""
        module = memo.get(id(self._module))
        return self if module is None else MethodType(self._plain, module)

    def __reduce__(self) -> Any:
        """Be read back as the module's own ``log``."""
        return getattr, (self._module, "log")


def _form(value: torch.Tensor) -> tuple[Any, ...]:
    return value.dtype, value.device, value.numel()


_SIMPLE = frozenset({"prog_bar", "logger", "on_step", "on_epoch", "batch_size"})
"""Options with which a value is reduced to its mean, of this process alone."""


@contextmanager
def repeated_log(trainer: ModuleTrainer) -> Iterator[None]:
    """Let the module's ``self.log`` take the short way, unless it has a ``log`` of its own or is compiled."""
    module = trainer.lightning_module
    own = not as_in(trainer.parts.LightningModule, module, ("log",))
    if own or not trainer.short_way or getattr(module, "_compiler_ctx", None) is not None:
        yield
        return
    log = vars(module)["log"] = trainer.logging.repeated = RepeatedLog(trainer)
    try:
        yield
    finally:
        trainer.logging.repeated = None
        if vars(module).get("log") is log:  # else it is the author's by now
            del vars(module)["log"]
