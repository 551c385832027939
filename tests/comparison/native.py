"""Code of the frameworks themselves, which the tests compare on each backend."""

from __future__ import annotations

import pytorch_lightning as pl
import torch
from ignite.engine import Engine
from torch import nn

from tests.comparison.programs import AT, loader, net, one_ulp
from unitrain import from_engine

OPTIONS = {"max_epochs": 2, "log_every_n_steps": 1}


class Module(pl.LightningModule):
    """A LightningModule with automatic optimization."""

    def __init__(self):
        super().__init__()
        self.net, self.seen = net(), 0

    def training_step(self, batch, index):
        loss = nn.functional.cross_entropy(self.net(batch[0]), batch[1])
        self.log("loss", loss)
        return loss

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=1e-2)


class Faulty(Module):
    """Changes one gradient by one ulp in step 4, on one engine only."""

    def on_before_optimizer_step(self, optimizer):
        self.seen += 1
        if self.seen == AT + 1:
            one_ulp(self.net[4].weight.grad, (1, 2))


def module():
    return Module(), loader(), None, OPTIONS


def faulty_module():
    return Faulty(), loader(), None, OPTIONS


def engine(faulty=False):
    model, criterion = net(), nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def step(engine, batch):
        model.train()
        optimizer.zero_grad()
        loss = criterion(model(batch[0]), batch[1])
        loss.backward()
        if faulty and engine.state.iteration == AT + 1:
            one_ulp(model[4].weight.grad, (1, 2))
        optimizer.step()
        return loss.item()

    return from_engine(Engine(step)), loader(), None, {"max_epochs": 2}


def faulty_engine():
    return engine(faulty=True)
