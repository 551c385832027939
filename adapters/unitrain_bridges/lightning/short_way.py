"""The short way through a training step, for what the author left as Lightning has it.

Between a step and its optimizer, Lightning asks the strategy, the precision plugin, the optimizer's wrapper and the
module in turn, each of which hands on to the next. Where none of them is the author's own, the few calls that act are
made one after the other. ``short_way`` of the trainer is False where the long one is wanted, as in tests that compare.
"""

# ruff: noqa: SLF001 - what a Trainer keeps has Lightning's private names

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from unitrain_bridges.lightning.stock import as_in

if TYPE_CHECKING:
    from collections.abc import Callable

    from unitrain_bridges.lightning.trainer_protocol import ModuleTrainer

_TRANSFER = ("on_before_batch_transfer", "transfer_batch_to_device", "on_after_batch_transfer")
_HANDING_ON = ("_call_batch_hook", "_on_before_batch_transfer", "_apply_batch_transfer_handler")
_STRATEGY = (
    "batch_to_device",
    "training_step",
    "post_training_step",
    "pre_backward",
    "backward",
    "post_backward",
    "optimizer_step",
)
_PRECISION = (
    "convert_input",
    "forward_context",
    "train_step_context",
    "pre_backward",
    "backward",
    "post_backward",
    "optimizer_step",
    "_after_closure",
    "_wrap_closure",
    "_clip_gradients",
)


class ShortWay:
    """What may be left out of the steps of one epoch.

    Attributes:
        transfer: Whether a batch is only moved.
        optimization: Whether the training step, backward and the optimizer's step are as in the base classes.

    Args:
        trainer: What the module sees as its Trainer.
    """

    def __init__(self, trainer: ModuleTrainer) -> None:
        self._trainer = trainer
        self._hooks = trainer.hooks
        parts, module, strategy = trainer.parts, trainer.lightning_module, trainer.strategy
        plain = (
            trainer.short_way
            and type(trainer.precision_plugin) is parts.PrecisionPlugin
            and as_in(parts.PrecisionPlugin, trainer.precision_plugin, _PRECISION)
            and as_in(parts.SingleDeviceStrategy, strategy, _STRATEGY)
            and strategy.model is module
            and not trainer.hooks.observed()
        )
        data = trainer.datamodule
        self.transfer = (
            plain
            and as_in(parts.LightningModule, module, _TRANSFER + _HANDING_ON)
            and (data is None or as_in(parts.LightningDataModule, data, _TRANSFER))
        )
        self.optimization = (
            plain
            and as_in(parts.LightningModule, module, ("optimizer_step",))
            and all(as_in(parts.LightningOptimizer, one, ("step",)) for one in strategy._lightning_optimizers)
        )
        self._device = strategy.root_device
        self._move: Callable[[Any, Any], Any] = parts.move_data_to_device

    def move(self, batch: Any) -> Any:
        """Return the batch on the device."""
        return self._move(batch, self._device)

    def training_step(self, arguments: tuple[Any, ...]) -> Any:
        """Return what the module's step returns."""
        return self._hooks.module("training_step", *arguments)

    def backward(self, loss: Any) -> None:
        """Compute the gradients, between the hooks that listen."""
        hooks = self._hooks
        hooks.both("on_before_backward", loss)
        with hooks.named("backward"):
            self._trainer.lightning_module.backward(loss)
        hooks.both("on_after_backward")

    def step(self, wrapper: Any, closure: Callable[[], Any]) -> None:
        """Let the optimizer step on the closure, with the hooks and the clipping between its end and the step.

        Args:
            wrapper: Lightning's, around the optimizer.
            closure: The training step, ``zero_grad`` and backward.
        """
        optimizer = wrapper.optimizer
        trainer, hooks = self._trainer, self._hooks

        def clipped() -> Any:
            loss = closure()
            hooks.both("on_before_optimizer_step", optimizer)
            hooks.module(
                "configure_gradient_clipping",
                optimizer,
                gradient_clip_val=trainer.gradient_clip_val,
                gradient_clip_algorithm=trainer.gradient_clip_algorithm,
            )
            return loss

        with hooks.named("optimizer_step"):
            wrapper._on_before_step()
            optimizer.step(closure=clipped)
            wrapper._on_after_step()
