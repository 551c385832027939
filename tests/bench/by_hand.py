"""The loop that people write by hand: what all others are compared with."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from tests.bench.work import LR, Job

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import Tensor


class Sums:
    """A loss sum and a count of what is correct, on the device; read once an epoch."""

    def __init__(self) -> None:
        self.loss = self.correct = torch.zeros(())
        self.seen = 0

    def add(self, loss: Tensor, output: Tensor, target: Tensor) -> None:
        """Take a batch."""
        size = len(target)
        self.loss = self.loss + loss.detach() * size
        self.correct = self.correct + (output.detach().argmax(1) == target).sum()
        self.seen += size

    def read(self, prefix: str) -> dict[str, float]:
        """Return the means."""
        return {f"{prefix}/loss": self.loss.item() / self.seen, f"{prefix}/acc": self.correct.item() / self.seen}


def bare(job: Job) -> dict[str, float]:
    """Train, and measure nothing."""
    loss_of = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(job.model.parameters(), lr=LR)
    for _ in range(job.work.epochs):
        for inputs, target in job.train:
            optimizer.zero_grad()
            loss_of(job.model(inputs), target).backward()
            optimizer.step()
    return {}


def bare_m(job: Job) -> dict[str, float]:
    """Train or evaluate, with a loss and an accuracy an epoch."""
    loss_of = nn.CrossEntropyLoss()
    if job.train is None:
        for _ in range(job.work.epochs):
            found = evaluated(job.model, loss_of, job.val)
        return found
    optimizer = torch.optim.SGD(job.model.parameters(), lr=LR)
    for _ in range(job.work.epochs):
        sums = Sums()
        for inputs, target in job.train:
            optimizer.zero_grad()
            output = job.model(inputs)
            loss = loss_of(output, target)
            loss.backward()
            optimizer.step()
            sums.add(loss, output, target)
        found = sums.read("train")
        if job.val is not None:
            found |= evaluated(job.model, loss_of, job.val)
    return found


def evaluated(model: nn.Module, loss_of: nn.Module, batches: Iterable[tuple[Tensor, Tensor]]) -> dict[str, float]:
    """Return the loss and the accuracy on ``batches``."""
    model.eval()
    sums = Sums()
    with torch.no_grad():
        for inputs, target in batches:
            output = model(inputs)
            sums.add(loss_of(output, target), output, target)
    model.train()
    return sums.read("val")
