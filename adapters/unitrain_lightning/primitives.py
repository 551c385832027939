"""The primitives of a step on Lightning: its strategy and precision plugin."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

from unitrain.optim.optimizers import clear_gradients
from unitrain_lightning.batched_steps import overrides

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor
    from torch.optim import Optimizer

    from unitrain.loop.precision import Context
    from unitrain_lightning.namespace import Namespace


class LightningPrimitives:
    """The primitives of a step, each through Lightning.

    Args:
        lightning: The package that the Trainer is of.
        trainer: The Trainer; its precision plugin scales, unscales before it clips, and steps.
        callbacks: The native callbacks; automatic optimization would call their ``on_before_zero_grad``.
        context: Makes what surrounds a forward pass, or None.
    """

    def __init__(self, lightning: Namespace, trainer: Any, callbacks: Sequence[Any], context: Context) -> None:
        self._trainer = trainer
        self._scaling: Any = getattr(trainer.precision_plugin, "scaling", None)
        self.context = context
        self.scaler = None if self._scaling is None else self._scaling.scaler
        self._zero_grad_hooks = [one for one in callbacks if overrides(lightning, one, "on_before_zero_grad")]
        self._wrapped: dict[int, Any] = {}

    @cached_property
    def _shell(self) -> Any:
        """The module in the Trainer, which is there once the Trainer runs."""
        return self._trainer.lightning_module

    def _wrapper(self, optimizer: Optimizer) -> Any:
        """Return Lightning's wrapper of ``optimizer``, which exists once the strategy is set up."""
        if not self._wrapped:
            wrappers = self._shell.optimizers()
            for wrapper in wrappers if isinstance(wrappers, list) else [wrappers]:
                self._wrapped[id(wrapper.optimizer)] = wrapper
        return self._wrapped[id(optimizer)]

    def zero_grad(self, optimizer: Optimizer) -> None:
        """Clear the gradients."""
        for callback in self._zero_grad_hooks:
            callback.on_before_zero_grad(self._trainer, self._shell, optimizer)
        clear_gradients(optimizer)

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of ``loss``."""
        self._shell.manual_backward(loss)

    def clip(self, optimizer: Optimizer, value: float, algorithm: str) -> None:
        """Clip the gradients of all parameters of ``optimizer`` together."""
        self._shell.clip_gradients(optimizer, gradient_clip_val=value, gradient_clip_algorithm=algorithm)

    def step(self, optimizer: Optimizer, closure: Callable[[], Tensor] | None = None) -> None:
        """Step ``optimizer`` through the strategy."""
        self._wrapper(optimizer).step(closure)

    def update(self) -> None:
        """Update the loss scale."""
        self._scaling.update()
