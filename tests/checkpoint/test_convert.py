"""A portable checkpoint in the forms of others, read by the others themselves."""

from __future__ import annotations

import os
from functools import partial

import pytest
import pytorch_lightning as pl
import torch
from ignite.engine import Engine
from ignite.handlers import Checkpoint
from safetensors.torch import load_model, save_file
from torch import nn
from torch.optim.lr_scheduler import StepLR

from unitrain import CheckpointError, ConfigError, Event, TrainSpec, UnifiedTrainer, convert_checkpoint, load_weights
from unitrain.checkpoint import io
from unitrain.testing import cases
from unitrain.testing.models import Tied, loader, tensors
from unitrain.testing.trace import differences

FRAMEWORKS = ["reference", "lightning", "ignite"]
QUIET = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
sgd = partial(torch.optim.SGD, lr=0.05, momentum=0.9)
step_lr = partial(StepLR, step_size=1, gamma=0.5)


def net():
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(36, 12), nn.Tanh(), nn.Linear(12, 5))


def data():
    return torch.utils.data.DataLoader(torch.utils.data.TensorDataset(*tensors()), batch_size=4)


def written(framework, path, after=12, model=None, **options):
    """Train three epochs of six batches, with a checkpoint after ``after`` of them."""
    spec = TrainSpec(model=model or net(), loss=nn.CrossEntropyLoss(), optimizer=sgd, lr_scheduler=step_lr)
    trainer = UnifiedTrainer(framework, max_epochs=3, enable_progress_bar=False, **options)
    trainer.on(Event.BATCH_END(once=after), lambda run: run.save_checkpoint(path))
    trainer.fit(spec, data())
    return spec


def plain_ignite():
    """Return a hand-written Ignite training, as its documentation has it."""
    model = net()
    optimizer = sgd(model.parameters())
    schedule = step_lr(optimizer)

    def update(engine, batch):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(batch[0]), batch[1]).backward()
        optimizer.step()
        if engine.state.iteration % engine.state.epoch_length == 0:
            schedule.step()

    return {"model": model, "optimizer": optimizer, "lr_scheduler": schedule, "trainer": Engine(update)}


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_plain_ignite_goes_on_to_the_same_bits(framework, tmp_path):
    whole = written(framework, tmp_path / "run.ckpt")
    left = convert_checkpoint(tmp_path / "run.ckpt", tmp_path / "ignite.pt", to="ignite")
    assert left == ["the states of the random number generators"]
    objects = plain_ignite()
    Checkpoint.load_objects(to_load=objects, checkpoint=torch.load(tmp_path / "ignite.pt", weights_only=True))
    engine = objects["trainer"]
    assert (engine.state.iteration, engine.state.epoch, engine.state.max_epochs) == (12, 2, 3)
    engine.run(data())
    assert engine.state.iteration == 18
    assert not differences(dict(whole.model.state_dict()), dict(objects["model"].state_dict()))


def test_several_optimizers_and_the_scaler_keep_their_names(tmp_path):
    trainer = UnifiedTrainer("ignite", max_epochs=1, precision="16-mixed", enable_progress_bar=False)
    trainer.fit(cases.adversarial(), loader())
    trainer.save_checkpoint(tmp_path / "run.ckpt")
    convert_checkpoint(tmp_path / "run.ckpt", tmp_path / "ignite.pt", to="ignite")
    content = torch.load(tmp_path / "ignite.pt", weights_only=True)
    assert {"model", "gen", "disc", "scaler", "trainer"} <= set(content)
    convert_checkpoint(tmp_path / "run.ckpt", tmp_path / "lightning.ckpt", to="lightning")
    assert not differences(io.read(tmp_path / "lightning.ckpt")["MixedPrecision"], content["scaler"])


def test_what_mid_epoch_loses_is_said(tmp_path):
    written("ignite", tmp_path / "run.ckpt", after=8, accumulate_grad_batches=3)
    with pytest.warns(UserWarning, match="the position in the epoch's data, .*, the pending gradients"):
        convert_checkpoint(tmp_path / "run.ckpt", tmp_path / "ignite.pt", to="ignite")
    trainer = torch.load(tmp_path / "ignite.pt", weights_only=True)["trainer"]
    assert trainer == {"epoch_length": 6, "iteration": 8, "max_epochs": 3}


