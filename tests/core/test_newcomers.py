"""Slips of a first day: each is refused before anything runs, with what was given and how it is meant."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR, OneCycleLR

from unitrain import (
    BatchSizeFinder,
    ConfigError,
    LRFinder,
    LRSchedule,
    ModelCheckpoint,
    SpecError,
    TrainSpec,
    UnifiedTrainer,
)

BATCHES = [(torch.ones(2, 2), torch.ones(2, 1))] * 2
BACKENDS = ("lightning", "ignite", "reference")


def spec(**changes):
    fields = {"model": nn.Linear(2, 1), "loss": nn.MSELoss(), "optimizer": partial(torch.optim.SGD, lr=0.1)}
    return TrainSpec(**{**fields, **changes})


def trainer(framework):
    return UnifiedTrainer(framework, max_epochs=1, enable_progress_bar=False)


@pytest.mark.parametrize(
    ("scheduler", "hint"),
    [
        (CosineAnnealingLR, "LRSchedule(partial(CosineAnnealingLR, T_max=...))"),
        (OneCycleLR, "LRSchedule(partial(OneCycleLR, max_lr=...))"),
        (partial(CosineAnnealingLR, "T"), "LRSchedule(partial(torch.optim.lr_scheduler.StepLR, step_size=2))"),
    ],
    ids=["cosine", "one cycle", "partial"],
)
def test_arguments_that_a_scheduler_lacks_are_named(scheduler, hint):
    for given in (scheduler, LRSchedule(scheduler)):
        with pytest.raises(SpecError) as raised:
            trainer("reference").fit(spec(lr_scheduler=given), BATCHES)
        assert raised.value.hint == hint


@pytest.mark.parametrize("method", ["suggestion", "plot"])
def test_a_finder_that_has_not_run_says_so(method, tmp_path):
    finder = LRFinder()
    with pytest.raises(ConfigError, match=rf"LRFinder\.{method}\(\) requires a search") as raised:
        getattr(finder, method)(*([tmp_path / "x.png"] if method == "plot" else []))
    assert "LRFinder().run(" in raised.value.hint
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("finder", [LRFinder, BatchSizeFinder])
def test_arguments_of_run_that_changed_places_are_told(finder):
    one, loader = spec(), torch.utils.data.DataLoader(torch.utils.data.TensorDataset(*BATCHES[0]))
    for given in ((one, "reference", loader), ("reference", loader, one)):
        with pytest.raises(SpecError, match=r"\.run takes a trainer, a TrainSpec and the data, in this order"):
            finder().run(*given)


@pytest.mark.parametrize("name", ["val/loss", "train/acc", "val/clean/loss"])
def test_a_metric_is_no_folder(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="with the name of a metric") as raised:
        ModelCheckpoint(name)
    assert f"monitor={name!r}" in raised.value.hint
    assert ModelCheckpoint(Path(name)).dirpath == Path(name)
    assert ModelCheckpoint(name, monitor="train/loss").dirpath == Path(name)
    Path(name).mkdir(parents=True)
    assert ModelCheckpoint(name).dirpath == Path(name)


@pytest.mark.parametrize("name", ["runs/val", "train/checkpoints", "test/run_1", "val/fold/2", "train/loss_run"])
def test_a_folder_is_no_metric(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert ModelCheckpoint(name).dirpath == Path(name)


@pytest.mark.parametrize("framework", BACKENDS)
def test_a_metric_of_the_spec_is_no_folder(framework, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    measured = spec(metrics={"closeness": lambda output, target: (output - target).abs().mean()})
    options = {"max_epochs": 1, "enable_progress_bar": False}
    keep = ModelCheckpoint("train/closeness")
    with pytest.raises(ConfigError, match="with the name of a metric") as raised:
        UnifiedTrainer(framework, callbacks=[keep], **options).fit(measured, BATCHES)
    assert "monitor='train/closeness'" in raised.value.hint
    assert not list(tmp_path.iterdir())
    UnifiedTrainer(framework, callbacks=[ModelCheckpoint("train/closeness")], **options).fit(spec(), BATCHES)
    assert list((tmp_path / "train" / "closeness").iterdir())


@pytest.mark.parametrize("name", ["tpu", "hpu", "xpu"])
def test_another_accelerator_is_no_misspelt_one(name):
    with pytest.raises(ConfigError, match="one of 'auto', 'cpu', 'gpu', 'cuda', 'mps'") as raised:
        UnifiedTrainer("reference", accelerator=name)
    assert "did you mean" not in str(raised.value)


class HeldModel(nn.Linear):
    def __init__(self):
        super().__init__(2, 1)
        self.generator = (one for one in ())


@pytest.mark.parametrize("finder", [LRFinder, BatchSizeFinder])
def test_a_model_that_cannot_be_copied_is_refused(finder):
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(*BATCHES[0]))
    with pytest.raises(ConfigError, match=r"the model HeldModel, .* cannot be copied by copy.deepcopy") as raised:
        finder().run("reference", spec(model=HeldModel()), loader)
    assert "a search trains a copy" in raised.value.hint
