"""A trainer's options for an Ignite program: each acts or is refused before it runs."""

from __future__ import annotations

from datetime import timedelta

import pytest
import pytorch_lightning as pl
import torch
from ignite.engine import Engine, Events
from ignite.handlers import EarlyStopping
from torch.utils.data import DataLoader

from tests.bridges.written_program import EVERYWHERE, Written, alike, told
from unitrain import UnifiedTrainer
from unitrain.config import TrainerConfig
from unitrain.errors import UnitrainError
from unitrain.interop.ignite_programs import from_engine
from unitrain_bridges.ignite.options import REFUSED

ACTS = {
    *("max_epochs", "accelerator", "devices", "limit_train_batches", "fast_dev_run", "deterministic", "benchmark"),
    *("detect_anomaly", "seed", "callbacks", "default_root_dir", "native"),
    "enable_progress_bar",  # Ignite has no bar by itself, and none is made
    "gradient_clip_algorithm",  # only with gradient_clip_val
}
OTHERS = {
    "min_epochs": 1,
    "max_steps": 3,
    "min_steps": 1,
    "max_time": timedelta(hours=1),
    "num_nodes": 2,
    "strategy": "ddp",
    "prefetch_to_device": True,
    "sync_batchnorm": True,
    "compile": True,
    "precision": "bf16-mixed",
    "accumulate_grad_batches": 2,
    "gradient_clip_val": 1.0,
    "val_check_interval": 2,
    "check_val_every_n_epoch": 2,
    "limit_val_batches": 1,  # a batch: equal to the default, 1.0, as a number
    "limit_test_batches": 2,
    "limit_predict_batches": 2,
    "overfit_batches": 2,
    "log_every_n_steps": 3,
    "num_sanity_val_steps": 2,
    "profiler": "simple",
    "reload_dataloaders_every_n_epochs": 1,
}


def test_each_option_acts_or_is_refused():
    assert set(TrainerConfig.__dataclass_fields__) == ACTS | set(REFUSED)
    assert not ACTS & set(REFUSED)
    assert set(OTHERS) == set(REFUSED) - {"loggers"}


@pytest.mark.parametrize("framework", EVERYWHERE)
@pytest.mark.parametrize("name", OTHERS)
def test_what_cannot_act_is_refused_before_anything_runs(name, framework):
    written = Written()
    with pytest.raises(UnitrainError, match=name) as refused:
        UnifiedTrainer(framework, **{name: OTHERS[name]}).fit(written.trainer, written.loader)
    assert refused.value.hint
    assert written.trainer.state.iteration == 0


class Tracker:
    def log_metrics(self, metrics, step):
        raise AssertionError


BAD = {
    "validation": (lambda t, w: t.fit(w.trainer, w.loader, w.loader), {}, "val_dataloaders"),
    "ckpt_path": (lambda t, w: t.fit(w.trainer, w.loader, ckpt_path="a.pt"), {}, "ckpt_path"),
    "loggers": (lambda t, w: t.fit(w.trainer, w.loader), {"loggers": [Tracker()]}, "loggers"),
    "no evaluator": (lambda t, w: (t.fit(w.trainer, w.loader), t.validate(None, w.loader)), {}, "evaluator"),
    "a trainer to evaluate": (lambda t, w: t.validate(w.trainer, w.loader), {}, "is a trainer"),
    "two lengths": (
        lambda t, w: t.fit(from_engine(w.trainer, epoch_length=2), w.loader),
        {"limit_train_batches": 3},
        "epoch_length=2",
    ),
    "no batch": (lambda t, w: t.fit(w.trainer, w.loader), {"limit_train_batches": 0}, "limit_train_batches"),
    "two ends": (lambda t, w: t.fit(from_engine(w.trainer, max_iters=2), w.loader), {"max_epochs": 3}, "max_iters"),
    "no engine": (lambda t, w: t.fit(from_engine(_Fake()), w.loader), {}, "_Fake"),
}


