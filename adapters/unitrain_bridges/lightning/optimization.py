"""One batch of training: automatic optimization by a closure, or the author's own steps."""

# ruff: noqa: SLF001 - what a Trainer keeps has Lightning's private names

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from unitrain_bridges.lightning.counters import Counters

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class AutomaticOptimization(Counters):
    """The training step, backward and the optimizer's step, in the order that the optimizer's closure gives."""

    def __init__(self, trainer: Any) -> None:
        super().__init__(trainer)
        self.optim_progress = trainer.parts.OptimizationProgress()
        self._skip_backward = False

    def run(self, optimizer: Any, batch_idx: int, step_arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Train on one batch and return what the step returned, detached."""
        trainer = self.trainer
        closure = trainer.parts.Closure(
            step_fn=lambda: self._training_step(step_arguments),
            backward_fn=self._backward_fn(optimizer),
            zero_grad_fn=self._zero_grad_fn(batch_idx, optimizer),
        )
        if not trainer.strategy.handles_gradient_accumulation and trainer.fit_loop._should_accumulate():
            closure()
        else:
            self._optimizer_step(batch_idx, closure)
        result = closure.consume_result()
        return {} if result.loss is None else dict(result.asdict())

    def _training_step(self, step_arguments: Mapping[str, Any]) -> Any:
        trainer = self.trainer
        output = trainer.hooks.strategy("training_step", *step_arguments.values())
        trainer.strategy.post_training_step()
        return trainer.parts.ClosureResult.from_training_step_output(output, trainer.accumulate_grad_batches)

    def _backward_fn(self, optimizer: Any) -> Callable[[Any], None] | None:
        if self._skip_backward:
            return None
        return lambda loss: self.trainer.hooks.strategy("backward", loss, optimizer)

    def _zero_grad_fn(self, batch_idx: int, optimizer: Any) -> Callable[[], None] | None:
        if self._skip_backward or batch_idx % self.trainer.accumulate_grad_batches:
            return None

        def zero_grad() -> None:
            hooks, progress = self.trainer.hooks, self.optim_progress.optimizer.zero_grad
            progress.increment_ready()
            hooks.callbacks("on_before_zero_grad", optimizer)
            hooks.module("on_before_zero_grad", optimizer)
            progress.increment_started()
            hooks.module("optimizer_zero_grad", self.trainer.current_epoch, batch_idx, optimizer)
            progress.increment_completed()

        return zero_grad

    def _optimizer_step(self, batch_idx: int, closure: Callable[[], Any]) -> None:
        trainer, progress = self.trainer, self.optim_progress.optimizer.step
        optimizer = trainer.strategy._lightning_optimizers[0]
        steps = not trainer.fit_loop._should_accumulate()
        if steps:
            progress.increment_ready()
        trainer.hooks.module("optimizer_step", trainer.current_epoch, batch_idx, optimizer, closure)
        if steps:
            progress.increment_completed()


class ManualOptimization(Counters):
    """The training step alone, with the author's optimizers counted while they step."""

    def __init__(self, trainer: Any) -> None:
        super().__init__(trainer)
        parts = trainer.parts
        self.optim_step_progress = parts.Progress.from_defaults(parts.ReadyCompletedTracker)

    def run(self, step_arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Train on one batch and return what the step returned, detached."""
        trainer, output = self.trainer, {}
        optimizers = trainer.strategy._lightning_optimizers
        self._listen(optimizers, self.optim_step_progress.increment_ready, self.optim_step_progress.increment_completed)
        with suppress(StopIteration):  # as in Lightning: there is no loop to end at this level
            returned = trainer.hooks.strategy("training_step", *step_arguments.values())
            trainer.strategy.post_training_step()
            output = trainer.parts.ManualResult.from_training_step_output(returned).asdict()
        self._restarting = False
        self._listen(optimizers, trainer.parts.do_nothing_closure, trainer.parts.do_nothing_closure)
        return dict(output)

    @staticmethod
    def _listen(optimizers: Any, before: Callable[[], None], after: Callable[[], None]) -> None:
        for optimizer in optimizers:
            optimizer._on_before_step, optimizer._on_after_step = before, after
