"""An object that keeps the state of a run serves one run at a time; afterwards, however it ended, the next one."""

from __future__ import annotations

import threading
import warnings
from functools import partial

import pytest
import torch
from torch import nn

from unitrain import (
    EMA,
    Callback,
    ConfigError,
    CSVLogger,
    EarlyStopping,
    Event,
    LRFinder,
    ModelCheckpoint,
    PredictionWriter,
    Timer,
    TrainSpec,
    UnifiedTrainer,
)
from unitrain.run import active_runs

BATCHES = [(torch.ones(2, 2), torch.ones(2, 1))] * 2
BACKENDS = ("lightning", "ignite", "reference")


def spec():
    return TrainSpec(model=nn.Linear(2, 1), loss=nn.MSELoss(), optimizer=partial(torch.optim.SGD, lr=0.1))


def trainer(framework, **options):
    return UnifiedTrainer(framework, **{"max_epochs": 1, "enable_progress_bar": False, **options})


class Plain(Callback):
    """Keeps nothing that unitrain would reset."""

    def __init__(self):
        self.ends = 0

    def on_fit_end(self, run):
        self.ends += 1


class Own(Callback):
    def reset_state(self):
        self.batches = 0

    def on_batch_end(self, run):
        self.batches += 1


SHARED = {
    "EarlyStopping": lambda _: EarlyStopping("train/loss"),
    "ModelCheckpoint": ModelCheckpoint,
    "EMA": lambda _: EMA(),
    "Timer": lambda _: Timer("00:01:00:00"),
    "Own": lambda _: Own(),
    "PredictionWriter": PredictionWriter,
}


def within(framework, inner, **outer):
    """Run ``inner`` in the middle of a fit; return the error that it raised."""
    raised = []

    def run_inner(run):
        try:
            inner()
        except ConfigError as error:
            raised.append(error)

    whole = trainer(framework, **outer)
    whole.on(Event.BATCH_END(once=1), run_inner)
    whole.fit(spec(), BATCHES)
    return raised


@pytest.mark.parametrize("framework", BACKENDS)
@pytest.mark.parametrize("name", SHARED)
def test_a_callback_serves_one_fit_at_a_time(framework, name, tmp_path):
    shared = SHARED[name](tmp_path)
    model = spec()
    before = model.model.weight.clone()
    second = trainer(framework, callbacks=[shared])
    (error,) = within(framework, lambda: second.fit(model, BATCHES), callbacks=[shared])
    assert f"this {name} is in use by another run" in str(error)
    assert f"create another {name}" in error.hint
    assert torch.equal(model.model.weight, before)
    if name == "Own":
        assert shared.batches == len(BATCHES)
    second.fit(model, BATCHES)
    assert not active_runs._USED


@pytest.mark.parametrize("framework", BACKENDS)
@pytest.mark.parametrize("method", ["validate", "test", "predict"])
@pytest.mark.parametrize("name", ["EMA", "PredictionWriter"])
def test_an_evaluation_is_a_run_too(framework, method, name, tmp_path):
    shared = SHARED[name](tmp_path)
    evaluate = getattr(trainer(framework, callbacks=[shared]), method)
    (error,) = within(framework, lambda: evaluate(spec(), BATCHES), callbacks=[shared])
    assert f"this {name} is in use by another run" in str(error)
    evaluate(spec(), BATCHES)  # of a fit that has ended
    assert not active_runs._USED


@pytest.mark.parametrize("framework", BACKENDS)
def test_an_evaluation_within_the_validation_of_a_fit_leaves_the_weights_alone(framework):
    """The inner one would put its averaged weights in the place of those that are trained."""

    def trained(inner):
        torch.manual_seed(0)
        one, ema = spec(), EMA(0.5)
        whole = trainer(framework, max_epochs=2, callbacks=[ema])

        @whole.on(Event.VAL_BATCH_END)
        def evaluate(run):
            if inner:
                with pytest.raises(ConfigError, match="this EMA is in use by another run"):
                    trainer(framework, callbacks=[ema]).validate(one, BATCHES)
                trainer(framework).validate(one, BATCHES)
                LRFinder(num_training=10).run(whole, one, BATCHES)

        whole.fit(one, BATCHES, BATCHES)
        whole.validate(dataloaders=BATCHES)
        return one.model.weight

    assert torch.equal(trained(inner=True), trained(inner=False))


