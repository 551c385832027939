"""A LightningDataModule is used as on Lightning, and sees the Trainer there."""

import pytest
import pytorch_lightning as pl
from torch.utils.data import DataLoader, TensorDataset

from tests.adapters.test_native import ENGINES, make
from unitrain import DataSpec, Event
from unitrain.testing.cases import spec
from unitrain.testing.models import BATCH, loader, tensors
from unitrain.testing.trace import Case, differences, record


class DigitsModule(pl.LightningDataModule):
    """A datamodule with transfer hooks and a life of its own."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def prepare_data(self):
        self.calls.append("prepare_data")

    def setup(self, stage):
        self.calls.append(f"setup {stage}")
        self.data = TensorDataset(*tensors())

    def train_dataloader(self):
        return DataLoader(self.data, batch_size=BATCH, shuffle=True)

    def val_dataloader(self):
        return DataLoader(self.data, batch_size=BATCH)

    def predict_dataloader(self):
        return DataLoader(self.data, batch_size=BATCH)

    def on_after_batch_transfer(self, batch, dataloader_idx):
        return batch[0] * 2, batch[1]

    def teardown(self, stage):
        self.calls.append(f"teardown {stage}")


@pytest.mark.parametrize("framework", ENGINES)
def test_a_lightning_datamodule_means_the_same_on_every_backend(framework):
    case = Case(name="datamodule", spec=spec, train=DigitsModule)
    assert not differences(record("reference", case), record(framework, case))


@pytest.mark.parametrize("framework", [*ENGINES, "reference"])
def test_a_lightning_datamodule_is_set_up_and_torn_down(framework):
    data = DigitsModule()
    result = make(framework).fit(spec(), data)
    assert data.calls == ["prepare_data", "setup fit", "teardown fit"]
    assert "val/loss" in result.metrics
    doubled = [(inputs * 2, target) for inputs, target in loader(shuffle=False)]
    made = spec()
    predictions = make(framework).predict(made, DataSpec(predict=doubled))
    assert not differences(make(framework).predict(made, data), predictions)
    with pytest.raises(Exception, match="no test data"):
        make(framework).test(spec(), data)


class AskingModule(DigitsModule):
    """Notes what ``self.trainer`` is in each of its hooks."""

    def __init__(self):
        super().__init__()
        self.seen = {}

    def note(self, hook):
        self.seen[hook] = self.trainer

    def prepare_data(self):
        self.note("prepare_data")

    def setup(self, stage):
        self.note("setup")
        super().setup(stage)

    def train_dataloader(self):
        self.note("train_dataloader")
        return super().train_dataloader()

    def on_after_batch_transfer(self, batch, dataloader_idx):
        self.note("on_after_batch_transfer")
        return super().on_after_batch_transfer(batch, dataloader_idx)

    def teardown(self, stage):
        self.note("teardown")


@pytest.mark.parametrize("framework", ["lightning", "ignite", "reference"])
def test_datamodule_sees_the_trainer_of_lightning_while_it_is_used(framework):
    data, trainer = AskingModule(), make(framework)
    trainer.fit(spec(), data)
    hooks = {"prepare_data", "setup", "train_dataloader", "on_after_batch_transfer", "teardown"}
    expected = trainer.native if framework == "lightning" else None
    assert data.seen == dict.fromkeys(hooks, expected)
    assert data.trainer is None
    data.seen.clear()
    trainer.validate(spec(), data)
    assert data.seen["setup"] is (trainer.native if framework == "lightning" else None)
    assert data.trainer is None


def test_datamodule_is_free_of_the_trainer_after_an_error():
    data, trainer = AskingModule(), make("lightning")
    trainer.on(Event.BATCH_END, lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        trainer.fit(spec(), data)
    assert data.seen["teardown"] is trainer.native
    assert data.trainer is None
