"""Trains a case on each backend, and tells where the results part."""

from __future__ import annotations

import random

import numpy as np
import torch

from unitrain import UnifiedTrainer

BACKENDS = ("reference", "lightning", "ignite")
QUIET = {"enable_progress_bar": False, "accelerator": "cpu"}

torch.set_num_threads(1)


def seed():
    torch.manual_seed(0)
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002 - the generator that packages use


def outcome(framework, case, **options):
    """Return what a fit leaves behind. ``case`` makes the spec and the loaders anew, from the same seeds."""
    seed()
    spec, *loaders = case()
    result = UnifiedTrainer(framework, max_epochs=2, seed=0, **QUIET, **options).fit(spec, *loaders)
    assert result.step > 0
    return {**left(spec.model), "metrics": result.metrics, "history": result.history}


def left(model):
    """Return the weights of a model, and the state of torch's generator."""
    return {"weights": {**model.state_dict()}, "generator": torch.get_rng_state()}


def check_same(case, **options):
    """Train on each backend: weights, metrics, history and random numbers are equal to the bit."""
    wanted, *others = (outcome(framework, case, **options) for framework in BACKENDS)
    for framework, got in zip(BACKENDS[1:], others, strict=True):
        assert_equal(wanted, got, framework)
    return wanted


def assert_equal(wanted, got, where):
    """Fail with the place at which two results part."""
    if isinstance(wanted, dict):
        assert wanted.keys() == got.keys(), where
        for key, value in wanted.items():
            assert_equal(value, got[key], f"{where}: {key}")
    elif isinstance(wanted, (list, tuple)):
        assert len(wanted) == len(got), where
        for index, value in enumerate(wanted):
            assert_equal(value, got[index], f"{where}: {index}")
    elif isinstance(wanted, torch.Tensor):
        assert torch.equal(wanted, got), where
    else:
        assert wanted == got, where
