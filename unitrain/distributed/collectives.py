"""Collective operations; no-ops in a single process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import torch
from torch import Tensor
from torch import distributed as dist

from unitrain.errors import SpecError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from torch import nn

    from unitrain.distributed.health.watchdog import Watchdog
    from unitrain.distributed.world import World

Reduction: TypeAlias = Literal["mean", "sum", "max", "min"]


class Collectives:
    """The collectives of a single process.

    Attributes:
        rank: Rank of this process, from 0.
        size: Number of processes.
        world: The position of this process; None for a single process.
    """

    rank = 0
    size = 1
    world: World | None = None

    def failed(self, error: BaseException) -> BaseException:
        """Report ``error`` to the other processes, and return the error to raise, which names the responsible rank."""
        return error

    def all_gather_object(self, value: Any) -> list[Any]:
        """Return the ``value`` of each process, in the order of ranks; it travels pickled."""
        return [value]

    def all_reduce_max(self, values: Sequence[int]) -> list[int]:
        """Return the maximum of each number over all processes."""
        return list(values)

    def barrier(self) -> None:
        """Wait until all processes arrive."""

    def all_gather(self, value: Tensor) -> Tensor:
        """Return the tensors of all processes, stacked in the order of ranks: shape ``(size, *value.shape)``."""
        return value.unsqueeze(0)

    def all_reduce(self, value: Tensor | float, op: Reduction = "mean") -> Tensor | float:
        """Return one value of all processes, added up in the order of ranks, so that it is the same bits everywhere.

        Raises:
            SpecError: If ``op`` is none of the four.
        """
        if op not in _REDUCTIONS:
            raise SpecError(f"all_reduce(op={op!r}) must be one of {', '.join(map(repr, _REDUCTIONS))}.")
        tensor = torch.as_tensor(value)
        reduced: Tensor = _REDUCTIONS[op](self.all_gather(tensor))
        return reduced if isinstance(value, Tensor) else reduced.item()

    def broadcast(self, tensors: Iterable[Tensor]) -> None:
        """Broadcast these tensors from rank 0."""

    def broadcast_buffers(self, model: nn.Module) -> None:
        """Broadcast rank 0's buffers (such as running means), which go into the checkpoint."""
        self.broadcast(model.buffers())

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace gradients by their means over all processes; one that a process lacks counts as zero there."""


def _in_order(values: Tensor) -> Tensor:
    total = values[0].clone()
    for value in values[1:]:
        total = total + value
    return total


def _mean(values: Tensor) -> Tensor:
    total = _in_order(values if values.is_floating_point() else values.float())
    return total / len(values)


_REDUCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "mean": _mean,
    "sum": _in_order,
    "max": lambda values: values.amax(0),
    "min": lambda values: values.amin(0),
}

SINGLE_PROCESS = Collectives()


class ProcessGroup(Collectives):
    """The processes of torch's default process group.

    Args:
        world: The place of this process.
        watch: Knows what ended the others.
    """

    def __init__(self, world: World, watch: Watchdog) -> None:
        self.rank = world.rank
        self.size = world.size
        self.world = world
        self._watch = watch

    def failed(self, error: BaseException) -> BaseException:
        """Report ``error`` to the other processes, and return the error to raise, which names the responsible rank."""
        return self._watch.failed(error)

    def all_gather_object(self, value: Any) -> list[Any]:
        """Return the ``value`` of each process, in the order of ranks."""
        found: list[Any] = [None] * self.size
        dist.all_gather_object(found, value)
        return found

    def all_reduce_max(self, values: Sequence[int]) -> list[int]:
        """Return the maximum of each number over all processes."""
        numbers = torch.tensor(values, dtype=torch.int32)
        dist.all_reduce(numbers, op=dist.ReduceOp.MAX)
        return [int(number) for number in numbers]

    def barrier(self) -> None:
        """Wait until all processes arrive."""
        self.all_reduce_max([0])  # on the processor's group, which a GPU need not be asked for

    def all_gather(self, value: Tensor) -> Tensor:
        """Return the tensors of all processes, stacked in the order of ranks."""
        value = value.detach().contiguous()
        found = [torch.empty_like(value) for _ in range(self.size)]
        dist.all_gather(found, value)
        return torch.stack(found)

    def broadcast(self, tensors: Iterable[Tensor]) -> None:
        """Broadcast these tensors from rank 0."""
        for tensor in tensors:
            dist.broadcast(tensor.detach(), src=0)

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace gradients by their means over all processes, in one exchange for each dtype and device."""
        trained = [parameter for parameter in parameters if parameter.requires_grad]
        there = self.all_reduce_max([int(parameter.grad is not None) for parameter in trained])
        groups: dict[tuple[torch.dtype, torch.device], list[nn.Parameter]] = {}
        for parameter, anywhere in zip(trained, there, strict=True):
            if anywhere:
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
                groups.setdefault((parameter.grad.dtype, parameter.grad.device), []).append(parameter)
        for group in groups.values():
            self._average([parameter.grad for parameter in group if parameter.grad is not None])

    def _average(self, gradients: list[Tensor]) -> None:
        flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
        dist.all_reduce(flat.div_(self.size))
        parts = torch.split(flat, [gradient.numel() for gradient in gradients])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view_as(gradient))
