"""What runs on each host of tests/bench/scale.py: a fit that leaves what a step sent and how long it took.

usage: scaled.py FOLDER STRATEGY FRAMEWORK CARD HOSTS, with the variables of torchrun
"""

from __future__ import annotations

import json
import statistics
import sys
import time
import warnings
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from tests.bench.scale_model import Workload
from tests.distributed.network import sent_by
from unitrain import DDP, FSDP, Event, TrainSpec, UnifiedTrainer

WIDTH, LAYERS, CLASSES, BATCH = 512, 4, 8, 8
SKIPPED, STEPS = 3, 12
"""Steps before the first that counts, and those that count."""


class Model(nn.Module):
    """Layers of one size, which FSDP gathers one by one, and a head that is left to the root."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(*(nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(LAYERS)))
        self.head = nn.Parameter(torch.randn(CLASSES, WIDTH) / WIDTH)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return the scores of the classes."""
        return self.layers(inputs) @ self.head.T


def workload() -> Workload:
    """Return the model as the formulas see it; its gradients are 4 MiB, in one bucket after the first step."""
    return Workload((4 * WIDTH * WIDTH,) * LAYERS, 4 * CLASSES * WIDTH, LAYERS + 1)


STRATEGIES = {"ddp": DDP(), "fsdp": FSDP(wrap=(nn.Linear,))}


class Meter:
    """Notes the clock and the card after each batch.

    Args:
        card: The network card.
    """

    def __init__(self, card: str) -> None:
        self._card = card
        self.seen: list[tuple[float, int]] = []

    def note(self, run: Any) -> None:
        """Note both."""
        self.seen.append((time.perf_counter(), sent_by(self._card)))

    def told(self) -> dict[str, float]:
        """Return the bytes of a step, and its seconds."""
        counted = self.seen[SKIPPED:]
        times = [after - before for (before, _), (after, _) in pairwise(counted)]
        return {"bytes": (counted[-1][1] - counted[0][1]) / len(times), "seconds": statistics.mean(times)}


def main(folder: str, strategy: str, framework: str, card: str, hosts: str) -> None:
    """Train, and leave what was measured in a file of this rank."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    torch.manual_seed(0)
    options = {"max_epochs": 1, "seed": 0, "accelerator": "cpu", "devices": 1, "enable_progress_bar": False}
    trainer = UnifiedTrainer(
        framework, strategy=STRATEGIES[strategy], num_nodes=int(hosts), default_root_dir=folder, **options
    )
    sgd = partial(torch.optim.SGD, lr=0.01)
    spec = TrainSpec(model=Model(), loss=nn.CrossEntropyLoss(), optimizer=sgd)
    samples = BATCH * (SKIPPED + STEPS + 1) * int(hosts)
    data = TensorDataset(torch.randn(samples, WIDTH), torch.randint(0, CLASSES, (samples,)))
    meter = Meter(card)
    trainer.on(Event.BATCH_END, meter.note)
    trainer.fit(spec, DataLoader(data, BATCH))
    Path(folder, f"{trainer.rank}.json").write_text(json.dumps(meter.told()))


if __name__ == "__main__":
    main(*sys.argv[1:])
