"""Loaders that are made anew every n epochs: by a function, by a function of the epoch, by a datamodule."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch.utils.data import DataLoader

from tests.checkpoint import test_resume as resume
from tests.loaders.conftest import numbers
from unitrain import ConfigError, DataError, DataSpec, Event
from unitrain.testing import cases_loaders
from unitrain.testing.trace import record

BATCHES = numbers([1.0, 2.0], [3.0], [4.0])
RELOADED = next(case for case in cases_loaders.loader_cases() if case.name == "reloaded")
LENGTHS = [4, 4, 5, 5, 6, 6]
"""Batches of the epochs of that case: 14, 18 and 22 samples, four a batch."""


class Module:
    """Shaped like a LightningDataModule; counts how often each hook is called."""

    def __init__(self):
        self.train, self.val = 0, 0

    def prepare_data(self):
        """Do nothing."""

    def setup(self, stage):
        """Do nothing."""

    def teardown(self, stage):
        """Do nothing."""

    def train_dataloader(self):
        self.train += 1
        return numbers(*[[float(self.train)]] * self.train)

    def val_dataloader(self):
        self.val += 1
        return numbers([10.0 * self.val])


@pytest.mark.parametrize(("every", "expected"), [(1, [1, 2, 3, 4]), (2, [1, 1, 2, 2]), (3, [1, 1, 1, 2])])
def test_hooks_of_a_datamodule(make_trainer, make_spec, every, expected):
    data = Module()
    trainer = make_trainer(max_epochs=4, reload_dataloaders_every_n_epochs=every)
    lengths = []
    trainer.on(Event.EPOCH_START, lambda run: lengths.append(run.epoch_length))
    result = trainer.fit(make_spec(metrics=None), data)
    assert [row["train/loss"] for row in result.history] == expected
    assert [row["val/loss"] for row in result.history] == [10.0 * number for number in expected]
    assert lengths == expected
    assert (data.train, data.val, result.step) == (max(expected), max(expected), sum(expected))


@pytest.mark.parametrize("way", ["argument", "DataSpec"])
def test_function_of_the_epoch(make_trainer, make_spec, way):
    epochs = []

    def train(epoch):
        epochs.append(epoch)
        return numbers([float(epoch)])

    def val():
        return {"a": numbers([100.0 + epochs[-1]])}

    data = (train, val) if way == "argument" else (DataSpec(train=train, val=val),)
    trainer = make_trainer(max_epochs=5, reload_dataloaders_every_n_epochs=2)
    result = trainer.fit(make_spec(metrics=None), *data)
    assert epochs == [0, 2, 4]
    assert [row["train/loss"] for row in result.history] == [0.0, 0.0, 2.0, 2.0, 4.0]
    assert [row["val/a/loss"] for row in result.history] == [100.0, 100.0, 102.0, 102.0, 104.0]


def test_made_before_the_epoch_starts_and_validation_leaves_no_trace(make_trainer, make_spec):
    draws = []
    for val in (None, lambda: numbers([float(torch.rand(()))])):
        torch.manual_seed(3)
        drawn = []
        trainer = make_trainer(max_epochs=3, reload_dataloaders_every_n_epochs=1)
        trainer.on(Event.EPOCH_START, lambda drawn=drawn: drawn.append("start"))

        def train(drawn=drawn):
            drawn.append(float(torch.rand(())))
            return BATCHES

        trainer.fit(make_spec(), train, val)
        draws.append(drawn)
    assert draws[0][1::2] == ["start"] * 3
    assert draws[0][2] != draws[0][0]
    # the first validation loader is made before training draws, as it always was; later ones leave no trace
    assert draws[1][1::2] == ["start"] * 3


def test_as_lightning_does(make_spec):
    """Lightning's own loop asks a LightningDataModule in the same epochs."""
    import pytorch_lightning as pl

    from unitrain import UnifiedTrainer

    class Data(pl.LightningDataModule):
        def __init__(self):
            super().__init__()
            self.asked = []

        def train_dataloader(self):
            self.asked.append(self.trainer.current_epoch)
            return DataLoader([(torch.tensor(1.0), torch.tensor(0.0))] * 3)

    class Own(pl.LightningModule):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(1, 1)

        def training_step(self, batch):
            return self.layer(batch[0][:, None]).mean()

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.1)

    options = {"max_epochs": 5, "reload_dataloaders_every_n_epochs": 2}
    native, ours = Data(), Data()
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    pl.Trainer(logger=False, accelerator="cpu", log_every_n_steps=1, **quiet, **options).fit(Own(), native)
    UnifiedTrainer("lightning", enable_progress_bar=False, **options).fit(make_spec(), ours)
    assert native.asked == ours.asked == [0, 2, 4]


