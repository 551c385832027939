"""A program of the usual kind, for tests of Ignite programs, and runs of it on each backend."""

from __future__ import annotations

import dataclasses

import torch
from ignite.engine import Engine, create_supervised_evaluator
from ignite.metrics import Accuracy, RunningAverage
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

EVERYWHERE = ("ignite", "lightning", "reference")


class Written:
    """A program of the usual kind, and what it consists of."""

    def __init__(self):
        torch.manual_seed(5)
        self.net, self.head = nn.Linear(4, 5), nn.Linear(5, 2)
        self.optimizer = torch.optim.Adam([*self.net.parameters(), *self.head.parameters()], lr=0.1)
        data = TensorDataset(torch.randn(14, 4), torch.randint(0, 2, (14,)))
        self.loader = DataLoader(data, batch_size=4, shuffle=True)
        self.trainer = Engine(self.step)
        RunningAverage(output_transform=lambda x: x).attach(self.trainer, "loss")
        self.evaluator = create_supervised_evaluator(
            nn.Sequential(self.net, nn.ReLU(), self.head), {"accuracy": Accuracy()}
        )

    def step(self, engine, batch):
        x, y = batch
        self.optimizer.zero_grad()
        loss = nn.functional.cross_entropy(self.head(self.net(x).relu()), y)
        loss.backward()
        self.optimizer.step()
        return loss.item()


def outcomes(run):
    """Return what ``run(framework, program)`` returns on each backend, and the weights it left."""
    found = []
    for framework in EVERYWHERE:
        written = Written()
        found.append((run(framework, written), [*written.net.parameters(), *written.head.parameters()]))
    return found


def alike(run):
    (first, weights), *others = outcomes(run)
    for other, held in others:
        assert other == first
        assert all(map(torch.equal, weights, held))
    return first


def told(result):
    held = dataclasses.asdict(dataclasses.replace(result, native=None))
    held.pop("framework")
    return held
