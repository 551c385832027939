"""A project of LightningCLI: what its files name by class path."""

from __future__ import annotations

import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from tests.bridges.lightning_subject import Loaders, Log, Steps, listening_callback, samples

LOG = Log()
"""What the listening callback heard; a test empties it."""

MADE: list = []
"""The modules that were made; a test empties it."""


class Net(Steps, pl.LightningModule):
    def __init__(self, width: int = 4, how: str = "one"):
        Steps.__init__(self, width, how)
        MADE.append(self)


class Failing(Net):
    def __init__(self, width: int = 4):
        raise RuntimeError("it is broken")


class OwnData(Net):
    def train_dataloader(self):
        return DataLoader(samples(12), batch_size=4, shuffle=True)

    def val_dataloader(self):
        return DataLoader(samples(6, 1), batch_size=4)


class Data(Loaders, pl.LightningDataModule):
    pass


def listening() -> pl.Callback:
    return listening_callback(pl, LOG)


def net(width: int = 4) -> pl.LightningModule:
    """Return a module, as a script may name a function instead of a class."""
    made = Net(width)
    torch.nn.init.zeros_(made.head.bias)
    return made
