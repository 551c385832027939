"""The short way through a training step, for modules that do not override the skipped hooks.

Between a step and its optimizer, Lightning asks the strategy, the precision plugin, the optimizer's wrapper and the
module in turn, each of which hands on to the next. Where none of them is the author's own, the few calls that act are
made one after the other. ``short_way`` of the trainer is False where the long one is wanted, as in tests that compare.
"""

# ruff: noqa: SLF001 - what a Trainer keeps has Lightning's private names

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor

from unitrain_bridges.lightning.stock import as_in, stock

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
    "clip_gradients",
)
_CLIPPING = ("configure_gradient_clipping", "clip_gradients")
_LOGGING = ("on_batch_start", "on_batch_end", "update_train_step_metrics", "log_metrics")

BATCH, STEP, AFTER_STEP = "batch", "step", "after the training step"
"""The moments at which the way is looked at again."""
_AT_BATCH = frozenset({*_TRANSFER, *_HANDING_ON, "batch_to_device", "convert_input", *_LOGGING})
_AFTER_STEP = frozenset({*_CLIPPING, "optimizer_zero_grad", "backward", "on_before_backward"})


class ShortWay:
    """The calls that may be skipped in a step; decided anew when anything that the decision rests on was replaced.

    Attributes:
        transfer: Whether a batch is only moved.
        optimization: Whether the training step, backward and the optimizer's step are as in the base classes.
        zero_grad: Whether gradients are cleared as in the base class.
        logging: Whether what Lightning does with logged values around a batch is as in its source.

    Args:
        trainer: The trainer that the module sees as ``self.trainer``.
    """

    def __init__(self, trainer: ModuleTrainer) -> None:
        self._trainer = trainer
        self._hooks = trainer.hooks
        self._move: Callable[[Any, Any], Any] = trainer.parts.move_data_to_device
        self._decide()

    def _decide(self) -> None:
        self._seen: dict[str, list[tuple[Any, str, Any]]] = {BATCH: [], STEP: [], AFTER_STEP: []}
        trainer = self._trainer
        parts, module, strategy = trainer.parts, trainer.lightning_module, trainer.strategy
        self._lean = not trainer.hooks.observed()
        for owner, name in ((strategy, "_precision_plugin"), (strategy, "model"), (module, "__class__")):
            self._note(owner, name)
        for holder, name in ((strategy, "_lightning_optimizers"), (trainer, "callbacks")):
            self._seen[STEP].append((holder, name, list(getattr(holder, name))))  # lists change in place
        plain = (
            trainer.short_way
            and type(trainer.precision_plugin) is parts.PrecisionPlugin
            and self._as_in(parts.PrecisionPlugin, trainer.precision_plugin, _PRECISION)
            and self._as_in(parts.SingleDeviceStrategy, strategy, _STRATEGY)
            and strategy.model is module
            and self._lean
        )
        data = trainer.datamodule
        self.transfer = (
            plain
            and self._as_in(parts.LightningModule, module, _TRANSFER + _HANDING_ON)
            and (data is None or self._as_in(parts.LightningDataModule, data, _TRANSFER))
        )
        self.optimization = (
            plain
            and self._as_in(parts.LightningModule, module, ("optimizer_step",))
            and all(self._as_in(parts.LightningOptimizer, one, ("step",)) for one in strategy._lightning_optimizers)
        )
        self.zero_grad = plain and self._as_in(parts.LightningModule, module, ("optimizer_zero_grad",))
        self._clips = not self._as_in(parts.LightningModule, module, _CLIPPING)
        self._keeps_loss = self._loss_is_unseen()
        connector = parts.LoggerConnector
        self.logging = plain and all(stock(self._note(connector, name), name) for name in _LOGGING)
        self._device = strategy.root_device

    def look(self, moment: str) -> None:
        """Decide anew if anything was replaced that matters from ``moment`` on."""
        seen = self._seen.get(moment)
        if seen is not None and self._hooks.lean is self._lean:
            for owner, name, found in seen:
                if getattr(owner, name, None) != found:
                    break
            else:
                return
        self._decide()

    def __getstate__(self) -> dict[str, Any]:
        """Leave what was seen to the original: a copy decides for itself."""
        return {**vars(self), "_seen": {}}

    def _note(self, owner: Any, name: str) -> Any:
        """Return an attribute on which the decision rests; bound methods are equal if object and function are."""
        found = getattr(owner, name, None)
        self._seen[BATCH if name in _AT_BATCH else STEP].append((owner, name, found))
        if name in _AFTER_STEP:
            self._seen[AFTER_STEP].append((owner, name, found))
        return found

    def _as_in(self, cls: type, owner: Any, names: tuple[str, ...]) -> bool:
        for name in names:
            self._note(owner, name)
        return as_in(cls, owner, names)

    def _loss_is_unseen(self) -> bool:
        """Return whether the loss goes from the step to its backward unseen."""
        trainer, name = self._trainer, "on_before_backward"
        parts = trainer.parts
        return (
            self.optimization
            and self._as_in(parts.LightningModule, trainer.lightning_module, ("backward", name))
            and all(self._as_in(parts.Callback, one, (name,)) for one in trainer.callbacks)
        )

    def result(self, output: Any) -> Any:
        """Return what Lightning makes of a step's output; a loss that nobody sees is not divided by 1."""
        kind, count = self._trainer.parts.ClosureResult, self._trainer.accumulate_grad_batches
        if self._keeps_loss and count == 1 and type(output) is Tensor and output.is_floating_point():
            return kind(output)
        return kind.from_training_step_output(output, count)

    def move(self, batch: Any) -> Any:
        """Return the batch on the device, in a container of its own."""
        kind = type(batch)
        if kind is not list and kind is not tuple:
            return self._move(batch, self._device)
        for one in batch:
            if type(one) is not Tensor or one.device != self._device:
                return self._move(batch, self._device)
        return kind(batch)

    def backward(self, loss: Any) -> None:
        """Compute the gradients, between the hooks that listen."""
        hooks = self._hooks
        hooks.both("on_before_backward", loss)
        hooks.module("backward", loss)
        hooks.both("on_after_backward")

    def step(self, wrapper: Any, closure: Callable[[], Any]) -> None:
        """Let the optimizer step on the closure, with the hooks and the clipping between its end and the step.

        Args:
            wrapper: Lightning's, around the optimizer.
            closure: The training step, ``zero_grad`` and backward.
        """
        optimizer, hooks = wrapper.optimizer, self._hooks

        def clipped() -> Any:
            loss = closure()
            hooks.both("on_before_optimizer_step", optimizer)
            self._clip(optimizer)
            return loss

        state = vars(self._trainer.lightning_module)
        before, state["_current_fx_name"] = state["_current_fx_name"], "optimizer_step"
        wrapper._on_before_step()
        optimizer.step(closure=clipped)
        wrapper._on_after_step()
        state["_current_fx_name"] = before

    def _clip(self, optimizer: Any) -> None:
        clip = self._trainer.gradient_clip_val
        if clip or self._clips:
            algorithm = self._trainer.gradient_clip_algorithm
            options = {"gradient_clip_val": clip, "gradient_clip_algorithm": algorithm}
            self._hooks.module("configure_gradient_clipping", optimizer, **options)
