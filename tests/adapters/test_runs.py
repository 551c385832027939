"""On Lightning many batches go into one call of a step, where nobody listens between them; nobody can tell but a clock."""

from functools import partial

import pytest
import torch
from pytorch_lightning.callbacks import Callback, LambdaCallback, LearningRateMonitor
from pytorch_lightning.loops.training_epoch_loop import _TrainingEpochLoop
from torch import nn

import unitrain_lightning.batched_steps as runs
from unitrain import Event, TrainSpec, UnifiedTrainer


class Listening(Callback):
    """Forces one call a batch, in training and in evaluation."""

    def on_train_batch_start(self, *_):
        pass

    def on_validation_batch_end(self, *_):
        pass

    def on_test_batch_end(self, *_):
        pass


def batches(count):
    generator = torch.Generator().manual_seed(count)
    return [(torch.randn(2, 4, generator=generator), torch.tensor([0, 2])) for _ in range(count)]


def spec():
    torch.manual_seed(0)
    return TrainSpec(
        model=nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3)),
        loss=nn.CrossEntropyLoss(),
        optimizer=partial(torch.optim.SGD, lr=0.1),
    )


@pytest.fixture
def advances(monkeypatch):
    """How often Lightning's training loop went round."""
    count = []
    original = _TrainingEpochLoop.advance
    monkeypatch.setattr(_TrainingEpochLoop, "advance", lambda *given: (count.append(1), original(*given)))
    return count


def trainer(*callbacks, **options):
    return UnifiedTrainer("lightning", callbacks=callbacks, enable_progress_bar=False, **options)


def counters(native):
    """Return what Lightning says of where it is."""
    loop = native.fit_loop.epoch_loop
    progress, validation = loop.batch_progress, loop.val_loop.batch_progress
    return (
        native.global_step, native.current_epoch, loop.batch_idx, loop.total_batch_idx, loop._batches_that_stepped,
        native.is_last_batch, progress.state_dict(), validation.state_dict(), native.validating,
    )  # fmt: skip


def watched(*callbacks, act=lambda run: None, **options):
    """Train, and return the counters at each event."""
    seen = []
    one = trainer(*callbacks, max_epochs=3, **options)
    every = Event.BATCH_START | Event.BATCH_END | Event.VAL_BATCH_END | Event.VAL_END | Event.EPOCH_END | Event.FIT_END
    one.on(every, lambda run: seen.append((run.state.batch, counters(run.native))))
    one.on(Event.BATCH_END, act)
    one.fit(spec(), batches(11), batches(5))
    return seen


def stop_after_14(run):
    if run.state.batch == 14:
        run.stop()


CASES = {
    "plain": {},
    "validation midway": {"val_check_interval": 4},
    "validation over epochs": {"val_check_interval": 7, "check_val_every_n_epoch": None},
    "every second epoch": {"check_val_every_n_epoch": 2},
    "accumulated": {"accumulate_grad_batches": 2},
    "limited": {"limit_train_batches": 6, "limit_val_batches": 2},
    "max_steps": {"max_steps": 15},
    "stopped": {"act": stop_after_14},
    "stopped before its time": {"act": stop_after_14, "min_epochs": 3},
}


@pytest.mark.parametrize("case", CASES)
def test_lightning_counts_as_if_each_batch_came_by_itself(case):
    alone, together = watched(Listening(), **CASES[case]), watched(**CASES[case])
    assert len(alone) == len(together)
    for one, other in zip(alone, together, strict=True):
        assert one == other


def test_a_count_left_out_is_noticed(monkeypatch):
    original = runs.batches_in_one_call
    monkeypatch.setattr(
        "unitrain_lightning.module.batches_in_one_call",
        lambda batches, progress, between=None: original(batches, progress),
    )
    assert watched(Listening()) != watched()


def test_an_epoch_is_one_call(advances):
    trainer(max_epochs=3).fit(spec(), batches(11))
    assert len(advances) == 3


def test_a_long_epoch_is_a_call_for_each_run(advances):
    trainer(max_epochs=1).fit(spec(), batches(2 * runs.LENGTH + 1))
    assert len(advances) == 3


@pytest.mark.parametrize(
    "callback",
    [Listening, partial(LambdaCallback, on_train_batch_end=lambda *_: None), LearningRateMonitor],
    ids=["class", "lambda", "stock"],
)
def test_a_callback_that_listens_is_called_at_each_batch(callback, advances):
    made = callback()
    heard = []
    for hook in runs.TRAINING:
        if runs.overrides(runs_namespace(), made, hook):
            original = getattr(made, hook)
            setattr(made, hook, lambda *given, original=original: (heard.append(1), original(*given)))
    loggers = {"loggers": [Rows()]} if callback is LearningRateMonitor else {}
    trainer(made, max_epochs=2, **loggers).fit(spec(), batches(11))
    assert len(advances) == len(heard) == 22


class Rows:
    def __init__(self):
        self.rows = []

    def log_metrics(self, metrics, step):
        self.rows.append((step, sorted(metrics)))


@pytest.mark.parametrize("hook", ["on_before_zero_grad", "on_after_backward", "on_before_optimizer_step"])
def test_what_a_hook_within_the_step_logs_is_not_lost(hook):
    rows = Rows()
    logs = LambdaCallback(**{hook: lambda trainer, module, *_: module.log("norm", 1.0)})
    trainer(logs, max_epochs=1, loggers=[rows], log_every_n_steps=1).fit(spec(), batches(11))
    assert sum("norm" in names for _, names in rows.rows) == 11


def runs_namespace():
    from unitrain_lightning.namespace import namespace

    return namespace("pytorch_lightning")


@pytest.mark.parametrize("given", [{"profiler": "simple"}], ids=["profiler"])
def test_what_looks_between_batches_gets_each(given, advances, tmp_path):
    trainer(max_epochs=2, native={"lightning": given}, default_root_dir=tmp_path).fit(spec(), batches(11))
    assert len(advances) == 22


@pytest.mark.parametrize("number", [1, 99, 100, 101, 250])
def test_a_stream_comes_in_few_calls_and_is_counted_as_lightning_counts(number, advances):
    """The end of a stream shows only when a call of Lightning's loop finds no further batch."""
    counted = []
    for data in (Stream(number), batches(number)):
        one = trainer(max_epochs=2)
        one.fit(spec(), data)
        loop = one.native.fit_loop.epoch_loop
        counted.append((loop.batch_progress.state_dict(), loop.global_step, loop._batches_that_stepped))
    assert counted[0] == counted[1]
    assert len(advances) <= 2 * (number // runs.LENGTH + 2) + 2 * (number // runs.LENGTH + 1)


class Stream:
    def __init__(self, number):
        self._number = number

    def __iter__(self):
        return iter(batches(self._number))


@pytest.mark.parametrize("method", ["validate", "test"])
def test_evaluation_gives_the_same_in_runs(method):
    results = []
    for callbacks in ((), (Listening(),)):
        counted = []
        one = trainer(*callbacks)
        event = Event.VAL_BATCH_END if method == "validate" else Event.TEST_BATCH_END
        one.on(event, lambda run, counted=counted: counted.append(run.native._active_loop.batch_progress.state_dict()))
        results.append((getattr(one, method)(spec(), batches(runs.LENGTH + 5)), counted))
    assert results[0] == results[1]
    assert len(results[0][1]) == runs.LENGTH + 5


def test_lambda_callbacks_hear_zero_grad():
    heard = []
    trainer(LambdaCallback(on_before_zero_grad=lambda *_: heard.append(1)), max_epochs=1).fit(spec(), batches(4))
    assert len(heard) == 4