POSITIONS = {  # the batch of the run after which the checkpoint is written
    "at the end of the first epoch": 4,
    "before a reload": 8,
    "in a reloaded epoch": 10,
    "after a reloaded epoch": 13,
    "in the epoch after": 15,
}


@pytest.mark.parametrize("position", POSITIONS)
def test_a_resumed_run_has_the_loaders_of_its_epoch(framework, position, tmp_path):
    """The loaders are drawn at random when they are made, so those of another moment would be seen."""
    whole = record("reference", RELOADED)
    assert [len([one for one in whole.tape if one[:2] == ("batch_end", epoch)]) for epoch in range(6)] == LENGTHS
    other = {"reference": "lightning", "lightning": "ignite", "ignite": "reference"}[framework]
    resume.written(other, RELOADED, POSITIONS[position], tmp_path / "run.ckpt")
    resume.assert_goes_on(whole, resume.resumed(framework, RELOADED, tmp_path / "run.ckpt"))


def test_a_resumed_run_asks_for_the_epoch_that_made_the_loader(make_trainer, make_spec, tmp_path):
    epochs = []

    def train(epoch):
        epochs.append(epoch)
        return BATCHES

    options = {"reload_dataloaders_every_n_epochs": 3}
    trainer = make_trainer(max_epochs=5, **options)
    trainer.fit(make_spec(), train)
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    epochs.clear()
    make_trainer(max_epochs=7, **options).fit(make_spec(), train, ckpt_path=tmp_path / "a.ckpt")
    assert epochs == [0, 3, 6]  # the first is asked for before the file is read


REFUSED = {
    "a loader": (BATCHES, None, ConfigError, "needs a function to call, but the training data is a list"),
    "loaders in a DataSpec": (DataSpec(train=BATCHES), None, ConfigError, "needs a function to call"),
    "a function of two": (lambda epoch, more: BATCHES, None, DataError, "takes no argument, or the epoch"),
    "a class": (DataLoader, None, ConfigError, "needs a function to call"),
    "no loader": (lambda: None, None, DataError, "no train data"),
    "what is no loader": (lambda: torch.ones(3), None, DataError, "got a Tensor"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_before_training(make_trainer, make_spec, case):
    train, val, error, says = REFUSED[case]
    trainer = make_trainer(reload_dataloaders_every_n_epochs=1)
    trainer.on(Event.FIT_START, lambda: pytest.fail("it has begun"))
    with pytest.raises(error) as caught:
        trainer.fit(make_spec(), train, val)
    assert says in str(caught.value)
    assert "\nHint: " in str(caught.value)


def test_a_function_needs_the_option(make_trainer, make_spec):
    with pytest.raises(DataError, match=r"got a function[\s\S]*reload_dataloaders_every_n_epochs=1"):
        make_trainer().fit(make_spec(), lambda: BATCHES)


def test_overfit_batches_contradicts(make_trainer):
    with pytest.raises(ConfigError, match=r"reload_dataloaders_every_n_epochs[\s\S]*overfit_batches"):
        make_trainer(overfit_batches=1, reload_dataloaders_every_n_epochs=1)


def test_other_names_are_refused(make_trainer, make_spec):
    names = iter("abc")
    trainer = make_trainer(reload_dataloaders_every_n_epochs=1)
    with pytest.raises(DataError, match=r"epoch 1 are val/b; before, they were val/a"):
        trainer.fit(make_spec(), BATCHES, lambda: {next(names): BATCHES})


@pytest.mark.parametrize("fault", ["one epoch late", "from other random numbers"])
def test_a_fault_is_noticed(framework, fault, monkeypatch, tmp_path):
    from unitrain.checkpoint import resume as resuming
    from unitrain.session import fit_data

    whole = record("reference", RELOADED)
    resume.written("reference", RELOADED, 10, tmp_path / "run.ckpt")
    if fault == "one epoch late":
        made = fit_data.made
        monkeypatch.setattr(fit_data, "made", lambda given, epoch: made(given, max(epoch - 1, 0)))
    else:
        nothing = SimpleNamespace(restore=lambda: None)
        monkeypatch.setattr(resuming, "RngSnapshot", SimpleNamespace(from_state_dict=lambda state: nothing))
    with pytest.raises(AssertionError):
        resume.assert_goes_on(whole, resume.resumed(framework, RELOADED, tmp_path / "run.ckpt"))
