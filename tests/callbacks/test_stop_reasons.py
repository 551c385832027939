"""Whatever ends a run has one reason, on every backend and for callbacks of every framework."""

from __future__ import annotations

import warnings
from datetime import timedelta

import ignite.handlers
import pytest
import pytorch_lightning as pl
import torch
from ignite.engine import Events

from unitrain import Callback, ModelCheckpoint, TerminateOnNaN, UnifiedTrainer
from unitrain.run.result import FitResult
from unitrain.run.stopping import REASONS
from unitrain.testing import cases
from unitrain.testing.models import loader


class On:
    """An Ignite handler with a place of its own."""

    def __init__(self, handler, event=Events.ITERATION_COMPLETED):
        self.handler, self.event = handler, event

    def attach(self, engine):
        engine.add_event_handler(self.event, self.handler)


class Break(Callback):
    """Makes a weight NaN after some batches."""

    def __init__(self, batch):
        self.batch = batch

    def on_batch_end(self, run):
        if run.state.batch == self.batch:
            with torch.no_grad():
                next(run.model.parameters()).fill_(torch.nan)


def patience_of_one():
    class Waits(ignite.handlers.EarlyStopping):
        def attach(self, engine):
            self.trainer = engine
            engine.add_event_handler(Events.EPOCH_COMPLETED, self)

    return Waits(1, lambda _: 0.0, ignite.engine.Engine(lambda *_: None))


class Ignores:
    """A TerminateOnNan that finds no NaN in what it looks at, and an EarlyStopping that ends a run whose output is one."""

    def attach(self, engine):
        engine.add_event_handler(Events.ITERATION_COMPLETED, ignite.handlers.TerminateOnNan(lambda _: 0.0))
        engine.add_event_handler(Events.EPOCH_COMPLETED, lambda: setattr(engine.state, "output", torch.nan))
        patience_of_one().attach(engine)


NATIVE = {
    "Lightning's EarlyStopping": (
        lambda: pl.callbacks.EarlyStopping("val/loss", patience=1, min_delta=9.0),
        "early_stopping",
    ),
    "Lightning's EarlyStopping in the first epoch": (
        lambda: pl.callbacks.EarlyStopping("val/loss", stopping_threshold=1e9),
        "early_stopping",
    ),
    "Lightning's Timer": (lambda: pl.callbacks.Timer(timedelta(microseconds=1)), "max_time"),
    "Lightning's own stop": (
        lambda: pl.callbacks.LambdaCallback(on_train_batch_end=lambda t, *_: setattr(t, "should_stop", True)),
        "user",
    ),
    "Ignite's EarlyStopping": (patience_of_one, "early_stopping"),
    "Ignite's TerminateOnNan": (lambda: On(ignite.handlers.TerminateOnNan(lambda _: float("nan"))), "nan"),
    "Ignite's TerminateOnNan with a filter": (
        lambda: On(ignite.handlers.TerminateOnNan(lambda _: float("nan")), Events.ITERATION_COMPLETED(every=2)),
        "nan",
    ),
    "Ignite's EarlyStopping beside a TerminateOnNan that looks elsewhere": (Ignores, "early_stopping"),
    "Ignite's own stop": (lambda: On(lambda engine: engine.terminate()), "user"),
}


@pytest.mark.parametrize(("make", "reason"), NATIVE.values(), ids=NATIVE)
def test_a_frameworks_callback_ends_a_run_for_the_same_reason_everywhere(make, reason):
    found = []
    for framework in ("lightning", "ignite", "reference"):
        trainer = UnifiedTrainer(framework, max_epochs=4, seed=0, callbacks=[make()], enable_progress_bar=False)
        result = trainer.fit(cases.spec(), loader(), loader())
        found.append((result.stopped_by, result.step))
    assert [one for one, _ in found] == [reason] * 3
    assert found[0][1] < 24


def fit(framework, folder, *, ckpt_path=None, callbacks=()):
    keep = ModelCheckpoint(folder, save_last=True)
    trainer = UnifiedTrainer(
        framework, max_epochs=3, seed=0, callbacks=[*callbacks, TerminateOnNaN(), keep], enable_progress_bar=False
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "TerminateOnNaN")
        return trainer.fit(cases.spec(), loader(), ckpt_path=ckpt_path)


@pytest.mark.parametrize("first", ["lightning", "ignite", "reference"])
def test_a_resumed_run_that_breaks_says_nan(framework, first, tmp_path):
    stopped = fit(first, tmp_path, callbacks=[Break(8)])
    assert (stopped.stopped_by, stopped.step) == ("nan", 8)
    again = fit(framework, tmp_path, ckpt_path=stopped.last_checkpoint)
    assert again.stopped_by == "nan"
    assert again.step == 9


def test_the_reasons_are_those_that_the_result_documents():
    documented = FitResult.__doc__.partition("stopped_by:")[2].partition("framework:")[0]
    assert all(f'"{reason}"' in documented for reason in REASONS)
    assert documented.count('``"') == len(REASONS)