class _Fake:
    state = None

    def run(self):
        raise AssertionError


@pytest.mark.parametrize("framework", EVERYWHERE)
@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_refused_by_name(name, framework):
    act, options, match = BAD[name]
    with pytest.raises(UnitrainError, match=match) as refused:
        act(UnifiedTrainer(framework, **options), Written())
    assert refused.value.hint


def test_several_devices_are_refused():
    written = Written()
    with pytest.raises(UnitrainError, match="devices=2"):
        UnifiedTrainer("lightning", accelerator="cpu", devices=2).fit(written.trainer, written.loader)


def test_another_device_than_the_modules_is_refused():
    written = Written()
    written.net.to("meta"), written.head.to("meta")
    trainer = UnifiedTrainer("reference", accelerator="cpu", devices=[0], max_epochs=1)
    with pytest.raises((NotImplementedError, RuntimeError)):  # torch's own, from the step: nothing was moved
        trainer.fit(written.trainer, written.loader)
    assert written.net.weight.device.type == "meta"


@pytest.mark.parametrize("value", [2, 0.5])
def test_limited_batches_start_anew_each_epoch(value):
    seen = []

    def run(framework, written):
        trainer = UnifiedTrainer(framework, max_epochs=3, limit_train_batches=value, seed=1)
        written.loader = DataLoader(range(8), batch_size=2)
        seen.append([])
        written.trainer = Engine(lambda engine, batch: seen[-1].append(batch.tolist()))
        return told(trainer.fit(written.trainer, written.loader))

    alike(run)
    assert seen[0] == seen[1] == seen[2] == [[0, 1], [2, 3]] * 3


def test_fast_dev_run_runs_one_batch():
    def run(framework, written):
        return told(UnifiedTrainer(framework, fast_dev_run=True).fit(written.trainer, written.loader))

    assert alike(run)["step"] == 1


def test_switches_of_torch_hold_within_the_run():
    def run(framework, written):
        seen = []
        switches = torch.are_deterministic_algorithms_enabled, torch.is_anomaly_enabled
        written.trainer.add_event_handler(Events.ITERATION_STARTED, lambda: seen.append([one() for one in switches]))
        options = {"deterministic": True, "detect_anomaly": True, "seed": 4, "max_epochs": 1}
        UnifiedTrainer(framework, **options).fit(written.trainer, written.loader)
        assert not any(one() for one in switches)
        return seen

    assert alike(run) == [[True, True]] * 4


def test_a_seed_sets_the_order():
    def run(framework, written):
        torch.manual_seed(hash(framework) % 1000)
        return told(UnifiedTrainer(framework, seed=7, max_epochs=2).fit(written.trainer, written.loader))

    alike(run)


def test_callbacks_go_where_they_belong():
    class Counts(pl.Callback):
        steps = 0

        def on_train_batch_end(self, trainer, *args):
            self.steps += 1
            assert trainer.global_step == self.steps

    counts, written = Counts(), Written()
    trainer = UnifiedTrainer("lightning", max_epochs=2, callbacks=[counts])
    trainer.fit(written.trainer, written.loader)
    assert counts.steps == 8
    with pytest.raises(UnitrainError, match="Counts"):
        UnifiedTrainer("ignite", callbacks=[counts]).fit(written.trainer, written.loader)


def test_ignites_handlers_are_attached_once():
    for framework in EVERYWHERE:
        bar = _Handler()
        trainer, written = UnifiedTrainer(framework, max_epochs=1, callbacks=[bar]), Written()
        trainer.fit(written.trainer, written.loader)
        trainer.fit(written.trainer, written.loader)
        assert bar.heard == 8


class _Handler(EarlyStopping):
    """A handler of Ignite's kind."""

    def __init__(self):
        self.heard = 0

    def attach(self, engine):
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.hear)

    def hear(self):
        self.heard += 1
