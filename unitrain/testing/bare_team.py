"""How the reference loop works on several processes: torch.distributed by hand, sharing nothing with the core."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import distributed as dist
from torch.nn.parallel import DistributedDataParallel

from unitrain.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import Tensor
    from torch.optim import Optimizer

    from unitrain.backends.protocol import FitJob

_STOPS = [None, "max_epochs", "early_stopping", "max_time", "user", "nan", "max_steps", "interrupt", "signal"]


def wrapped(job: FitJob) -> Any:
    """Return the replacement of the model in the forward pass of training."""
    if job.team.size == 1 or not job.spec.automatic_optimization:
        return job.spec.model
    some_frozen = any(callback.leaves_unused for callback in job.callbacks.values())
    still = {"find_unused_parameters": some_frozen or job.team.size > 2}  # noqa: PLR2004 - else the order of sums changes
    return DistributedDataParallel(job.spec.model, **still | dict((job.config.native or {}).get("ddp", {})))


def average_gradients(optimizer: Optimizer) -> None:
    """Average the gradients of one optimizer by hand, as one vector of all that have one."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    if not any(everybodys(len(gradients))):
        return
    vector = torch.cat([gradient.flatten() for gradient in gradients]) / dist.get_world_size()
    dist.all_reduce(vector)
    at = 0
    for gradient in gradients:
        gradient[...] = vector[at : at + gradient.numel()].view(gradient.shape)
        at += gradient.numel()


def from_rank_zero(tensors: Iterable[Tensor]) -> None:
    """Overwrite buffers with those of rank 0."""
    for tensor in tensors:
        dist.broadcast(tensor, 0)


def stop_of_all(own: str | None) -> str | None:
    """Return why the run stops: the weightiest of all reasons."""
    return _STOPS[max(_STOPS.index(reason) for reason in everybodys(own))]


def all_or_none_end(last: bool, done: int) -> None:
    """Refuse to continue if some have had their last batch, and others have not."""
    ends = everybodys(last)
    if any(ends) and not all(ends):
        raise DataError(f"after {done} batches the data has ended on the ranks {[i for i, e in enumerate(ends) if e]}.")


def everybodys(value: Any) -> list[Any]:
    """Return the value of each process."""
    found = [None] * dist.get_world_size()
    dist.all_gather_object(found, value)
    return found


def sums_of_all(own: dict[str, tuple[Tensor, int]]) -> dict[str, tuple[Tensor, int]]:
    """Return the sums and weights of each name, added up in the order of ranks."""
    total: dict[str, tuple[Tensor, int]] = {}
    for part in everybodys({name: (value.cpu(), weight) for name, (value, weight) in own.items()}):
        for name, (value, weight) in part.items():
            before = total.get(name)
            total[name] = (value, weight) if before is None else (before[0] + value, before[1] + weight)
    return total
