"""The primitives of a step in plain torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch.nn.utils import clip_grad_norm_, clip_grad_value_

from unitrain.loop.precision import SCALED, Context, LossScaling, forward_context
from unitrain.optim.optimizers import all_parameters, clear_gradients

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch
    from torch import Tensor
    from torch.optim import Optimizer

_CLIP: dict[str, Callable[..., object]] = {"norm": clip_grad_norm_, "value": clip_grad_value_}


class TorchPrimitives:
    """The primitives of a step on one device, without a framework.

    Args:
        context: Creates the context of a forward pass, or None.
    """

    scaler: torch.amp.GradScaler | None = None

    def __init__(self, context: Context) -> None:
        self.context = context

    def zero_grad(self, optimizer: Optimizer) -> None:
        """Clear the gradients."""
        clear_gradients(optimizer)

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of ``loss``."""
        loss.backward()  # type: ignore[no-untyped-call]

    def clip(self, optimizer: Optimizer, value: float, algorithm: str) -> None:
        """Clip the gradients of all parameters of ``optimizer`` together."""
        _CLIP[algorithm](all_parameters(optimizer), value)

    def step(self, optimizer: Optimizer, closure: Callable[[], Tensor] | None = None) -> None:
        """Step ``optimizer``."""
        optimizer.step(*(() if closure is None else (closure,)))

    def update(self) -> None:
        """Do nothing: there is no loss scale."""


class ScaledPrimitives(TorchPrimitives):
    """The primitives of a step whose loss is scaled.

    Args:
        context: Creates the context of a forward pass.
        device: The device of the losses.
    """

    def __init__(self, context: Context, device: torch.device) -> None:
        super().__init__(context)
        self._scaling = LossScaling(device.type)
        self.scaler = self._scaling.scaler

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of the scaled ``loss``."""
        super().backward(self._scaling.scale(loss))

    def clip(self, optimizer: Optimizer, value: float, algorithm: str) -> None:
        """Unscale and clip the gradients of all parameters of ``optimizer`` together."""
        self._scaling.unscale(optimizer)
        super().clip(optimizer, value, algorithm)

    def step(self, optimizer: Optimizer, closure: Callable[[], Tensor] | None = None) -> None:  # noqa: ARG002 - refused before
        """Step ``optimizer``, unless a gradient is not finite."""
        self._scaling.step(optimizer)

    def update(self) -> None:
        """Update the loss scale."""
        self._scaling.update()


def torch_primitives(precision: str | int, device: torch.device) -> TorchPrimitives:
    """Return the primitives of a step in ``precision`` on ``device``."""
    context = forward_context(precision, device)
    return ScaledPrimitives(context, device) if precision == SCALED else TorchPrimitives(context)
