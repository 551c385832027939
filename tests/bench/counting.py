"""What can be counted of a run, and is the same on every machine: Python calls, and waits for the device."""

from __future__ import annotations

import gc
import sys
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from tests.bench.work import Ready, fully_connected
from unitrain import TrainSpec, UnifiedTrainer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FEW, MANY = 50, 150
"""Batches of two runs, whose difference is that of so many steps: what a run and an epoch cost is not in it."""


def accuracy(output, target):
    return (output.argmax(1) == target).float().mean()


def spec(**changes: Any) -> TrainSpec:
    """Return the small model with a loss and an accuracy."""
    fields = {"model": fully_connected(64, 32, 10), "loss": nn.CrossEntropyLoss(), "metrics": {"acc": accuracy}}
    return TrainSpec(**{**fields, "optimizer": partial(torch.optim.SGD, lr=0.1), **changes})


def batches(count: int) -> Ready:
    """Return so many random batches."""
    generator = torch.Generator().manual_seed(0)
    return Ready(
        [
            (torch.randn(32, 64, generator=generator), torch.randint(0, 10, (32,), generator=generator))
            for _ in range(count)
        ]
    )


def trainer(framework: str, **options: Any) -> UnifiedTrainer:
    """Return a trainer of one epoch on the CPU that shows nothing."""
    return UnifiedTrainer(framework, **{"max_epochs": 1, "accelerator": "cpu", "enable_progress_bar": False, **options})


class Calls:
    """Counts calls of Python functions in this thread."""

    def __init__(self) -> None:
        self.count = 0

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Count meanwhile."""
        gc.collect()
        gc.disable()  # what it calls, it calls at any time
        sys.setprofile(self._note)
        try:
            yield
        finally:
            sys.setprofile(None)
            gc.enable()

    def _note(self, frame: Any, event: str, arg: Any) -> None:
        self.count += event == "call"


class Waits:
    """Counts what would make a host wait for its device, on tensors that say they are not the host's."""

    def __init__(self) -> None:
        self.count = 0

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Count meanwhile."""
        with _Operators(self), _Methods(self):
            yield


class _Operators(TorchDispatchMode):
    """Sees operators whose result or its shape is read from the device."""

    WAITS = ("_local_scalar_dense", "nonzero", "equal", "masked_select", "_unique2", "bincount")

    def __init__(self, waits: Waits) -> None:
        super().__init__()
        self._waits = waits

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self._waits.count += func.overloadpacket.__name__ in self.WAITS
        return func(*args, **(kwargs or {}))


class _Methods(TorchFunctionMode):
    """Sees what copies to the host, which is no operator where the tensor is there already."""

    WAITS = (torch.Tensor.cpu, torch.Tensor.numpy, torch.Tensor.tolist, torch.Tensor.__array__)
    IS_CPU = torch.Tensor.is_cpu.__get__

    def __init__(self, waits: Waits) -> None:
        super().__init__()
        self._waits = waits

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func == self.IS_CPU:  # what is in the host's memory may be read without a wait: none is
            return False
        self._waits.count += func in self.WAITS
        return func(*args, **(kwargs or {}))


def difference(counter: type[Calls | Waits], run: Callable[[int], Callable[[], object]]) -> int:
    """Return what ``MANY - FEW`` steps cost.

    Args:
        counter: What to count.
        run: Prepares a run of so many batches, and returns what runs it.
    """
    found = []
    for count in (2, FEW, MANY):  # first use imports and fills caches
        ready, counts = run(count), counter()
        with counts.counted():
            ready()
        found.append(counts.count)
    return found[2] - found[1]


def a_step(counter: type[Calls | Waits], run: Callable[[int], Callable[[], object]]) -> float:
    """Return what a step costs."""
    return difference(counter, run) / (MANY - FEW)