class Plain(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.model = net()

    def training_step(self, batch, batch_idx):
        return nn.functional.cross_entropy(self.model(batch[0]), batch[1])

    def configure_optimizers(self):
        optimizer = sgd(self.model.parameters())
        return [optimizer], [step_lr(optimizer)]


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_plain_lightning_goes_on_to_the_same_bits(framework, tmp_path):
    whole = written(framework, tmp_path / "run.ckpt")
    convert_checkpoint(tmp_path / "run.ckpt", tmp_path / "pl.ckpt", to="lightning")
    assert "unitrain" not in io.read(tmp_path / "pl.ckpt")
    rest = Plain()
    pl.Trainer(max_epochs=3, **QUIET).fit(rest, data(), ckpt_path=tmp_path / "pl.ckpt", weights_only=True)
    assert not differences(dict(whole.model.state_dict()), dict(rest.model.state_dict()))


@pytest.mark.parametrize("model", [net, Tied])
def test_safetensors_both_ways(model, tmp_path):
    spec = written("ignite", tmp_path / "run.ckpt", after=18, model=model())
    convert_checkpoint(tmp_path / "run.ckpt", tmp_path / "w.safetensors", to="safetensors")
    weights = load_weights(tmp_path / "w.safetensors")
    assert not differences(dict(spec.model.state_dict()), weights)
    fresh, theirs = model(), model()
    fresh.load_state_dict(weights)
    assert not differences(dict(spec.model.state_dict()), dict(fresh.state_dict()))
    load_model(theirs, tmp_path / "w.safetensors")
    assert not differences(dict(spec.model.state_dict()), dict(theirs.state_dict()))


def test_tied_weights_stay_one_tensor(tmp_path):
    written("reference", tmp_path / "run.ckpt", model=Tied())
    convert_checkpoint(tmp_path / "run.ckpt", tmp_path / "w.safetensors", to="safetensors")
    weights = load_weights(tmp_path / "w.safetensors")
    assert weights["encode.weight"] is weights["decode.weight"]


def test_memory_shared_in_part_and_odd_strides_survive(tmp_path):
    base = torch.arange(12.0).view(3, 4)
    state = {"a": base[:2], "b": base[1:], "t": base.t(), "empty": torch.zeros(0), "none": torch.zeros(0)}
    io.write(tmp_path / "a.ckpt", {"state_dict": state})
    convert_checkpoint(tmp_path / "a.ckpt", tmp_path / "w.safetensors", to="safetensors")
    assert not differences(state, load_weights(tmp_path / "w.safetensors"))


def test_a_file_of_plain_lightning_gives_its_weights(tmp_path):
    trainer, module = pl.Trainer(max_epochs=1, **QUIET), Plain()
    trainer.fit(module, data())
    trainer.save_checkpoint(tmp_path / "pl.ckpt")
    with pytest.raises(CheckpointError, match="all names start with 'model'"):
        convert_checkpoint(tmp_path / "pl.ckpt", tmp_path / "w.safetensors", to="safetensors")
    for known in ({"part": "model"}, {"template": net()}):
        convert_checkpoint(tmp_path / "pl.ckpt", tmp_path / "w.safetensors", to="safetensors", overwrite=True, **known)
        assert not differences(dict(module.model.state_dict()), load_weights(tmp_path / "w.safetensors"))


def test_others_safetensors_are_read(tmp_path):
    state = dict(net().state_dict())
    save_file(state, tmp_path / "w.safetensors", metadata={"format": "pt"})
    assert not differences(state, load_weights(tmp_path / "w.safetensors"))


def test_refusals(tmp_path):
    path, target = tmp_path / "run.ckpt", tmp_path / "x"
    written("reference", path)
    for bad, message in (
        (partial(convert_checkpoint, path, target, to="ignit"), "did you mean 'ignite'"),
        (partial(convert_checkpoint, path, tmp_path / "." / "run.ckpt", to="ignite"), "own source"),
    ):
        with pytest.raises(ConfigError, match=message):
            bad()
    for to in ("lightning", "ignite", "safetensors"):
        with pytest.raises(CheckpointError, match="does not exist"):
            convert_checkpoint(tmp_path / "none.ckpt", target, to=to)
    (tmp_path / "bad.safetensors").write_bytes(b"nonsense")
    with pytest.raises(CheckpointError, match="damaged"):
        load_weights(tmp_path / "bad.safetensors")
    with pytest.raises(CheckpointError, match="damaged"):
        convert_checkpoint(tmp_path / "bad.safetensors", target, to="ignite")
    io.write(tmp_path / "extra.ckpt", {"state_dict": {"_extra_state": {"a": 1}, "weight": torch.ones(1)}})
    with pytest.raises(CheckpointError, match="can only contain tensors"):
        convert_checkpoint(tmp_path / "extra.ckpt", target, to="safetensors")
    assert not target.exists()
    assert not list(tmp_path.glob(".*.part"))


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    written("reference", tmp_path / "run.ckpt")
    (tmp_path / "old").write_text("old")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    for to in ("lightning", "ignite", "safetensors"):
        with pytest.raises(CheckpointError, match="could not be written"):
            convert_checkpoint(tmp_path / "run.ckpt", tmp_path / "old", to=to, overwrite=True)
    assert (tmp_path / "old").read_text() == "old"
    assert not list(tmp_path.glob(".*.part"))
