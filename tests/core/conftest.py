"""What the tests of the core share: a tiny spec, a few batches and a quiet trainer on the bare loop."""

from __future__ import annotations

from functools import partial

import hypothesis
import pytest
import torch
from torch import nn

from unitrain import TrainSpec, UnifiedTrainer

# The first draw imports torchmetrics; that it takes long on a busy machine is no fault of what is tested.
hypothesis.settings.register_profile("unitrain", suppress_health_check=[hypothesis.HealthCheck.too_slow], deadline=None)
hypothesis.settings.load_profile("unitrain")


@pytest.fixture
def make_spec():
    """Return a factory of specs: the same linear model each time, any field may be replaced."""

    def make(**changes):
        torch.manual_seed(0)  # for the default model; one that is given is initialized by then
        fields = {"model": nn.Linear(4, 1), "loss": nn.MSELoss(), "optimizer": partial(torch.optim.SGD, lr=0.1)}
        return TrainSpec(**{**fields, **changes})

    return make


@pytest.fixture
def make_batches():
    """Return a factory of lists of ``(input, target)``; the last batch may be smaller."""

    def make(count=3, size=8, last=None):
        generator = torch.Generator().manual_seed(1)
        sizes = [size] * (count - 1) + [size if last is None else last]
        return [(torch.randn(n, 4, generator=generator), torch.randn(n, 1, generator=generator)) for n in sizes]

    return make


@pytest.fixture
def make_trainer():
    """Return a factory of trainers on the bare loop and the CPU, two epochs and no bar unless said otherwise."""

    def make(**options):
        return UnifiedTrainer(
            "reference", **{"max_epochs": 2, "accelerator": "cpu", "enable_progress_bar": False, **options}
        )

    return make
