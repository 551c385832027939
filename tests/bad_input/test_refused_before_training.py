"""Bad input is refused before training starts: what was given, what is accepted, and the fix."""

from __future__ import annotations

from functools import partial

import ignite.handlers
import pytest
import pytorch_lightning as pl
import torch
from torch import nn
from torch.optim import LBFGS, SGD
from torch.optim.lr_scheduler import LambdaLR, ReduceLROnPlateau, StepLR
from torch.utils.data import DataLoader, TensorDataset

from unitrain import (
    Callback,
    ConfigError,
    DataError,
    DataSpec,
    Event,
    LRSchedule,
    ModelCheckpoint,
    SpecError,
    UnifiedTrainer,
    UnsupportedFeatureError,
)

on_engines = pytest.mark.parametrize("framework", ["lightning", "ignite"])
"""What goes wrong within a step: the reference is the loop that a person would write, and explains less."""


def plateau(monitor):
    return LRSchedule(ReduceLROnPlateau, monitor=monitor)


def by_hand(run, batch):
    """Stand for a manual step."""


class Misspelt(Callback):
    def on_batch_ended(self, run):
        pytest.fail("there is no such event")


SPECS = {
    "no loss": ({"loss": None}, SpecError, "neither a loss nor a training_step", "CrossEntropyLoss()"),
    "no optimizer": ({"optimizer": None}, SpecError, "no optimizer", "partial(torch.optim.AdamW"),
    "foreign optimizer": (
        {"optimizer": SGD(nn.Linear(1, 1).parameters(), lr=0.1)},
        SpecError,
        "contains none of the model's",
    ),
    "nan": ({"optimizer": partial(SGD, lr=float("nan"))}, SpecError, "learning rate", "got nan"),
    "inf": ({"optimizer": partial(SGD, lr=float("inf"))}, SpecError, "learning rate", "got inf"),
    "nan by schedule": (
        {"lr_scheduler": partial(LambdaLR, lr_lambda=lambda _: float("nan"))},
        SpecError,
        "learning rate",
    ),
    "unknown monitor": (
        {"lr_scheduler": plateau("val/acc")},
        ConfigError,
        "'val/acc'",
        "available: train/loss, val/loss",
    ),
    "near monitor": ({"lr_scheduler": plateau("val/los")}, ConfigError, "'val/los'", "did you mean 'val/loss'"),
    "monitor of no plateau": (
        {"lr_scheduler": LRSchedule(partial(StepLR, step_size=1), monitor="val/loss")},
        SpecError,
        "monitor='val/loss'",
        "StepLR",
    ),
    "no monitor": ({"lr_scheduler": ReduceLROnPlateau}, SpecError, "needs a metric", 'monitor="val/loss"'),
    "several optimizers": ({"optimizer": {"a": SGD, "b": SGD}}, SpecError, "'a', 'b'", "automatic_optimization=False"),
    "manual without step": (
        {"automatic_optimization": False},
        SpecError,
        "automatic_optimization=False",
        "run.backward",
    ),
    "callback of no kind": ({"callbacks": [3]}, SpecError, "got 3", "unitrain.Callback"),
    "callback class": ({"callbacks": [Callback]}, SpecError, "Callback", "unitrain.Callback"),
    "misspelt callback": ({"callbacks": [Misspelt()]}, SpecError, "on_batch_ended", "did you mean 'on_batch_end'"),
}


@pytest.mark.parametrize("case", SPECS)
def test_spec(make_trainer, make_spec, make_batches, refused, case):
    changes, error, *says = SPECS[case]
    trainer, spec = make_trainer(), make_spec(**changes)
    with refused(trainer, spec, error, *says):
        trainer.fit(spec, make_batches(), make_batches())


INPUTS = TensorDataset(torch.ones(3, 4), torch.ones(3, 1))
DATA = {
    "nothing": (None, "no train data"),
    "empty list": ([], "train loader is empty"),
    "empty by drop_last": (DataLoader(INPUTS, batch_size=8, drop_last=True), "train loader is empty", "drop_last"),
    "empty DataSpec": (DataSpec(), "no train data"),
    "tensor": (torch.ones(3, 4), "got a Tensor", "TensorDataset"),
    "dataset": (INPUTS, "got a TensorDataset", "DataLoader(dataset"),
    "mapping of tensors": ({"input": torch.ones(4), "target": torch.ones(4)}, "'input' must be", "got a Tensor"),
    "loader among batches": ([DataLoader(INPUTS), torch.ones(4)], "which could be a list", "several loaders"),
    "text": ("data/train", "got a str"),
    "number": (3, "got a int"),
}


