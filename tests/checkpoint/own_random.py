"""Data with random states of its own, and a fit that is resumed with it."""

from __future__ import annotations

import random
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset

from unitrain import CombinedLoader, Event, TrainSpec, UnifiedTrainer

BACKENDS = ("lightning", "ignite", "reference")
each_backend = pytest.mark.parametrize("framework", BACKENDS)
X, Y = torch.randn(2, 12, 4, generator=torch.Generator().manual_seed(1))
BATCHES = 4
"""Of three samples each."""

GENERATORS = {
    "python": lambda: random.Random(3),
    "numpy": lambda: np.random.default_rng(3),
    "mt19937": lambda: np.random.Generator(np.random.MT19937(3)),
    "philox": lambda: np.random.Generator(np.random.Philox(3)),
    "legacy": lambda: np.random.RandomState(3),
    "torch": lambda: torch.Generator().manual_seed(3),
}


def drawn(generator):
    if isinstance(generator, torch.Generator):
        return torch.rand((), generator=generator).item()
    return generator.random() if hasattr(generator, "random") else generator.random_sample()


class Order:
    """A batch sampler that shuffles with a generator of its own."""

    def __init__(self, generator):
        self.own = generator

    def __iter__(self):
        order = sorted(range(12), key={number: drawn(self.own) for number in range(12)}.get)
        return iter([order[number : number + 3] for number in range(0, 12, 3)])

    def __len__(self):
        return BATCHES


class Noise:
    def __init__(self, generator):
        self.own = generator

    def __call__(self, sample):
        return sample + drawn(self.own)


class Rows(Dataset):
    def __init__(self, transform=None):
        self.transform = transform

    def __len__(self):
        return 12

    def __getitem__(self, index):
        return (X[index] if self.transform is None else self.transform(X[index])), Y[index, :1]


class Stream(IterableDataset):
    def __init__(self, generator):
        self.own = generator

    def __iter__(self):
        return ((X[index] + drawn(self.own), Y[index, :1]) for index in range(12))


LOADERS = {
    "sampler": lambda generator: DataLoader(Rows(), batch_sampler=Order(generator)),
    "transform": lambda generator: DataLoader(Subset(Rows([Noise(generator)][0]), range(12)), 3, shuffle=True),
    "stream": lambda generator: DataLoader(Stream(generator), 3),
    "combined": lambda generator: CombinedLoader([DataLoader(Rows(), batch_sampler=Order(generator))]),
}


def step(model, batch):
    pairs = batch if isinstance(batch[0], (list, tuple)) else [batch]  # of several loaders
    return sum(nn.functional.mse_loss(model(x), y) for x, y in pairs)


def spec():
    torch.manual_seed(0)
    sgd = partial(torch.optim.SGD, lr=0.1, momentum=0.9)
    return TrainSpec(model=nn.Linear(4, 1), optimizer=sgd, training_step=step, validation_step=step, batch_size=3)


def fit(framework, loader, val=None, *, at=0, path=None, ckpt_path=None):
    trainer = UnifiedTrainer(framework, max_epochs=3, seed=0, enable_progress_bar=False)

    def save(run):
        if run.state.batch == at:
            run.save_checkpoint(path)

    trainer.on(Event.BATCH_END, save)
    what = spec()
    result = trainer.fit(what, loader, val, ckpt_path=ckpt_path)
    return what.model.state_dict(), result.history


def same(one, other):
    return all(map(torch.equal, one[0].values(), other[0].values())) and one[1] == other[1]


def with_slow(names, *slow):
    return [pytest.param(name, marks=pytest.mark.slow if name in slow else ()) for name in names]


class Lazy(Rows):
    """Makes its generator when it is first read."""

    rng = None

    def own(self):
        if self.rng is None:
            self.rng = np.random.default_rng(3)
        return self.rng

    def __getitem__(self, index):
        x, y = super().__getitem__(index)
        return x + drawn(self.own()), y
