"""What a step costs, in things that can be counted: Python calls and waits for the device. Clocks swing, these do not."""

import sys
from functools import partial

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from unitrain import Event, TrainSpec, UnifiedTrainer

BUDGET = {"ignite": 230, "lightning": 650}
"""Python calls a step with a loss and an accuracy; a bare loop with the same makes some 130."""


def accuracy(output, target):
    return (output.argmax(1) == target).float().mean()


def batches(count):
    generator = torch.Generator().manual_seed(0)
    return [
        (torch.randn(32, 64, generator=generator), torch.randint(0, 10, (32,), generator=generator))
        for _ in range(count)
    ]


def spec():
    model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    optimizer = partial(torch.optim.SGD, lr=0.1)
    return TrainSpec(model=model, loss=nn.CrossEntropyLoss(), optimizer=optimizer, metrics={"acc": accuracy})


def calls(framework, count, act=lambda trainer: None):
    trainer = UnifiedTrainer(framework, max_epochs=1, enable_progress_bar=False)
    act(trainer)
    made, data, total = spec(), batches(count), 0

    def profile(frame, event, arg):
        nonlocal total
        total += event == "call"

    sys.setprofile(profile)
    try:
        trainer.fit(made, data)
    finally:
        sys.setprofile(None)
    return total


def calls_a_step(framework, act=lambda trainer: None):
    calls(framework, 2)  # first use imports and fills caches
    return (calls(framework, 50, act) - calls(framework, 10, act)) / 40


@pytest.mark.parametrize("framework", BUDGET)
def test_python_calls_a_step_are_within_budget(framework):
    assert calls_a_step(framework) <= BUDGET[framework]


def test_an_extra_handler_is_counted():
    """The measure moves when the work does."""
    with_handler = calls_a_step("ignite", lambda trainer: trainer.on(Event.BATCH_END, lambda run: run.state))
    assert 2 <= with_handler - calls_a_step("ignite") <= 6


class Syncs(TorchDispatchMode):
    """Counts what would make a host wait for its device."""

    WAITS = ("_local_scalar_dense", "nonzero", "_to_copy")

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func.overloadpacket.__name__ in self.WAITS
        return func(*args, **(kwargs or {}))


def syncs(framework, count, act=lambda trainer: None):
    trainer = UnifiedTrainer(framework, max_epochs=1, enable_progress_bar=False)
    act(trainer)
    with Syncs() as mode:
        trainer.fit(spec(), batches(count))
    return mode.count


@pytest.mark.parametrize("framework", BUDGET)
def test_no_step_waits_for_the_device(framework):
    # the accuracy's own bool-to-float is the one copy a step
    assert syncs(framework, 30) - syncs(framework, 10) == 20


@pytest.mark.parametrize("framework", BUDGET)
def test_a_wait_is_counted(framework):
    def wait(trainer):
        trainer.on(Event.BATCH_END, lambda run: run.state.loss.item())

    assert syncs(framework, 30, wait) - syncs(framework, 10, wait) == 40
