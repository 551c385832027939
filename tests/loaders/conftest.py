"""What the tests of loaders share: every backend, a tiny spec whose values can be computed by hand, and its batches."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import nn

from tests import backends
from unitrain import TrainSpec, UnifiedTrainer

framework = backends.framework


@pytest.fixture
def make_trainer(framework):
    """Return a factory of trainers, two epochs and no bar unless said otherwise."""

    def make(**options):
        return UnifiedTrainer(framework, **{"max_epochs": 2, "enable_progress_bar": False, **options})

    return make


class Same(nn.Module):
    """Returns its input; the weight is there to be trained."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, inputs):
        return inputs + 0 * self.weight


@pytest.fixture
def make_spec():
    """Return a factory of specs whose loss is the mean of the batch's input."""

    def make(**changes):
        fields = {
            "model": Same(),
            "loss": lambda output, target: output.mean(),
            "optimizer": partial(torch.optim.SGD, lr=0.1),
            "metrics": {"top": lambda output, target: output.max()},
        }
        return TrainSpec(**{**fields, **changes})

    return make


def numbers(*batches):
    """Return a list of batches of these inputs."""
    return [(torch.tensor(batch), torch.zeros(len(batch))) for batch in batches]
