"""What the tests of bad input share: a tiny spec, a few batches and a proof that nothing was trained."""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial

import pytest
import torch
from torch import nn

from tests.backends import FRAMEWORKS
from unitrain import Event, TrainSpec, UnifiedTrainer

OF_A_BATCH = frozenset(event for event in Event if "batch" in event or event in ("backward_end", "optimizer_step"))


def pytest_generate_tests(metafunc):
    """Run each test that asks for ``framework`` on every framework, unless it names its own."""
    own = any("framework" in mark.args[0] for mark in metafunc.definition.iter_markers("parametrize"))
    if "framework" in metafunc.fixturenames and not own:
        metafunc.parametrize("framework", FRAMEWORKS)


@pytest.fixture
def make_spec():
    """Return a factory of specs: the same linear model each time, any field may be replaced."""

    def make(**changes):
        torch.manual_seed(0)
        fields = {"model": nn.Linear(4, 1), "loss": nn.MSELoss(), "optimizer": partial(torch.optim.SGD, lr=0.1)}
        return TrainSpec(**{**fields, **changes})

    return make


@pytest.fixture
def make_batches():
    """Return a factory of lists of ``(input, target)``."""

    def make(count=3, size=8):
        generator = torch.Generator().manual_seed(1)
        return [
            (torch.randn(size, 4, generator=generator), torch.randn(size, 1, generator=generator)) for _ in range(count)
        ]

    return make


@pytest.fixture
def make_trainer(framework):
    """Return a factory of trainers on ``framework``, two epochs and no bar unless said otherwise."""

    def make(**options):
        return UnifiedTrainer(framework, **{"max_epochs": 2, "enable_progress_bar": False, **options})

    return make


@pytest.fixture
def refused():
    """Return a context that wants ``error`` to be raised before training: no batch event, no weight changed.

    The message must hold each of ``says`` and, for the fix, a hint. What only the first batch can tell has ``begun``
    with the events given, or, if that is None, with any but those of an optimizer's step and a batch's end.
    """

    @contextmanager
    def check(trainer, spec, error, *says, begun=()):
        before = {name: value.clone() for name, value in spec.model.state_dict().items()}
        fired = []
        if trainer is not None:
            fire = trainer._hub.fire
            trainer._hub.fire = lambda event: (
                fired.append(event),
                fire(event),
            )  # a handler would count as one that logs
        with pytest.raises(error) as caught:
            yield caught
        assert type(caught.value) is error
        if begun is None:
            assert not {Event.OPTIMIZER_STEP, Event.BATCH_END} & {*fired}
        else:
            assert tuple(event for event in fired if event in OF_A_BATCH) == begun
        for name, value in spec.model.state_dict().items():
            assert torch.equal(value.cpu(), before[name]), f"{name} changed"
        for text in says:
            assert text in str(caught.value)
        assert "\nHint: " in str(caught.value)

    return check
