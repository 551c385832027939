"""One batch of training: automatic optimization by a closure, or the author's own steps."""

# ruff: noqa: SLF001 - what a Trainer keeps has Lightning's private names

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import torch

from unitrain.optim.optimizers import clear_gradients
from unitrain_bridges.lightning.counters import Counters
from unitrain_bridges.lightning.data import is_profiled
from unitrain_bridges.lightning.short_way import AFTER_STEP

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from unitrain_bridges.lightning.trainer_protocol import ModuleTrainer

_NOT_CALLED = (
    "The closure hasn't been executed. HINT: did you call `optimizer_closure()` in your `optimizer_step` hook? It could"
    " also happen because the `optimizer.step(optimizer_closure)` call did not execute it internally."
)

_SKIPPED = (
    "Skipping the `training_step` by returning None in distributed training is not supported. It is recommended that"
    " you rewrite your training logic to avoid having to skip the step in the first place."
)


class Closure:
    """The training step, ``zero_grad`` and backward in one call: the closure of an optimizer.

    Attributes:
        result: The processed output of the last training step; None before.

    Args:
        kind: Lightning's class, which ``isinstance`` takes it for.
        step: Makes it.
        zero_grad: Drops the gradients; None if they are kept.
        backward: Goes back from the loss; None if it is not wanted.
    """

    def __init__(
        self,
        kind: type,
        step: Callable[[], Any],
        zero_grad: Callable[[], None] | None,
        backward: Callable[[Any], None] | None,
    ) -> None:
        self.result: Any = None
        self._kind = kind
        self._step = step
        self._zero_grad = zero_grad
        self._backward = backward

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        return self._kind

    def __call__(self, *_: Any, **__: Any) -> Any:
        """Do the three, and return the loss."""
        with torch.enable_grad():
            self.result = self._step()
            if self._zero_grad is not None:
                self._zero_grad()
            if self._backward is not None and self.result.closure_loss is not None:
                self._backward(self.result.closure_loss)
        return self.result.loss


class AutomaticOptimization(Counters):
    """The training step, backward and the optimizer's step, in the order of the optimizer's closure.

    Attributes:
        short: The `ShortWay` of the running epoch; None before the first.
    """

    def __init__(self, trainer: ModuleTrainer) -> None:
        super().__init__(trainer)
        self.optim_progress = trainer.parts.OptimizationProgress()
        self._skip_backward = False
        self.short: Any = None
        self._warning_cache = trainer.parts.WarningCache()

    def run(self, optimizer: Any, batch_idx: int, step_arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Train on one batch and return what the step returned, detached."""
        trainer = self.trainer
        closure = Closure(
            trainer.parts.Closure,
            lambda: self._training_step(step_arguments),
            self._zero_grad_fn(batch_idx, optimizer),
            self._backward_fn(optimizer),
        )
        accumulates = trainer.fit_loop._should_accumulate()
        if accumulates and not trainer.strategy.handles_gradient_accumulation:
            closure()
        else:
            self._optimizer_step(batch_idx, closure, steps=not accumulates)
        if closure.result is None:
            raise trainer.parts.MisconfigurationException(_NOT_CALLED)
        return {} if closure.result.loss is None else dict(closure.result.asdict())

    def _training_step(self, step_arguments: Mapping[str, Any]) -> Any:
        trainer = self.trainer
        arguments = tuple(step_arguments.values())
        if self.short.optimization:
            output = trainer.hooks.module("training_step", *arguments)
        else:
            output = trainer.hooks.strategy("training_step", *arguments)
            trainer.strategy.post_training_step()
        if output is None and trainer.world_size > 1:
            raise RuntimeError(_SKIPPED)
        self.short.look(AFTER_STEP)
        result = self.short.result(output)
        if result.closure_loss is None:
            self._warning_cache.warn("`training_step` returned `None`. If this was on purpose, ignore this warning...")
        return result

    def _backward_fn(self, optimizer: Any) -> Callable[[Any], None] | None:
        if self._skip_backward:
            return None
        if self.short.optimization:
            backward: Callable[[Any], None] = self.short.backward
            return backward
        return lambda loss: self.trainer.hooks.strategy("backward", loss, optimizer)

    def _zero_grad_fn(self, batch_idx: int, optimizer: Any) -> Callable[[], None] | None:
        if self._skip_backward or batch_idx % self.trainer.accumulate_grad_batches:
            return None

        def zero_grad() -> None:
            hooks, progress = self.trainer.hooks, self.optim_progress.optimizer.zero_grad
            progress.increment_ready()
            hooks.both("on_before_zero_grad", optimizer)
            progress.increment_started()
            if self.short.zero_grad:
                clear_gradients(optimizer)
            else:
                hooks.module("optimizer_zero_grad", self.trainer.current_epoch, batch_idx, optimizer)
            progress.increment_completed()

        return zero_grad

    def _optimizer_step(self, batch_idx: int, closure: Callable[[], Any], *, steps: bool) -> None:
        trainer, progress = self.trainer, self.optim_progress.optimizer.step
        optimizer = trainer.strategy._lightning_optimizers[0]
        if steps:
            progress.increment_ready()
        if self.short.optimization:
            self.short.step(optimizer, closure)
        else:
            trainer.hooks.module("optimizer_step", trainer.current_epoch, batch_idx, optimizer, closure)
        if steps:
            progress.increment_completed()


class ManualOptimization(Counters):
    """The training step alone, with the author's optimizers counted while they step."""

    def __init__(self, trainer: ModuleTrainer) -> None:
        super().__init__(trainer)
        parts = trainer.parts
        self.optim_step_progress = parts.Progress.from_defaults(parts.ReadyCompletedTracker)

    def run(self, step_arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Train on one batch and return what the step returned, detached."""
        trainer, output = self.trainer, {}
        optimizers = trainer.strategy._lightning_optimizers
        self._listen(optimizers, *self._counting())
        with suppress(StopIteration):  # as in Lightning: there is no loop to end at this level
            returned = trainer.hooks.strategy("training_step", *step_arguments.values())
            trainer.strategy.post_training_step()
            output = trainer.parts.ManualResult.from_training_step_output(returned).asdict()
        self._restarting = False
        self._listen(optimizers, trainer.parts.do_nothing_closure, trainer.parts.do_nothing_closure)
        return dict(output)

    def _counting(self) -> tuple[Callable[[], None], Callable[[], None]]:
        """Return the functions called before and after an optimizer's step."""
        progress, profiler = self.optim_step_progress, self.trainer.profiler
        if not is_profiled(self.trainer):
            return progress.increment_ready, progress.increment_completed

        def before() -> None:
            progress.increment_ready()
            profiler.start("optimizer_step")

        def after() -> None:
            profiler.stop("optimizer_step")
            progress.increment_completed()

        return before, after

    @staticmethod
    def _listen(optimizers: Any, before: Callable[[], None], after: Callable[[], None]) -> None:
        for optimizer in optimizers:
            optimizer._on_before_step, optimizer._on_after_step = before, after