@pytest.mark.parametrize("framework", BACKENDS)
def test_a_prediction_within_a_prediction_has_a_writer_of_its_own(framework, tmp_path):
    writer, errors = PredictionWriter(tmp_path), []
    whole = trainer(framework, callbacks=[writer])

    @whole.on(Event.PREDICT_BATCH_END(once=1))
    def predict(run):
        try:
            trainer(framework, callbacks=[writer]).predict(spec(), BATCHES)
        except ConfigError as error:
            errors.append(error)

    whole.predict(spec(), BATCHES)
    assert "this PredictionWriter is in use by" in str(errors[0])
    assert [path.name for path in writer.paths] == ["batch-00000.pt", "batch-00001.pt"]


@pytest.mark.parametrize("framework", BACKENDS)
def test_a_tracker_that_begins_runs_serves_one_at_a_time(framework, tmp_path):
    shared = CSVLogger(tmp_path)
    for method in ("fit", "validate"):
        run = getattr(trainer(framework, loggers=[shared]), method)
        (error,) = within(framework, partial(run, spec(), BATCHES), loggers=[shared])
        assert "this CSVLogger is in use by another run" in str(error)
    assert len(shared.path.read_text().splitlines()) == 2
    assert not active_runs._USED


@pytest.mark.parametrize("framework", BACKENDS)
def test_what_keeps_no_state_is_shared(framework):
    shared = Plain()
    assert (
        within(framework, lambda: trainer(framework, callbacks=[shared]).fit(spec(), BATCHES), callbacks=[shared]) == []
    )
    assert shared.ends == 2


@pytest.mark.parametrize("framework", BACKENDS)
def test_a_callback_of_lightning_serves_one_fit_at_a_time(framework):
    pytest.importorskip("pytorch_lightning")
    from pytorch_lightning.callbacks import EarlyStopping, LambdaCallback

    shared = EarlyStopping("train/loss")
    second = trainer(framework, callbacks=[shared])
    (error,) = within(framework, lambda: second.fit(spec(), BATCHES), callbacks=[shared])
    assert "this EarlyStopping is in use by another run" in str(error)
    shared = LambdaCallback()
    assert (
        within(framework, lambda: trainer(framework, callbacks=[shared]).fit(spec(), BATCHES), callbacks=[shared]) == []
    )


@pytest.mark.parametrize("framework", BACKENDS)
def test_it_is_free_however_a_fit_ends(framework):
    shared = EarlyStopping("train/loss")
    failing = trainer(framework, callbacks=[shared])

    @failing.on(Event.BATCH_END)
    def fail(run):
        raise RuntimeError("as a user's code does")

    with pytest.raises(RuntimeError, match="as a user's"):
        failing.fit(spec(), BATCHES)
    stopped = trainer(framework, callbacks=[shared])
    stopped.on(Event.BATCH_END, lambda run: run.stop())
    stopped.fit(spec(), BATCHES)
    with pytest.raises(ConfigError, match="is not a path"):
        trainer(framework, callbacks=[shared]).fit(spec(), BATCHES, ckpt_path="")
    trainer(framework, callbacks=[shared]).fit(spec(), BATCHES)
    assert not active_runs._USED


def test_a_fit_of_another_thread_holds_it_too():
    shared, errors, inside, over = EarlyStopping("train/loss"), [], threading.Event(), threading.Event()
    first = trainer("reference", callbacks=[shared])

    @first.on(Event.BATCH_END(once=1))
    def wait(run):
        inside.set()
        over.wait(30)

    thread = threading.Thread(target=lambda: first.fit(spec(), BATCHES))
    thread.start()
    assert inside.wait(30)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # two runs of one process draw from the same random numbers
        try:
            trainer("reference", callbacks=[shared]).fit(spec(), BATCHES)
        except ConfigError as error:
            errors.append(error)
    over.set()
    thread.join(30)
    assert "create another EarlyStopping" in errors[0].hint


@pytest.mark.parametrize("framework", BACKENDS)
def test_without_the_check_it_is_reset_unseen(framework, monkeypatch):
    """The negative control."""
    monkeypatch.setattr("unitrain.session.run_setup.with_state", lambda callbacks: ())
    shared = Own()
    assert (
        within(framework, lambda: trainer(framework, callbacks=[shared]).fit(spec(), BATCHES), callbacks=[shared]) == []
    )
    assert shared.batches == 2 * len(BATCHES)  # both fits' batches
