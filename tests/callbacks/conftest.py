"""What the tests of callbacks share: a tiny spec, data, and every backend."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import nn

from tests import backends
from unitrain import Callback, Event, TrainSpec, UnifiedTrainer

framework = backends.framework


class Scores(Callback):
    """Logs ``train/score`` in each epoch, from a list; None is not logged."""

    def __init__(self, scores):
        self.scores = scores

    def on_epoch_end(self, run):
        if self.scores[run.state.epoch] is not None:
            run.log("score", self.scores[run.state.epoch])


@pytest.fixture
def make_spec():
    def make(**changes):
        torch.manual_seed(0)
        fields = {"model": nn.Linear(4, 1), "loss": nn.MSELoss(), "optimizer": partial(torch.optim.SGD, lr=0.1)}
        return TrainSpec(**{**fields, **changes})

    return make


def batches(count=4, size=8):
    generator = torch.Generator().manual_seed(1)
    return [
        (torch.randn(size, 4, generator=generator), torch.randn(size, 1, generator=generator)) for _ in range(count)
    ]


@pytest.fixture
def data():
    return batches


@pytest.fixture
def scores():
    return Scores


@pytest.fixture
def fit(make_spec):
    """Return a function that trains with callbacks and returns the result and the trainer."""

    def fit(framework, *callbacks, val=None, count=4, spec=None, **options):
        trainer = UnifiedTrainer(framework, **{"max_epochs": 3, "enable_progress_bar": False, **options})
        result = trainer.fit(spec or make_spec(callbacks=callbacks), batches(count), val)
        return result, trainer

    return fit


def saver(path, after):
    """Return what lets a trainer write a checkpoint after that batch and break off."""

    def act(trainer):
        @trainer.on(Event.BATCH_END(once=after))
        def save(run):
            run.save_checkpoint(path)

        @trainer.on(Event.CHECKPOINT_SAVED)
        def break_off():
            raise InterruptedError

    return act
