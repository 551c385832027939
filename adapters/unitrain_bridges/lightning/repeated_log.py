"""``self.log`` of a training step at the cost of what changes: the value.

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

from unitrain_bridges.lightning.stock import as_in

if TYPE_CHECKING:
    from collections.abc import Iterator

    from unitrain_bridges.lightning.trainer_protocol import ModuleTrainer


class _Logged(NamedTuple):
    """Where the values of one call go.

    Attributes:
        key: In the collection of results.
        metric: The result there.
        device: Of the value that came first.
    """

    key: str
    metric: Any
    device: torch.device


class RepeatedLog:
    """Stands for ``module.log`` while a module is trained.

    A deep copy or a pickle of the module has Lightning's own ``log``; a shallow copy shares this one, as it shares the
    Trainer to which it logs.

    Args:
        trainer: What the module sees as its Trainer.
    """

    def __init__(self, trainer: ModuleTrainer) -> None:
        self._trainer = trainer
        self._module = trainer.lightning_module
        self._plain = type(self._module).log
        self._results = trainer.fit_loop.epoch_loop._results
        self._training = trainer.parts.RunningStage.TRAINING
        self._logging = trainer.logging
        self._known: dict[Any, _Logged] = {}

    def __call__(self, name: str, value: Any, *arguments: Any, **options: Any) -> None:
        """Log a value, as ``LightningModule.log`` does."""
        module, hook = self._module, self._module._current_fx_name
        # the number of samples is only passed on, and often differs
        call = (hook, name, arguments, tuple(one for one in options.items() if one[0] != "batch_size"))
        if not self._is_plain_value(value, call):
            self._plain(module, name, value, *arguments, **options)
            return
        logged = self._known.get(call)
        if logged is None or not self._still_holds(logged, value, hook):
            self._plain(module, name, value, *arguments, **options)
            self._remember(call, value, options)
            return
        self._add(logged, value.detach().clone().squeeze(), options.get("batch_size"))
        self._logging._current_fx = hook

    def _is_plain_value(self, value: Any, call: tuple[Any, ...]) -> bool:
        """Return whether a value can be added without Lightning's checks, if the call is one that is known."""
        _, _, arguments, options = call
        return (
            type(value) is torch.Tensor
            and not arguments
            and all(name in _SIMPLE for name, _ in options)
            and value.numel() == 1
            and self._trainer.state.stage is self._training
            and self._module._trainer is self._trainer  # a run within this one has a Trainer of its own
        )

    def _still_holds(self, logged: _Logged, value: torch.Tensor, hook: str | None) -> bool:
        results, logging = self._results, self._logging
        return (
            results.get(logged.key) is logged.metric
            and results.dataloader_idx is None
            and value.device == logged.device
            and not logging.should_reset_tensors(hook)
        )

    def _remember(self, call: tuple[Any, ...], value: torch.Tensor, options: dict[str, Any]) -> None:
        hook, name = call[:2]
        key = f"{hook}.{name}"
        metric = self._results.get(key)
        warns = options.get("logger") and not self._trainer.loggers  # Lightning says so each time
        if metric is not None and metric.is_tensor and self._results.dataloader_idx is None and not warns:
            self._known[call] = _Logged(key, metric, value.device)

    def _add(self, logged: _Logged, value: torch.Tensor, batch_size: int | None) -> None:
        results, metric = self._results, logged.metric
        size = results._extract_batch_size(metric, batch_size, metric.meta)
        metric.forward(value, size)
        metric.has_reset = False

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        """Return the copied module's own ``log``: a copy trains elsewhere, or not at all."""
        module = memo.get(id(self._module))
        return self if module is None else MethodType(self._plain, module)

    def __reduce__(self) -> Any:
        """Be read back as the module's own ``log``."""
        return getattr, (self._module, "log")


_SIMPLE = frozenset({"prog_bar", "logger", "on_step", "on_epoch"})


@contextmanager
def repeated_log(trainer: ModuleTrainer) -> Iterator[None]:
    """Let the module's ``self.log`` take the short way, unless it has a ``log`` of its own or is compiled."""
    module = trainer.lightning_module
    own = not as_in(trainer.parts.LightningModule, module, ("log",))
    if own or not trainer.short_way or getattr(module, "_compiler_ctx", None) is not None:
        yield
        return
    log = vars(module)["log"] = RepeatedLog(trainer)
    try:
        yield
    finally:
        if vars(module).get("log") is log:  # else it is the author's by now
            del vars(module)["log"]
