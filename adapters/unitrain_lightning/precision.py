"""Lightning precision plugins controlled by unitrain.

Lightning's own surround the whole training step; there the backward pass, the metrics and all handlers would run in the
precision too. Here ``unitrain.loop.step`` enters ``forward_context`` itself. The classes keep Lightning's names, which
a checkpoint holds a plugin's state.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from unitrain.loop.precision import SCALED, LossScaling
from unitrain_lightning._compat import keep_no_casts
from unitrain_lightning.namespace import OnLightning

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch

    from unitrain_lightning.namespace import Namespace

_NOTHING = nullcontext()


class _Entered(OnLightning):
    """Leaves it to the shared step to enter the context, and to the job to have converted model and batches."""

    def train_step_context(self) -> nullcontext[None]:
        """Do nothing around the step."""
        return _NOTHING

    val_step_context = test_step_context = predict_step_context = train_step_context

    def convert_module(self, module: Any) -> Any:
        """Leave the model unchanged: the job has converted it."""
        return module

    def convert_input(self, data: Any) -> Any:
        """Leave the batch unchanged: the job's data has converted it."""
        return data


class Precision(_Entered):
    """Plain float32, or whatever the model is in."""

    stands_on = "Precision"


class HalfPrecision(_Entered):
    """Model, input and tensors created in the forward pass in half precision."""

    stands_on = "HalfPrecision"


class DoublePrecision(_Entered):
    """Model, input and tensors created in the forward pass in double precision."""

    stands_on = "DoublePrecision"


class MixedPrecision(_Entered):
    """Autocast, with a scaler on every device for float16.

    Attributes:
        scaling: When the scaler does what, or None.

    Args:
        precision: ``"16-mixed"`` or ``"bf16-mixed"``.
        device: The type of the device.
    """

    stands_on = "MixedPrecision"

    def __init__(self, precision: str, device: str) -> None:
        self.scaling = LossScaling(device) if precision == SCALED else None
        super().__init__(precision, device, None if self.scaling is None else self.scaling.scaler)
        keep_no_casts(self, self.lightning.root)

    def pre_backward(self, tensor: torch.Tensor, module: Any) -> torch.Tensor:
        """Return the scaled loss, and call the hooks."""
        if self.scaling is not None:
            self.scaling.update()  # the scale of this loss is that of its gradients
        scaled: torch.Tensor = super().pre_backward(tensor, module)
        return scaled

    def optimizer_step(self, optimizer: Any, model: Any, closure: Callable[[], Any], **options: Any) -> Any:
        """Step, unless a gradient is not finite; the scale is updated later, for all optimizers of the batch."""
        if self.scaling is None:
            return super().optimizer_step(optimizer, model, closure, **options)
        closure()
        self.scaling.unscale(optimizer)
        self._after_closure(model, optimizer)
        self.scaling.step(optimizer)
        return None

    def clip_gradients(self, optimizer: Any, *args: Any, **options: Any) -> None:
        """Unscale the gradients, then clip them."""
        if self.scaling is not None:
            self.scaling.unscale(optimizer)
        super().clip_gradients(optimizer, *args, **options)


_PLUGINS: dict[str | int, tuple[type[OnLightning], tuple[str, ...]]] = {
    "32-true": (Precision, ()),
    "64-true": (DoublePrecision, ()),
    "bf16-true": (HalfPrecision, ("bf16-true",)),
    "16-true": (HalfPrecision, ("16-true",)),
    "bf16-mixed": (MixedPrecision, ("bf16-mixed",)),
    "16-mixed": (MixedPrecision, ("16-mixed",)),
}


def precision_plugin(lightning: Namespace, precision: str | int, device: torch.device) -> Any:
    """Return the plugin for ``precision`` on ``device``, of the package ``lightning``."""
    own, given = _PLUGINS[precision]
    return lightning.made(own)(*given, *((device.type,) if own is MixedPrecision else ()))
