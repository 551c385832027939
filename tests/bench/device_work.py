"""What `make bench-gpu` trains, and the loop by hand on a device; a tiny size of each is tried on the CPU by a test."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from tests.bench.by_hand import Sums
from tests.bench.work import LR, Characters, Job, Work, digits, fully_connected

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.bench.timing import Variant

MIXED = {"16-mixed": torch.float16, "bf16-mixed": torch.bfloat16}


@dataclass(frozen=True)
class DeviceWork(Work):
    """A work item for a device.

    Attributes:
        precision: unitrain's name of the precision.
    """

    precision: str = "32-true"


@dataclass(frozen=True)
class Size:
    """How large the items are.

    Attributes:
        length: Characters in a sequence.
        width: Of the transformer.
        channels: Of the convolution net's first layers.
        side: Pixels on a side of its images.
        batch: Sequences in a batch; of images there are four times as many.
        batches: Batches in an epoch.
        epochs: How many to train of the small net; of the large ones a third.
    """

    length: int = 512
    width: int = 512
    channels: int = 64
    side: int = 32
    batch: int = 64
    batches: int = 40
    epochs: int = 25


FULL = Size()
TINY = Size(length=16, width=16, channels=4, side=8, batch=4, batches=3, epochs=3)


def convolutions(channels: int) -> nn.Module:
    """Return a convolution net with batch norm, of six layers in three widths."""
    layers: list[nn.Module] = []
    wide = 3
    for narrow in (channels, 2 * channels, 4 * channels):
        for stride in (1, 2):
            layers += [nn.Conv2d(wide, narrow, 3, stride, 1, bias=False), nn.BatchNorm2d(narrow), nn.ReLU()]
            wide = narrow
    return nn.Sequential(*layers, nn.Flatten(2), Mean(), nn.Linear(wide, 10))


class Mean(nn.Module):
    """The mean over all places; torch's pooling has no deterministic backward pass on a GPU."""

    def forward(self, values: Tensor) -> Tensor:
        """Return it."""
        return values.mean(-1)


def _sequences(size: Size) -> TensorDataset:
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(0, 64, (size.batch * size.batches, size.length), generator=generator)
    return TensorDataset(tokens, tokens[:, 0] % 8)


def _images(size: Size) -> TensorDataset:
    generator = torch.Generator().manual_seed(0)
    count = 4 * size.batch * size.batches
    images = torch.randn(count, 3, size.side, size.side, generator=generator)
    return TensorDataset(images, torch.randint(0, 10, (count,), generator=generator))


def _loaded(data: Callable[[], TensorDataset], size: int, device: torch.device) -> Callable[[], Any]:
    """Return what makes a DataLoader of pinned memory, whose order comes from a generator of its own."""
    pinned = device.type == "cuda"
    return lambda: DataLoader(data(), size, shuffle=True, pin_memory=pinned, generator=torch.Generator().manual_seed(0))


def works(device: torch.device, size: Size = FULL) -> dict[str, DeviceWork]:
    """Return the items by name."""
    few = max(1, size.epochs // 3)
    items = (
        DeviceWork(
            "W2",
            "MLP 64-256-256-10, batch 128",
            partial(fully_connected, 64, 256, 256, 10),
            10,
            size.epochs,
            _loaded(digits, 128, device),
        ),
        DeviceWork(
            "W5 large",
            f"transformer of width {size.width}, sequence {size.length}, batch {size.batch}, bf16-mixed",
            partial(Characters, 64, size.width, 8, size.length),
            8,
            few,
            _loaded(partial(_sequences, size), size.batch, device),
            precision="bf16-mixed",
        ),
        DeviceWork(
            "AMP convolutions",
            f"6 convolutions of {size.channels} to {4 * size.channels} channels, batch {4 * size.batch}, 16-mixed",
            partial(convolutions, size.channels),
            10,
            few,
            _loaded(partial(_images, size), 4 * size.batch, device),
            precision="16-mixed",
        ),
    )
    return {item.name: item for item in items}


def by_hand(device: torch.device, precision: str) -> Variant:
    """Return the loop that people write for a device: copies that do not wait, autocast, and a scaler for float16."""
    autocast = nullcontext
    if precision in MIXED:
        # as unitrain and Lightning, which do not keep cast weights; else the bits would differ
        autocast = partial(torch.autocast, device.type, dtype=MIXED[precision], cache_enabled=False)

    def run(job: Job) -> dict[str, float]:
        model, loss_of = job.model.to(device), nn.CrossEntropyLoss()
        optimizer = torch.optim.SGD(model.parameters(), lr=LR)
        scaler = torch.amp.GradScaler(device.type, enabled=precision == "16-mixed")
        for _ in range(job.work.epochs):
            sums = Sums()
            for batch in job.train:
                inputs, target = (one.to(device, non_blocking=True) for one in batch)
                optimizer.zero_grad()
                with autocast():
                    output = model(inputs)
                    loss = loss_of(output, target)
                scaler.scale(loss).backward()
                scaler.step(optimizer)
                scaler.update()
                sums.add(loss, output, target)
            found = sums.read("train")
        return found

    return run
