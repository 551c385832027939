"""A fit that fails before its first step leaves the groups of a user's optimizer as they were."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from unitrain import Event, LRSchedule, TrainSpec, UnifiedTrainer

BATCHES = [(torch.ones(2, 2), torch.ones(2, 1))] * 2
BACKENDS = ("lightning", "ignite", "reference")
RATES = {"float": lambda: 0.5, "tensor": lambda: torch.tensor(0.5)}


def failing(*_):
    raise RuntimeError("as a user's code does")


def sanity(trainer, spec):
    object.__setattr__(spec, "validation_step", failing)


def fit_start(trainer, spec):
    trainer.on(Event.FIT_START, failing)


def first_batch(trainer, spec):
    object.__setattr__(spec, "training_step", failing)


def second_step(trainer, spec):
    trainer.on(Event.BATCH_END, failing)


def rates_after(framework, rate, fault):
    """Return the group of a user's optimizer before and after a fit with a warm-up that fails, and its rate."""
    net = nn.Linear(2, 1)
    optimizer = torch.optim.SGD(net.parameters(), lr=rate)
    before = dict(optimizer.param_groups[0])
    warm = LRSchedule(None, warmup_steps=4)
    spec = TrainSpec(model=net, loss=nn.MSELoss(), optimizer=optimizer, lr_scheduler=warm)
    trainer = UnifiedTrainer(framework, max_epochs=1, num_sanity_val_steps=1, enable_progress_bar=False)
    fault(trainer, spec)
    with pytest.raises(RuntimeError, match="as a user's"):
        trainer.fit(spec, BATCHES, BATCHES)
    return before, optimizer.param_groups[0]


@pytest.mark.parametrize("framework", BACKENDS)
@pytest.mark.parametrize("kind", RATES)
@pytest.mark.parametrize("fault", [sanity, fit_start, first_batch], ids=lambda one: one.__name__)
def test_without_a_step_the_groups_are_as_before(framework, kind, fault):
    rate = RATES[kind]()
    before, after = rates_after(framework, rate, fault)
    assert after.keys() == before.keys()
    assert after["lr"] is rate
    assert float(rate) == 0.5


@pytest.mark.parametrize("framework", BACKENDS)
@pytest.mark.parametrize("kind", RATES)
def test_after_a_step_the_rate_is_that_of_the_run(framework, kind):
    _, after = rates_after(framework, RATES[kind](), second_step)
    assert float(after["lr"]) == 0.25  # the second of four steps of the warm-up


def test_without_the_copies_a_tensor_would_stay_changed(monkeypatch):
    """The negative control."""
    monkeypatch.setattr("unitrain.session.prepare._tensors_of", lambda group: {})
    rate = torch.tensor(0.5)
    rates_after("reference", rate, fit_start)
    assert float(rate) != 0.5