@pytest.mark.parametrize("case", DATA)
def test_data(make_trainer, make_spec, refused, case):
    given, *says = DATA[case]
    trainer, spec = make_trainer(), make_spec()
    with refused(trainer, spec, DataError, *says):
        trainer.fit(spec, given)


@on_engines
def test_data_that_turns_out_empty(make_trainer, make_spec, refused):
    trainer, spec = make_trainer(), make_spec()
    with refused(trainer, spec, DataError, "train"):
        trainer.fit(spec, (batch for batch in ()))


BATCHES = {
    "tensor": (torch.ones(3, 4), "Tensor (3, 4) float32"),
    "three": (
        (torch.ones(3, 4), torch.ones(3), torch.ones(3)),
        "tuple of 3 (Tensor (3, 4) float32, Tensor (3,) float32",
    ),
    "mapping": ({"x": torch.ones(3, 4), "y": torch.ones(3)}, "dict of 2 {'x': Tensor (3, 4) float32"),
    "text": ("ab", "str 'ab'"),
}


@pytest.mark.parametrize("case", BATCHES)
def test_batch_that_is_not_what_the_spec_expects(make_trainer, make_spec, refused, case):
    """It is known only when it is there: the first batch has begun, and nothing was computed."""
    batch, shown = BATCHES[case]
    trainer, spec = make_trainer(), make_spec()
    with refused(trainer, spec, DataError, shown, "(input, target)", "training_step=", begun=(Event.BATCH_START,)):
        trainer.fit(spec, [batch])


@on_engines
def test_batch_of_a_wrong_shape_is_shown_with_the_model_s_own_error(make_trainer, make_spec):
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied") as caught:
        make_trainer().fit(make_spec(), [(torch.ones(3, 5), torch.ones(3, 1))])
    assert "Tensor (3, 5) float32" in "".join(getattr(caught.value, "__notes__", []))


STEPS = {
    "nothing": ({"training_step": lambda model, batch: None}, "loss"),
    "no loss": ({"training_step": lambda model, batch: {"a": 1.0}}, "loss"),
    "number": ({"training_step": lambda model, batch: 1.0}, "loss"),
    "vector": ({"loss": nn.MSELoss(reduction="none")}, "number", "Tensor (8, 1)"),
    "no gradient": ({"loss": lambda output, target: torch.ones(())}, "grad"),
    "clash": (
        {"training_step": lambda m, b: {"loss": m(b[0]).mean(), "m": 1.0}, "metrics": {"m": nn.L1Loss()}},
        "train/m",
    ),
    "text": ({"training_step": lambda m, b: {"loss": m(b[0]).mean(), "x": "high"}}, "'x'", "'high'"),
    "several": ({"training_step": lambda m, b: {"loss": m(b[0]).mean(), "x": torch.ones(2)}}, "'x'", "(2,)"),
}


@on_engines
@pytest.mark.parametrize("case", STEPS)
def test_step_that_does_not_give_a_loss_to_train_on(make_trainer, make_spec, make_batches, refused, case):
    changes, *says = STEPS[case]
    trainer, spec = make_trainer(), make_spec(**changes)
    with refused(trainer, spec, SpecError, *says, begun=None):
        trainer.fit(spec, make_batches())


EVALUATIONS = {
    "three": (lambda model, batch: (1, 2, 3), "tuple of 3"),
    "text": (lambda model, batch: "good", "str 'good'"),
    "vector": (lambda model, batch: {"x": torch.ones(2)}, "'x'"),
}


@on_engines
@pytest.mark.parametrize("case", EVALUATIONS)
def test_validation_step_that_gives_no_values(make_trainer, make_spec, make_batches, refused, case):
    step, *says = EVALUATIONS[case]
    trainer, spec = make_trainer(), make_spec(validation_step=step)
    with refused(trainer, spec, SpecError, *says, begun=(Event.VAL_BATCH_START,)):
        trainer.validate(spec, make_batches())


def test_metric_name_that_clashes(make_spec):
    with pytest.raises(SpecError, match=r'"loss" clashes[\s\S]*Hint:'):
        make_spec(metrics={"loss": nn.L1Loss()})


@pytest.mark.parametrize("name", ["loss", "train/loss", "mae", "train/mae"])
def test_logged_name_that_clashes(make_trainer, make_spec, make_batches, refused, name):
    trainer, spec = make_trainer(), make_spec(metrics={"mae": nn.L1Loss()})
    trainer.on(Event.BATCH_START, lambda run: run.log(name, 1.0))
    with refused(trainer, spec, SpecError, name.rpartition("/")[2], begun=(Event.BATCH_START,)):
        trainer.fit(spec, make_batches())


