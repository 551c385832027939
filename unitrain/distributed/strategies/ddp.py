"""The DDP strategy, with torch's DistributedDataParallel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import nn
from torch.nn.parallel import DistributedDataParallel

from unitrain.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor

    from unitrain.config import TrainerConfig


_TWO = 2


def ddp_options(config: TrainerConfig, size: int, *, unused: bool = False) -> dict[str, Any]:
    """Return the arguments of DistributedDataParallel for ``size`` processes.

    Of three numbers and more the sum depends on the order, which follows from a gradient's place in torch's buckets.
    torch lays them out again after a run's first backward pass, so the first step of a resumed run would
    add in another order than the same step of the run before. Where it looks for unused parameters, it does not.
    It looks for them too if a callback leaves some ``unused``.
    """
    own = (config.native or {}).get("ddp", {})
    return {"find_unused_parameters": unused or (size > _TWO and not own.get("static_graph")), **own}


class Replica:
    """Runs a step's forward pass so that the gradients that follow are the means over all processes.

    The whole forward pass, loss included, is what DistributedDataParallel wraps. So a step works with the user's model
    itself, whose attributes and parts it may use, and parameters that a step did not use are known by the loss.

    Args:
        model: The trained model.
        forward: Returns the loss of a batch; it calls ``model`` or parts of it.
        options: Further arguments for DistributedDataParallel.

    Raises:
        ConfigError: If DistributedDataParallel does not take them.
    """

    def __init__(self, model: nn.Module, forward: Callable[..., Tensor], options: Mapping[str, Any]) -> None:
        try:
            self._parallel = DistributedDataParallel(_Step(model, forward), **options)
        except TypeError as error:
            raise ConfigError(
                f"native={{'ddp': {dict(options)!r}}}: torch's DistributedDataParallel raised: {error}.",
                hint='native={"ddp": {"find_unused_parameters": True}}',
            ) from error

    def forward(self, *batch: Any) -> Tensor:
        """Return the loss of a batch."""
        loss: Tensor = self._parallel(*batch)
        return loss

    def synchronize(self, *, now: bool) -> None:
        """Exchange gradients in the backward pass to come, or leave them to add up here (what ``no_sync`` does)."""
        self._parallel.require_backward_grad_sync = now


class _Step(nn.Module):
    """A forward pass as a module that has the model's parameters."""

    def __init__(self, model: nn.Module, forward: Callable[..., Tensor]) -> None:
        super().__init__()
        self.model = model
        self._forward = forward

    def forward(self, *batch: Any) -> Tensor:
        return self._forward(*batch)
