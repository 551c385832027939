"""A result, and a trainer that has run, can be pickled and copied; the run itself stays behind."""

from __future__ import annotations

import copy
import dataclasses
import json
import pickle
from functools import partial

import pytest
import torch

from unitrain import (
    ConfigError,
    CSVLogger,
    EarlyStopping,
    Event,
    LRSchedule,
    ModelCheckpoint,
    TensorBoardLogger,
    UnifiedTrainer,
    UnitrainError,
)
from unitrain.reports.run.facts import facts_of
from unitrain.testing.cases import spec
from unitrain.testing.models import loader
from unitrain.testing.trace import differences

FRAMEWORKS = ["reference", "lightning", "ignite"]
WAYS = {"pickle": lambda value: pickle.loads(pickle.dumps(value)), "deepcopy": copy.deepcopy}
SEEN = []


def note(run):
    SEEN.append(("run", run.state.batch))


def note_nothing():
    SEEN.append(("nothing",))


def seeded():
    torch.manual_seed(0)
    return spec()


def trained(framework, folder):
    options = {"max_epochs": 1, "seed": 0, "enable_progress_bar": False, "default_root_dir": folder}
    options["callbacks"] = [EarlyStopping("val/loss"), ModelCheckpoint(folder, monitor="val/loss", save_last=True)]
    options["loggers"] = [CSVLogger(folder), TensorBoardLogger(folder, "tb")]
    trainer = UnifiedTrainer(framework, **options)
    trainer.on(Event.BATCH_END(every=2), note)
    trainer.on(Event.EPOCH_END, note_nothing)
    made = spec()
    return trainer, made, trainer.fit(made, loader(), loader())


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("way", WAYS)
def test_a_result_travels_without_its_engine(framework, way, tmp_path):
    _, _, result = trained(framework, tmp_path)
    other = WAYS[way](result)
    assert other.native is None
    for name in set(vars(result)) - {"native", "_facts"}:
        assert getattr(other, name) == getattr(result, name)
    there, here = facts_of(other), facts_of(result).plain()
    assert vars(there.log) == vars(here.log)
    assert dataclasses.replace(there, log=None) == dataclasses.replace(here, log=None)
    assert result.framework == framework
    assert (result.native is None) == (framework == "reference")
    json.dumps([other.metrics, other.history])
    torch.save(other, tmp_path / "result.pt")


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("way", WAYS)
def test_a_trainer_that_has_run_travels_and_works(framework, way, tmp_path):
    trainer, made, result = trained(framework, tmp_path)
    expected = trainer.validate(made, loader())
    other = WAYS[way](trainer)
    assert other.validate(made, loader()) == expected
    assert other.state.step == result.step
    assert other.validate(spec(), loader(), ckpt_path="best") == trainer.validate(spec(), loader(), ckpt_path="best")
    SEEN.clear()
    again, fresh = seeded(), seeded()
    first = other.fit(again, loader(), loader())
    seen = list(SEEN)
    assert ("nothing",) in seen
    assert ("run", 2) in seen
    SEEN.clear()
    assert trainer.fit(fresh, loader(), loader()).history == first.history
    assert seen == SEEN
    assert not differences(dict(again.model.state_dict()), dict(fresh.model.state_dict()))


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_the_run_stays_behind(framework, tmp_path):
    trainer, _, _ = trained(framework, tmp_path)
    other = copy.deepcopy(trainer)
    with pytest.raises(ConfigError, match="save_checkpoint"):
        other.save_checkpoint(tmp_path / "copy.ckpt")
    with pytest.raises(UnitrainError):
        other.validate(dataloaders=loader())
    trainer.save_checkpoint(tmp_path / "own.ckpt")  # the first keeps its run
    assert trainer.optimizers


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_function_in_the_spec_does_not_bind_the_trainer(framework):
    trainer = UnifiedTrainer(framework, max_epochs=1, enable_progress_bar=False)
    made = spec()
    step = lambda model, batch: made.loss(model(batch[0]), batch[1])  # noqa: E731 - what no pickle takes
    schedule = LRSchedule(partial(torch.optim.lr_scheduler.LambdaLR, lr_lambda=lambda epoch: 0.5**epoch))
    trainer.fit(dataclasses.replace(made, training_step=step, metrics=None, lr_scheduler=schedule), loader())
    assert pickle.loads(pickle.dumps(trainer)).fit(spec(), loader()).step
