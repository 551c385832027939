"""Linear warm-up of learning rates."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch.optim import Optimizer

FULL_RATE = "warmup_lr"
"""The parameter-group key that holds the unscaled rate during warm-up, so that checkpoints contain it."""


class Warmup:
    """Scales the learning rates of one optimizer during its first steps.

    Schedules read and write unscaled rates: while one is stepped, the scaling is lifted.

    Args:
        optimizer: The optimizer whose rates to scale.
        length: Number of steps; step ``k`` (from 0) uses ``(k + 1) / length`` of the rate.
    """

    def __init__(self, optimizer: Optimizer, length: int) -> None:
        self._optimizer = optimizer
        self._length = length

    @contextmanager
    def lifted(self, steps: int) -> Iterator[None]:
        """Restore the unscaled rates, then scale the changed ones for the next step.

        Args:
            steps: Number of steps of the optimizer.
        """
        lift(self._optimizer)
        yield
        done = steps + 1
        if done < self._length:
            for group in self._optimizer.param_groups:
                rate = group["lr"]
                group[FULL_RATE] = rate.clone() if isinstance(rate, Tensor) else rate
                _set(group, rate * (done / self._length))


def lift(optimizer: Optimizer) -> None:
    """Restore the unscaled rates of ``optimizer``, if an unfinished warm-up has scaled them."""
    for group in optimizer.param_groups:
        if FULL_RATE in group:
            _set(group, group.pop(FULL_RATE))


def _set(group: dict[str, Any], rate: Any) -> None:
    """Set the rate of a group; a tensor is written in place, because a compiled optimizer refers to it."""
    if isinstance(group["lr"], Tensor):
        group["lr"].copy_(rate)
    else:
        group["lr"] = rate
