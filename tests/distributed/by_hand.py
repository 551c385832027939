"""DDP as a person writes it, with nothing of unitrain, and what must be noticed if it goes wrong in unitrain."""

from __future__ import annotations

import random
from contextlib import nullcontext
from functools import partial
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler, Subset, TensorDataset

from unitrain import Event, TrainSpec, UnifiedTrainer
from unitrain.data.sharding import ContiguousSampler
from unitrain.distributed.collectives import ProcessGroup
from unitrain.distributed.strategies.ddp import Replica
from unitrain.metrics.metric import Mean
from unitrain.run.stopping import StopRule
from unitrain.testing.trace import differences

SAMPLES, VALIDATION, BATCH, EPOCHS, SEED = 22, 11, 4, 3, 5
Seen = dict[str, Any]


def network() -> nn.Module:
    torch.manual_seed(SEED)
    return nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 1))


def dataset(samples: int) -> TensorDataset:
    generator = torch.Generator().manual_seed(samples)
    return TensorDataset(torch.randn(samples, 6, generator=generator), torch.randn(samples, 1, generator=generator))


def by_hand(accumulate: int) -> Seen:
    """Train by a loop of torch alone."""
    rank, size = dist.get_rank(), dist.get_world_size()
    model = network()
    random.seed(SEED + rank)
    np.random.seed(SEED + rank)  # noqa: NPY002 - the one that unitrain sows
    torch.manual_seed(SEED + rank)
    parallel = DistributedDataParallel(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    loss_of = nn.MSELoss()
    train = dataset(SAMPLES)
    sampler = DistributedSampler(train, seed=SEED)
    loader = DataLoader(train, batch_size=BATCH, sampler=sampler)
    parts = np.array_split(np.arange(VALIDATION), size)  # unpadded
    own = Subset(dataset(VALIDATION), parts[rank].tolist())
    validation = DataLoader(own, batch_size=BATCH, generator=torch.Generator())  # leaves no trace in the global one
    losses, values = [], []
    for epoch in range(EPOCHS):
        sampler.set_epoch(epoch)
        for index, (inputs, target) in enumerate(loader):
            last = index + 1 == len(loader)
            if index % accumulate == 0:
                optimizer.zero_grad()
            stepping = last or (index + 1) % accumulate == 0
            with nullcontext() if stepping else parallel.no_sync():
                loss = loss_of(parallel(inputs), target)
                (loss / accumulate).backward()
            losses.append(loss.detach())
            if stepping:
                optimizer.step()
        for buffer in model.buffers():
            dist.broadcast(buffer, 0)
        model.eval()
        total, count = torch.zeros(()), 0
        with torch.no_grad():
            for inputs, target in validation:
                total, count = total + loss_of(model(inputs), target) * len(inputs), count + len(inputs)
        model.train()
        found: list[Any] = [None] * size
        dist.all_gather_object(found, (total, count))
        whole = found[0][0]
        for more, _ in found[1:]:
            whole = whole + more
        values.append(float(whole / sum(count for _, count in found)))
    return {"weights": model.state_dict(), "losses": losses, "val": values}


def by_unitrain(framework: str, accumulate: int) -> Seen:
    model = network()
    spec = TrainSpec(model=model, loss=nn.MSELoss(), optimizer=partial(torch.optim.AdamW, lr=1e-2))
    options = {"max_epochs": EPOCHS, "seed": SEED, "enable_progress_bar": False, "accumulate_grad_batches": accumulate}
    trainer = UnifiedTrainer(framework, devices=dist.get_world_size(), strategy="ddp", **options)
    losses: list[torch.Tensor] = []
    trainer.on(Event.BATCH_END, lambda run: losses.append(run.state.loss))
    loader = DataLoader(dataset(SAMPLES), batch_size=BATCH, shuffle=True)
    result = trainer.fit(spec, loader, DataLoader(dataset(VALIDATION), batch_size=BATCH))
    return {"weights": model.state_dict(), "losses": losses, "val": [row["val/loss"] for row in result.history]}


def oracle(frameworks: tuple[str, ...]) -> dict[str, list[str]]:
    return {
        f"by hand, accumulate {accumulate}: {framework}": differences(
            by_hand(accumulate), by_unitrain(framework, accumulate)
        )
        for framework in frameworks
        for accumulate in (1, 3)
    }


def _first_only(mean: Mean, _: object = None) -> float | None:
    return None if mean._total is None else float(mean._total / mean._weight)


FAULTS: dict[str, tuple[Any, str, Any]] = {
    "gradients stay at home": (
        Replica,
        "synchronize",
        lambda self, **_: setattr(self._parallel, "require_backward_grad_sync", False),
    ),
    "each micro-batch is exchanged twice": (Replica, "forward", lambda self, *batch: self._parallel.module(*batch)),
    "means of one process": (Mean, "compute", _first_only),
    "buffers fall apart": (ProcessGroup, "broadcast", lambda self, tensors: None),
    "everybody validates on the same samples": (ContiguousSampler, "__iter__", lambda self: iter(range(self._count))),
}
"""Faults of one line: where, and what stands there instead."""


def controls(framework: str) -> dict[str, list[str]]:
    """Return, for each seeded fault, an error if the comparison does not notice it on any process."""
    found = {}
    expected = by_hand(3)
    for name, (place, method, fault) in FAULTS.items():
        with mock.patch.object(place, method, fault):
            noticed: list[Any] = [None] * dist.get_world_size()
            dist.all_gather_object(noticed, bool(differences(expected, by_unitrain(framework, 3))))
        found[f"{name}: {framework}"] = [] if any(noticed) else ["nobody noticed"]
    return found


def stop_control(framework: str) -> dict[str, list[str]]:
    """A stop that is not agreed on is noticed: the others wait for the one that has stopped."""

    def stop(rule: StopRule) -> None:
        rule._agreed = rule._hub.stop_reason = "user"

    own = by_unitrain(framework, 1)
    with mock.patch.object(StopRule, "agree", stop):
        cut = by_unitrain(framework, 1)
    return {f"a stop for no reason: {framework}": [] if differences(own, cut) else ["nobody noticed"]}
