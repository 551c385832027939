"""Runs that share a process share its random generators: a run within a run leaves no trace, two threads are told."""

from __future__ import annotations

import threading
import warnings
from functools import partial

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from unitrain import Event, TrainSpec, UnifiedTrainer
from unitrain.run import active_runs as running

FRAMEWORKS = ("lightning", "ignite", "reference")


def make_spec():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 1))
    return TrainSpec(model=net, loss=nn.MSELoss(), optimizer=partial(torch.optim.SGD, lr=0.1))


def loader():
    generator = torch.Generator().manual_seed(1)
    data = TensorDataset(torch.randn(24, 4, generator=generator), torch.randn(24, 1, generator=generator))
    return DataLoader(data, 4, shuffle=True)


def fit(framework, act=None, **options):
    spec = make_spec()
    trainer = UnifiedTrainer(framework, seed=0, enable_progress_bar=False, **{"max_epochs": 2, **options})
    if act is not None:
        trainer.on(Event.BATCH_END(every=4), act)
    trainer.fit(spec, loader())
    return list(spec.model.state_dict().values())


def equal(left, right):
    return all(torch.equal(a, b) for a, b in zip(left, right, strict=True))


def inner(framework, method):
    spec, data = make_spec(), loader()

    def act():
        trainer = UnifiedTrainer(framework, max_epochs=1, seed=5, enable_progress_bar=False)
        getattr(trainer, method)(spec, data)

    return act


@pytest.mark.parametrize("method", ["fit", "validate", "predict"])
@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_run_in_a_handler_leaves_no_trace_in_the_outer_one(framework, method):
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        warnings.filterwarnings("ignore", "The '.*_dataloader' does not have many workers")
        for other in FRAMEWORKS:
            assert equal(fit(framework, inner(other, method)), fit(framework))
    assert not running._RUNS


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_the_inner_run_gives_what_it_gives_alone(framework):
    found = []
    fit(framework, lambda: found.append(fit(framework, max_epochs=1)))
    assert equal(found[0], fit(framework, max_epochs=1))


def test_without_the_fence_the_outer_run_would_differ(monkeypatch):
    alone = fit("reference")
    monkeypatch.setattr(running, "preserved_rng", running.nullcontext)
    assert not equal(fit("reference", inner("reference", "fit")), alone)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_run_beside_that_of_another_thread_warns_with_the_cause(framework):
    entered, done = threading.Event(), threading.Event()

    def hold():
        entered.set()
        done.wait(20)

    thread = threading.Thread(target=fit, args=("reference", hold), name="the other")
    thread.start()
    try:
        assert entered.wait(20)
        with pytest.warns(UserWarning, match=r"another is active in the thread 'the other'[\s\S]*Hint: .*process"):
            fit(framework)
    finally:
        done.set()
        thread.join()
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        fit("reference")  # alone again


def test_a_run_that_the_warning_ends_is_not_counted():
    other = running._Run(threading.Thread(name="other"), fenced=True)
    running._RUNS.append(other)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            with pytest.raises(UserWarning, match="'other'"):
                fit("reference")
        assert [other] == running._RUNS
    finally:
        running._RUNS.remove(other)
