"""Sanity validation shows a mistake before the first epoch, and leaves no trace of itself."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset

from tests.loaders.conftest import numbers
from unitrain import ConfigError, EarlyStopping, Event, ModelCheckpoint, UnifiedTrainer
from unitrain.testing import cases, cases_loaders
from unitrain.testing.conformance import ALL
from unitrain.testing.trace import differences, record

BATCHES = numbers([1.0, 2.0], [3.0], [4.0])


@pytest.mark.parametrize(("name", "steps"), [("drawing-validation", -1), ("several-validations", 2)])
def test_no_trace(framework, name, steps):
    case = ALL[name]
    checked = record(framework, replace(case, options={**case.options, "num_sanity_val_steps": steps}))
    assert not differences(record(framework, case), checked)


class Counting(IterableDataset):
    """Keeps its position from one validation to the next."""

    def __init__(self):
        self.at = 0

    def __iter__(self):
        for _ in range(4):
            self.at += 1
            yield torch.full((36,), float(self.at)), torch.tensor(0)

    def state_dict(self):
        return {"at": self.at}

    def load_state_dict(self, state):
        self.at = state["at"]


KEPT = {
    "a dataset with a state": lambda: DataLoader(Counting(), batch_size=2),
    "workers that persist": lambda: DataLoader(
        cases.Noisy(), batch_size=4, shuffle=True, num_workers=1, persistent_workers=True
    ),
    "a shared generator": None,
}


@pytest.mark.parametrize("kind", KEPT)
def test_no_trace_in_what_keeps_a_state(framework, kind):
    case = ALL["shared-generator"] if KEPT[kind] is None else replace(ALL["noisy"], val=KEPT[kind])
    checked = record(framework, replace(case, options={"num_sanity_val_steps": 2}))
    assert not differences(record(framework, case), checked)


class Rows:
    def __init__(self):
        self.rows = []

    def log_metrics(self, metrics, step):
        self.rows.append((step, dict(metrics)))


def test_no_trace_in_callbacks_and_trackers(make_trainer, make_spec, tmp_path):
    found = []
    for steps in (None, 2):
        stopping = EarlyStopping("val/loss", patience=1)
        keeping = ModelCheckpoint(tmp_path / str(steps), monitor="val/loss")
        rows = Rows()
        trainer = make_trainer(callbacks=[stopping, keeping], loggers=[rows], num_sanity_val_steps=steps, max_epochs=4)
        result = trainer.fit(make_spec(), BATCHES, BATCHES)
        files = sorted(path.name for path in (tmp_path / str(steps)).rglob("*.ckpt"))
        found.append((stopping.state_dict(), rows.rows, result.history, result.stopped_by, files))
    assert found[0] == found[1]


@pytest.mark.parametrize(("steps", "expected"), [(0, []), (1, [2, 2]), (2, [2, 1, 2, 1]), (-1, [2, 1, 1, 2, 1, 1])])
def test_so_many_batches_of_each_loader(make_trainer, make_spec, steps, expected):
    seen = []
    spec = make_spec(validation_step=lambda model, batch: seen.append(len(batch[0])), metrics=None)
    trainer, before = make_trainer(num_sanity_val_steps=steps), []
    trainer.on(Event.FIT_START, lambda: before.extend(seen))
    trainer.fit(spec, BATCHES, {"a": BATCHES, "b": BATCHES})
    assert before == expected


def test_limit_of_validation_holds_too(make_trainer, make_spec):
    seen = []
    spec = make_spec(validation_step=lambda model, batch: seen.append(len(batch[0])), metrics=None)
    trainer = make_trainer(num_sanity_val_steps=3, limit_val_batches=2)
    trainer.on(Event.FIT_START, lambda: seen.append("begun"))
    trainer.fit(spec, BATCHES, BATCHES)
    assert seen[:3] == [2, 1, "begun"]


def test_an_error_comes_before_the_first_epoch(make_trainer, make_spec):
    def fails(model, batch):
        assert not model.training
        assert not torch.is_grad_enabled()
        raise KeyError("validation")

    trainer, seen = make_trainer(num_sanity_val_steps=1), []
    trainer.on(Event.EXCEPTION, lambda run: seen.append(type(run.exception)))
    trainer.on(Event.FIT_START | Event.EPOCH_START, lambda: pytest.fail("it has begun"))
    spec = make_spec(validation_step=fails)
    with pytest.raises(KeyError, match="validation"):
        trainer.fit(spec, BATCHES, BATCHES)
    assert seen == [KeyError]
    assert spec.model.training


def test_skipped_on_resume(make_trainer, make_spec, tmp_path):
    trainer = make_trainer(max_epochs=1)
    trainer.fit(make_spec(), BATCHES, BATCHES)
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    seen = []
    spec = make_spec(validation_step=lambda model, batch: seen.append(1), metrics=None)
    trainer = make_trainer(num_sanity_val_steps=2)
    trainer.on(Event.FIT_START, lambda: seen.append("begun"))
    trainer.fit(spec, BATCHES, BATCHES, ckpt_path=tmp_path / "a.ckpt")
    assert seen[0] == "begun"


def test_log_of_a_step_goes_nowhere(make_trainer, make_spec):
    trainer = make_trainer(num_sanity_val_steps=1, max_epochs=1)
    spec = make_spec(validation_step=lambda model, batch: trainer.log("own", batch[0].mean()), metrics=None)
    trainer.on(Event.FIT_START, lambda run: run.state.metrics and pytest.fail("there is a value"))
    assert trainer.fit(spec, BATCHES, BATCHES).metrics["val/own"] == (1.5 * 2 + 3 + 4) / 4


@pytest.mark.parametrize("data", ["nothing", "switched off", "one-shot"])
def test_refused_where_it_cannot_act(make_trainer, make_spec, data):
    val, options, says = {
        "nothing": (None, {}, "without validation data"),
        "switched off": (BATCHES, {"limit_val_batches": 0}, "without validation data"),
        "one-shot": (iter(BATCHES), {}, "only be iterated once"),
    }[data]
    with pytest.raises(ConfigError, match=rf"num_sanity_val_steps=2[\s\S]*{says}[\s\S]*Hint"):
        make_trainer(num_sanity_val_steps=2, **options).fit(make_spec(), BATCHES, val)


def test_native_callbacks_of_lightning_see_nothing(make_spec):
    import pytorch_lightning as pl

    calls = []

    class Seen(pl.Callback):
        def on_validation_start(self, trainer, module):
            calls.append(trainer.current_epoch)

    options = {"max_epochs": 2, "enable_progress_bar": False, "num_sanity_val_steps": 1, "callbacks": [Seen()]}
    UnifiedTrainer("lightning", **options).fit(make_spec(), BATCHES, BATCHES)
    assert calls == [0, 1]


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_lightning_module_has_lightnings_meaning(framework, tmp_path):
    import pytorch_lightning as pl
    from torch import nn

    class Module(pl.LightningModule):
        def __init__(self):
            super().__init__()
            self.layer, self.sane = nn.Linear(1, 1), 0

        def training_step(self, batch):
            return self.layer(batch[0][:, None]).mean()

        def validation_step(self, batch):
            self.sane += self.trainer.sanity_checking

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.1)

    options = {"max_epochs": 1, "enable_progress_bar": False, "default_root_dir": tmp_path, "accelerator": "cpu"}
    for steps, expected in ((None, 2), (0, 0), (1, 1), (-1, 3)):
        module = Module()
        loader = DataLoader([(torch.tensor(float(i)), 0) for i in range(3)])
        UnifiedTrainer(framework, num_sanity_val_steps=steps, **options).fit(module, loader, loader)
        assert module.sane == expected


def test_one_more_validation_is_noticed(framework, monkeypatch):
    """A sanity validation that draws from the generators of training would be seen by the comparison above."""
    from contextlib import nullcontext

    import unitrain.session.sanity_check

    case = cases_loaders.loader_cases()[0]
    monkeypatch.setattr(
        unitrain.session.sanity_check, "preserved_rng", lambda generators: torch.rand(()) and nullcontext()
    )
    checked = record(framework, replace(case, options={"num_sanity_val_steps": 2}))
    assert differences(record(framework, case), checked)
