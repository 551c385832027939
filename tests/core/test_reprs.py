"""What ``repr()`` shows: a call with what was given, without addresses."""

from __future__ import annotations

import pickle
from datetime import timedelta
from pathlib import Path

import pytest
import torch

import unitrain
from unitrain import (
    EMA,
    BatchSizeFinder,
    Callback,
    CSVLogger,
    DeviceStats,
    EarlyStopping,
    EmptyCache,
    Event,
    Freeze,
    GradientAccumulationSchedule,
    LRFinder,
    LRMonitor,
    MetricsClient,
    MLflowLogger,
    ModelCheckpoint,
    ModelSummary,
    OTLPLogger,
    PredictionWriter,
    ProgressBar,
    PrometheusLogger,
    Pruning,
    StatsDLogger,
    StochasticWeightAveraging,
    TensorBoardLogger,
    TerminateOnNaN,
    Timer,
    Unfreeze,
    UnifiedTrainer,
    WandbLogger,
)
from unitrain.testing import cases
from unitrain.testing.models import loader

SHOWN = {
    "EMA()": EMA,
    "EMA(decay=0.9)": lambda: EMA(0.9),
    "EarlyStopping('val/loss', patience=5)": lambda: EarlyStopping("val/loss", patience=5),
    "LRFinder(max_lr=0.1, num_training=20)": lambda: LRFinder(max_lr=0.1, num_training=20),
    "BatchSizeFinder(mode='binsearch')": lambda: BatchSizeFinder("binsearch"),
    "ModelCheckpoint()": ModelCheckpoint,
    "ModelCheckpoint(dirpath='kept', monitor='val/acc', mode='max', every_n_train_steps=3)": lambda: ModelCheckpoint(
        Path("kept"), monitor="val/acc", mode="max", every_n_train_steps=3
    ),
    "ModelCheckpoint(every_n_epochs=2)": lambda: ModelCheckpoint(every_n_epochs=2),
    "ModelCheckpoint(train_time_interval=datetime.timedelta(seconds=60))": lambda: ModelCheckpoint(
        train_time_interval=timedelta(minutes=1)
    ),
    "Timer('00:01:00:00')": lambda: Timer("00:01:00:00"),
    "DeviceStats()": DeviceStats,
    "DeviceStats(system=True)": lambda: DeviceStats(system=True),
    "EmptyCache()": EmptyCache,
    "EmptyCache(on=<Event.BATCH_END: 'batch_end'>)": lambda: EmptyCache(Event.BATCH_END),
    "Freeze('backbone')": lambda: Freeze("backbone"),
    "Freeze(['a', 'b'], until_epoch=2, train_bn=False, lr=0.1)": lambda: Freeze(["a", "b"], 2, train_bn=False, lr=0.1),
    "Unfreeze({1: 'a', 3: ['b']}, lr_factor=0.5)": lambda: Unfreeze({1: "a", 3: ["b"]}, lr_factor=0.5),
    "GradientAccumulationSchedule({0: 1, 4: 2})": lambda: GradientAccumulationSchedule({0: 1, 4: 2}),
    "LRMonitor()": LRMonitor,
    "ModelSummary(depth=2)": lambda: ModelSummary(2),
    "PredictionWriter('out', format='csv')": lambda: PredictionWriter("out", format="csv"),
    "ProgressBar()": ProgressBar,
    "Pruning(None, 'val/loss')": lambda: Pruning(None, "val/loss"),
    "StochasticWeightAveraging([0.1, 0.2], avg_fn=<function average>)": lambda: StochasticWeightAveraging(
        [0.1, 0.2], avg_fn=average
    ),
    "TerminateOnNaN()": TerminateOnNaN,
    "CSVLogger('runs', name='one')": lambda: CSVLogger("runs", name="one"),
    "TensorBoardLogger('runs')": lambda: TensorBoardLogger("runs"),
    "MLflowLogger(experiment='e', tracking_uri='http://host:5000')": lambda: MLflowLogger(
        "e", tracking_uri="http://user:secret@host:5000"
    ),
    "PrometheusLogger(port=9100, job='digits')": lambda: PrometheusLogger(9100, job="digits"),
    "PrometheusLogger(pushgateway='http://host:9091', keep=True)": lambda: PrometheusLogger(
        pushgateway="http://user:secret@host:9091", keep=True
    ),
    "StatsDLogger('host:8125', prefix='digits', tags='dogstatsd')": lambda: StatsDLogger(
        "host:8125", prefix="digits", tags="dogstatsd"
    ),
    "OTLPLogger('http://host:4318')": lambda: OTLPLogger("http://user:secret@host:4318"),
    "MetricsClient(CSVLogger('runs'), every=10)": lambda: MetricsClient(CSVLogger("runs"), every=10),
    "WandbLogger('p', mode='offline')": lambda: WandbLogger("p", mode="offline"),
}


def average(average, weight, number):
    return average + (weight - average) / (number + 1)


@pytest.mark.parametrize(("text", "make"), SHOWN.items(), ids=SHOWN)
def test_it_is_the_call_with_what_is_not_the_default(text, make):
    assert repr(make()) == text


def test_each_public_callback_and_tracker_is_shown():
    named = {text.partition("(")[0] for text in SHOWN}
    public = {getattr(unitrain, name) for name in unitrain.__all__}
    assert {one.__name__ for one in public if isinstance(one, type) and issubclass(one, Callback)} <= named | {
        "Callback"
    }
    assert {one.__name__ for one in public if isinstance(one, type) and hasattr(one, "log_metrics")} <= named


@pytest.mark.parametrize("framework", ["lightning", "ignite", "reference"])
def test_a_trainer_shows_the_options_that_were_given(framework):
    assert repr(UnifiedTrainer(framework)) == f"UnifiedTrainer({framework!r})"
    trainer = UnifiedTrainer(framework, fast_dev_run=2, callbacks=[EMA(0.5)], seed=3, enable_progress_bar=False)
    shown = (
        f"UnifiedTrainer({framework!r}, fast_dev_run=2, seed=3, callbacks=(EMA(decay=0.5),), enable_progress_bar=False)"
    )
    assert repr(trainer) == shown
    trainer.fit(cases.spec(), loader())
    assert repr(trainer) == repr(pickle.loads(pickle.dumps(trainer))) == shown


def test_what_a_user_writes_is_shown_alike():
    class Mine(Callback):
        def __init__(self, values, weight=None, *rest, other=3, **more):
            self.values, self._weight, self.rest, self.more = values, weight, rest, more
            self.made = True

    given = Mine(list(range(1000)), torch.ones(2), 1, a=2)
    assert repr(given) == "Mine([0, 1, 2, 3, 4, 5, ...], weight=tensor([1., 1.]))"
    assert repr(Mine(object())) == "Mine(<object object>)"

    class Broken:
        def __repr__(self):
            raise ValueError

    assert repr(Mine(Broken())) == "Mine(<Broken instance>)"
