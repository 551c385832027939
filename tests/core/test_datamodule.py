"""An object in the shape of a LightningDataModule, with no Lightning in sight."""

from __future__ import annotations

import pytest
import torch

from unitrain import DataError, Event


class Module:
    """Shaped like a LightningDataModule, without Lightning."""

    def __init__(self, batches):
        self.batches = batches
        self.calls = []

    def prepare_data(self):
        self.calls.append("prepare_data")

    def setup(self, stage):
        self.calls.append(f"setup {stage}")

    def teardown(self, stage):
        self.calls.append(f"teardown {stage}")

    def train_dataloader(self):
        return self.batches

    def predict_dataloader(self):
        return self.batches[:2]

    def on_after_batch_transfer(self, batch, dataloader_idx):
        return batch[0] * 0, batch[1]


def test_object_in_the_shape_of_a_datamodule_is_opened_and_closed(make_trainer, make_spec, make_batches):
    data = Module(make_batches(3))
    assert make_trainer().fit(make_spec(), data).step == 6
    assert data.calls == ["prepare_data", "setup fit", "teardown fit"]
    assert len(make_trainer().predict(make_spec(), data)) == 2
    assert data.calls[3:] == ["prepare_data", "setup predict", "teardown predict"]


def test_datamodule_s_own_transfer_hook_is_called(make_trainer, make_spec, make_batches):
    spec = make_spec()
    weight = spec.model.weight.detach().clone()
    make_trainer().fit(spec, Module(make_batches()))
    assert torch.equal(spec.model.weight, weight)  # an input of zeros has no gradient
    assert not torch.equal(spec.model.bias, torch.zeros(1))


def test_datamodule_is_closed_after_an_error(make_trainer, make_spec, make_batches):
    data = Module(make_batches())
    trainer = make_trainer()
    trainer.on(Event.BATCH_END, lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        trainer.fit(make_spec(), data)
    assert data.calls[-1] == "teardown fit"


def test_datamodule_without_the_stage_is_refused(make_trainer, make_spec, make_batches):
    with pytest.raises(DataError, match=r"no test data[\s\S]*Hint:"):
        make_trainer().test(make_spec(), Module(make_batches()))
