"""What the tests of monitoring share: every backend, and a short training."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from tests import backends
from unitrain import Event, LRSchedule, TrainSpec, UnifiedTrainer, metric

framework = backends.framework

BATCHES = 6


def data():
    torch.manual_seed(1)
    return [(torch.randn(8, 4), torch.randint(0, 3, (8,))) for _ in range(BATCHES)]


def make_spec(**changes):
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))
    return TrainSpec(
        **{
            "model": net,
            "loss": torch.nn.CrossEntropyLoss(),
            "optimizer": partial(torch.optim.SGD, lr=0.1),
            "metrics": {"acc": metric("accuracy", num_classes=3)},
            "lr_scheduler": LRSchedule(partial(torch.optim.lr_scheduler.StepLR, step_size=2), interval="step"),
            **changes,
        }
    )


@pytest.fixture
def new_spec():
    """Return a function that makes the spec, with changes."""
    return make_spec


@pytest.fixture
def batches():
    """Return the training data."""
    return data()


@pytest.fixture
def train():
    """Return a function that trains a seeded spec and returns the trainer; ``train.result`` is its result."""

    def train(framework, *loggers, spec=None, at_end=None, at_batch=None, **options):
        given = {"max_epochs": 2, "seed": 3, "enable_progress_bar": False, "log_every_n_steps": 1, **options}
        trainer = UnifiedTrainer(framework, loggers=loggers, **given)
        if at_end is not None:
            trainer.on(Event.FIT_END, at_end)
        if at_batch is not None:
            trainer.on(Event.BATCH_END, at_batch)
        train.spec = spec or make_spec()
        train.result = trainer.fit(train.spec, data(), data())
        return trainer

    return train
