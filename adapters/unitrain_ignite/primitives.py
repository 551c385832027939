"""What Ignite contributes to a step: plain torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch.nn.utils import clip_grad_norm_, clip_grad_value_

from unitrain.optimization import clipped_parameters

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor
    from torch.optim import Optimizer

_CLIP: dict[str, Callable[..., object]] = {"norm": clip_grad_norm_, "value": clip_grad_value_}


class TorchPrimitives:
    """The primitives of a step on one device, without a framework between."""

    def zero_grad(self, optimizer: Optimizer) -> None:
        """Clear the gradients."""
        optimizer.zero_grad()

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of ``loss``."""
        loss.backward()  # type: ignore[no-untyped-call]

    def clip(self, optimizer: Optimizer, value: float, algorithm: str) -> None:
        """Clip the gradients of all parameters of ``optimizer`` together."""
        _CLIP[algorithm](clipped_parameters(optimizer), value)

    def step(self, optimizer: Optimizer, closure: Callable[[], Tensor] | None = None) -> None:
        """Step ``optimizer``."""
        optimizer.step(closure)  # type: ignore[arg-type]
