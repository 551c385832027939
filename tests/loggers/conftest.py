"""What the tests of trackers share: every backend, and a run to be tracked."""

from __future__ import annotations

import warnings
from functools import partial

import pytest

from unitrain import UnifiedTrainer
from unitrain.testing import cases
from unitrain.testing.models import loader

FRAMEWORKS = ("reference", "lightning", "ignite")

with warnings.catch_warnings():  # torch.distributed, which Ignite imports, still uses torch.jit.script
    warnings.simplefilter("ignore", DeprecationWarning)
    import ignite.engine  # noqa: F401


@pytest.fixture(params=FRAMEWORKS)
def framework(request):
    return request.param


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