FITS = {
    "interval above the epoch": ({"val_check_interval": 9}, {}, "val_check_interval=9", "3 training batches"),
    "fraction of less than a batch": ({"limit_train_batches": 0.1}, {}, "limit_train_batches=0.1", "3 batches"),
    "no training": ({"limit_train_batches": 0}, {}, "limit_train_batches=0"),
    "accumulation by hand": (
        {"accumulate_grad_batches": 2},
        {"automatic_optimization": False, "training_step": by_hand},
        "accumulate_grad_batches=2",
        "run.step()",
    ),
    "accumulation with a closure": (
        {"accumulate_grad_batches": 2},
        {"optimizer": LBFGS},
        "accumulate_grad_batches=2",
        "closure",
    ),
}


@pytest.mark.parametrize("case", FITS)
def test_option_that_does_not_fit_what_is_trained(make_trainer, make_spec, make_batches, refused, case):
    options, changes, *says = FITS[case]
    trainer, spec = make_trainer(**options), make_spec(**changes)
    with refused(trainer, spec, ConfigError, *says):
        trainer.fit(spec, make_batches(), make_batches())


@pytest.mark.parametrize("options", [{"val_check_interval": 0.5}, {"limit_train_batches": 0.5}], ids=str)
def test_fraction_of_data_without_a_length(make_trainer, make_spec, make_batches, refused, options):
    trainer, spec = make_trainer(**options), make_spec()
    with refused(trainer, spec, ConfigError, *options, "0.5", "number of batches"):
        trainer.fit(spec, iter(make_batches()), make_batches())


def test_interval_above_the_epoch_is_no_matter_without_validation(make_trainer, make_spec, make_batches):
    assert make_trainer(val_check_interval=9).fit(make_spec(), make_batches()).step == 6


ARGUMENTS = {
    "misspelt": ({"max_epoch": 3}, "'max_epoch'", "did you mean 'max_epochs'"),
    "Lightning's own": ({"logger": True}, "'logger'", 'loggers=[CSVLogger("runs")]'),
    "of an old Lightning": ({"gpus": 2}, "'gpus'", "accelerator='gpu', devices=2"),
    "a strategy of an old Lightning": ({"accelerator": "ddp"}, "accelerator", "strategy='ddp'"),
    "negative limit": ({"limit_train_batches": -1}, "limit_train_batches", "got -1"),
    "negative fraction": ({"limit_val_batches": -0.5}, "limit_val_batches", "got -0.5"),
    "negative epochs": ({"max_epochs": -3}, "max_epochs", "got -3"),
    "negative steps": ({"max_steps": -5}, "max_steps", "got -5"),
    "precision": ({"precision": "fp16"}, "precision", "'16-mixed'", "got 'fp16'"),
    "contradiction": ({"min_epochs": 3, "max_epochs": 2}, "min_epochs=3", "max_epochs=2"),
    "seed": ({"seed": 2**64}, "seed", str(2**64)),
    "native of no framework": ({"native": {"ligtning": {}}}, "'ligtning'", "did you mean 'lightning'"),
    "native of a number": ({"native": {1: {}}}, "native", "{1: {}}"),
    "native argument that is a number": ({"native": {"lightning": {2: 1}}}, "native", "{2: 1}"),
}


@pytest.mark.parametrize("case", ARGUMENTS)
def test_argument_of_the_trainer(make_trainer, make_spec, refused, case):
    options, *says = ARGUMENTS[case]
    with refused(None, make_spec(), ConfigError, *says):
        make_trainer(**options)


