"""Precision in torch's terms: model dtype, autocast and loss scaling.

The ``true`` precisions keep the model, its input and tensors created in the forward pass in one dtype; the ``mixed``
ones autocast the forward pass; ``16-mixed`` also scales the loss. All work on every device, or torch raises.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from operator import methodcaller
from typing import TYPE_CHECKING, Any, TypeAlias

import torch

from unitrain.data.batch import to_dtype
from unitrain.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import Tensor, nn
    from torch.optim import Optimizer

    from unitrain.data.sources import DataSource

Context: TypeAlias = "Callable[[], AbstractContextManager[Any]] | None"
"""Returns the context of a forward pass; None for a no-op."""

_TRUE: dict[str | int, torch.dtype] = {"64-true": torch.float64, "16-true": torch.float16, "bf16-true": torch.bfloat16}
_CAST = {torch.float64: methodcaller("double"), torch.float16: methodcaller("half")}
_CAST[torch.bfloat16] = methodcaller("bfloat16")
_MIXED: dict[str | int, torch.dtype] = {"16-mixed": torch.float16, "bf16-mixed": torch.bfloat16}
SCALED = "16-mixed"
"""The precision that scales the loss, because small float16 gradients would underflow."""


def convert_model(model: nn.Module, precision: str | int) -> None:
    """Convert floating-point parameters and buffers of ``model`` permanently to the dtype of a ``true`` precision.

    ``"32-true"`` and the mixed precisions leave a model unchanged.
    """
    dtype = _TRUE.get(precision)
    if dtype is not None:
        _CAST[dtype](model)


def converted(source: DataSource, precision: str | int) -> DataSource:
    """Return ``source`` with floating tensors of its batches in the dtype of a ``true`` precision."""
    dtype, place = _TRUE.get(precision), source.place
    if dtype is None:
        return source
    return replace(source, place=lambda batch: to_dtype(batch if place is None else place(batch), dtype))


def forward_context(precision: str | int, device: torch.device) -> Context:
    """Return the context factory of a forward pass.

    Autocast does not cache cast weights: Lightning's does not either, and the gradients of a weight that is used twice
    would differ in bits.
    """
    if precision in _MIXED:
        return partial(torch.autocast, device.type, dtype=_MIXED[precision], cache_enabled=False)
    return partial(default_dtype, _TRUE[precision]) if precision in _TRUE else None


def outside(precision: str | int, device: torch.device) -> Callable[[], AbstractContextManager[Any]]:
    """Return a context that suspends ``forward_context``, for a backward pass or a step in a manual training step."""
    if precision in _MIXED:
        return partial(torch.autocast, device.type, enabled=False)
    return partial(default_dtype, torch.get_default_dtype()) if precision in _TRUE else nullcontext


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """Create floating-point tensors in ``dtype`` meanwhile."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def within(context: Context, function: Any) -> Any:
    """Return ``function`` wrapped in ``context``, or unchanged if either is None."""
    if context is None or function is None:
        return function

    def run(*args: Any) -> Any:
        with context():
            return function(*args)

    return run


class LossScaling:
    """The scaling of the loss with ``16-mixed``: scale → backward → unscale → clip → step → update.

    All optimizers share one scale. It is updated once for all steps since the last update: before the next backward, or
    at the end of the batch. So two backward passes may precede the steps of two optimizers.

    Attributes:
        scaler: The torch GradScaler.

    Args:
        device: The device of the losses.

    Raises:
        ConfigError: If torch cannot scale on the device; it would silently not scale.
    """

    def __init__(self, device: str) -> None:
        self.scaler = torch.amp.GradScaler(device)
        self._unscaled: set[int] = set()
        self._stepped: set[int] = set()
        if not self.scaler.is_enabled():
            raise ConfigError(f"precision={SCALED!r}: torch has no GradScaler for {device}.", hint='"bf16-mixed"')

    def scale(self, loss: Tensor) -> Tensor:
        """Return the scaled loss."""
        self.update()
        return self.scaler.scale(loss)

    def unscale(self, optimizer: Optimizer) -> None:
        """Divide the gradients of ``optimizer`` by the scale, once before each step."""
        if id(optimizer) in self._stepped:
            self.update()  # stepped again without a backward between
        if id(optimizer) not in self._unscaled and _has_gradients(optimizer):
            self.scaler.unscale_(optimizer)
            self._unscaled.add(id(optimizer))

    def step(self, optimizer: Optimizer) -> None:
        """Step ``optimizer``, unless a gradient is not finite."""
        self.unscale(optimizer)
        if id(optimizer) not in self._unscaled:
            optimizer.step()  # without any gradient; the scaler insists on one
            return
        self.scaler.step(optimizer)
        self._stepped.add(id(optimizer))
        # A skipped step counts, so a scheduler may be stepped before the first real one; torch would take it for a
        # mistake in the order and warn.
        optimizer._opt_called = True  # type: ignore[attr-defined]  # noqa: SLF001 - torch's own mark

    def update(self) -> None:
        """Update the loss scale."""
        if self._stepped:
            self.scaler.update()
            self._unscaled.clear()
            self._stepped.clear()


def _has_gradients(optimizer: Optimizer) -> bool:
    return any(parameter.grad is not None for group in optimizer.param_groups for parameter in group["params"])
