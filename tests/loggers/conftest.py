"""What the tests of trackers share: every backend, and a run to be tracked."""

from __future__ import annotations

from functools import partial

import pytest

from tests import backends
from unitrain import UnifiedTrainer
from unitrain.testing import cases
from unitrain.testing.models import loader

framework = backends.framework


@pytest.fixture
def fit():
    """Return a function that trains a seeded spec of 6 batches an epoch and returns the trainer."""

    def fit(framework, *loggers, spec=None, train=loader, **options):
        import torch

        torch.manual_seed(0)
        options = {"max_epochs": 2, "seed": 3, "enable_progress_bar": False, "log_every_n_steps": 2, **options}
        trainer = UnifiedTrainer(framework, loggers=loggers, **options)
        fit.result = trainer.fit((spec or partial(cases.spec, "mlp", "sgd", "step"))(), train(), loader(samples=6))
        return trainer

    return fit