def test_gpu_where_there_is_none(make_trainer, make_spec, make_batches, refused, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    trainer, spec = make_trainer(accelerator="gpu"), make_spec()
    with refused(trainer, spec, ConfigError, "accelerator='gpu'", "no cuda device", 'accelerator="auto"'):
        trainer.fit(spec, make_batches())


def test_second_cpu(make_trainer, make_spec, make_batches, refused):
    trainer, spec = make_trainer(accelerator="cpu", devices=[1]), make_spec()
    with refused(trainer, spec, ConfigError, "devices=[1]", "only one cpu"):
        trainer.fit(spec, make_batches())


@pytest.mark.parametrize(
    ("given", "error", "says"),
    [
        (None, SpecError, "nothing"),
        ({"model": 1}, SpecError, "dict"),
        (nn.Linear(4, 1), SpecError, "Linear"),
    ],
    ids=["none", "mapping", "module"],
)
def test_something_else_than_a_spec(make_trainer, make_batches, given, error, says):
    for run in (make_trainer().fit, make_trainer().validate, make_trainer().test, make_trainer().predict):
        with pytest.raises(error, match=rf"{says}[\s\S]*Hint: TrainSpec\("):
            run(given, make_batches())


@pytest.mark.parametrize("stage", ["fit", "validate", "test", "predict"])
def test_checkpoint_to_go_on_from(make_trainer, make_spec, make_batches, refused, stage):
    trainer, spec = make_trainer(), make_spec()
    with refused(trainer, spec, ConfigError, "ckpt_path='last'", "no such checkpoint"):
        getattr(trainer, stage)(spec, make_batches(), ckpt_path="last")


@pytest.mark.parametrize("field", ["val/lss", "val/lss:.2f", "val/loss"])
def test_a_file_name_with_a_metric_that_nothing_measures(
    make_trainer, make_spec, make_batches, refused, field, tmp_path
):
    keeper = ModelCheckpoint(tmp_path, filename=f"{{epoch}}-{{{field}}}")
    trainer, spec = make_trainer(callbacks=[keeper]), make_spec()
    val = None if field == "val/loss" else make_batches()
    with refused(trainer, spec, ConfigError, f"no metric named {field!r}", "train/loss" if val is None else "val/loss"):
        trainer.fit(spec, make_batches(), val)


def test_a_file_name_with_a_metric_that_a_handler_logs_is_left_to_the_first_save(
    make_trainer, make_spec, make_batches, tmp_path
):
    trainer = make_trainer(callbacks=[ModelCheckpoint(tmp_path, filename="{epoch}-{train/mine:.1f}-{train/loss:.2f}")])
    trainer.on(Event.BATCH_END, lambda run: run.log("mine", 1.0))
    trainer.fit(make_spec(), make_batches())
    assert all("train_mine=1.0" in path.name for path in tmp_path.glob("*.ckpt"))
    assert list(tmp_path.glob("*.ckpt"))
    other = make_trainer(callbacks=[ModelCheckpoint(tmp_path, filename="{missing}")])
    other.on(Event.BATCH_END, lambda run: run.log("mine", 1.0))
    with pytest.raises(ConfigError, match="no value is named 'missing'"):
        other.fit(make_spec(), make_batches())


FOREIGN = {
    "pl on ignite": ("ignite", pl.callbacks.ModelCheckpoint(), "unitrain.ModelCheckpoint"),
    "pl on reference": ("reference", pl.callbacks.StochasticWeightAveraging(0.1), "unitrain.StochasticWeightAveraging"),
    "ignite on lightning": ("lightning", ignite.handlers.BasicTimeProfiler(), "torch.profiler"),
    "ignite without attach on lightning": ("lightning", ignite.handlers.TerminateOnNan(), "unitrain.TerminateOnNaN"),
    "ignite without attach on reference": ("reference", ignite.handlers.TerminateOnNan(), "unitrain.TerminateOnNaN"),
}


@pytest.mark.parametrize("place", ["trainer", "spec"])
@pytest.mark.parametrize("case", FOREIGN)
def test_native_callback_that_needs_another_framework(make_spec, make_batches, refused, case, place):
    framework, callback, fix = FOREIGN[case]
    options = {"callbacks": [callback]} if place == "trainer" else {}
    spec = make_spec(callbacks=[] if place == "trainer" else [callback])
    with refused(None, spec, UnsupportedFeatureError, type(callback).__name__, repr(framework), fix):
        UnifiedTrainer(framework, enable_progress_bar=False, **options).fit(spec, make_batches())


OWN_BUT_NOT_ATTACHED = {
    "plain handler": ignite.handlers.TerminateOnNan(),
    "class": ignite.handlers.ProgressBar,
    "metric": ignite.metrics.Accuracy(),
}


@pytest.mark.parametrize("case", OWN_BUT_NOT_ATTACHED)
def test_ignite_object_that_cannot_be_attached_by_itself(make_spec, make_batches, refused, case):
    """It is Ignite's, so it must not be called foreign; ``create_trainer()`` gives the engine to add it to."""
    spec = make_spec()
    with refused(None, spec, SpecError) as caught:
        UnifiedTrainer("ignite", callbacks=[OWN_BUT_NOT_ATTACHED[case]], enable_progress_bar=False).fit(
            spec, make_batches()
        )
    assert "another framework" not in str(caught.value)


def test_native_callback_after_create_trainer(make_spec, make_batches, refused):
    trainer, spec = (
        UnifiedTrainer("lightning", max_epochs=1, enable_progress_bar=False),
        make_spec(callbacks=[pl.Callback()]),
    )
    trainer.create_trainer()
    with refused(trainer, spec, ConfigError, "create_trainer()", "UnifiedTrainer(callbacks="):
        trainer.fit(spec, make_batches())
