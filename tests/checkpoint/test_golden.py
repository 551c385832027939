"""Files that real old versions wrote: what they are turned into goes on to the very weights that the old ones reached.

``golden/make_golden.py`` made them, and noted in ``golden/reached.json`` where the framework that wrote a file came to
when it went on from it by itself.
"""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from ignite.engine import Engine, Events
from ignite.handlers import Checkpoint
from torch import nn

from tests.checkpoint.golden.make_golden import BATCHES, EPOCHS, adam, data, net, step_lr
from unitrain import TrainSpec, UnifiedTrainer, convert_checkpoint, load_weights
from unitrain.checkpoint import io
from unitrain.testing.trace import differences

GOLDEN = Path(__file__).parent / "golden"
REACHED = json.loads((GOLDEN / "reached.json").read_text())
WHOLE = sorted(name for name, facts in REACHED.items() if not facts["variant"])
LIGHTNING = [name for name in WHOLE if name.startswith("lightning")]
IGNITE = [name for name in WHOLE if name.startswith("ignite")]
FRAMEWORKS = ["reference", "lightning", "ignite"]
QUIET = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}


def spec():
    return TrainSpec(
        model=net(), loss=nn.CrossEntropyLoss(), optimizer=partial(torch.optim.Adam, lr=0.05), lr_scheduler=step_lr
    )


def reached(name):
    return {key: torch.tensor(value) for key, value in REACHED[name]["weights"].items()}


def gone_on(framework, path, **options):
    """Return the weights after a fit from ``path``."""
    trained = spec()
    trainer = UnifiedTrainer(framework, max_epochs=EPOCHS, enable_progress_bar=False, **options)
    result = trainer.fit(trained, data(), ckpt_path=path)
    return dict(trained.model.state_dict()), result


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("name", WHOLE)
def test_a_portable_file_goes_on_as_the_old_framework_did(name, framework, tmp_path):
    left = convert_checkpoint(GOLDEN / name, tmp_path / "run.ckpt", to="portable", template=spec())
    weights, result = gone_on(framework, tmp_path / "run.ckpt")
    assert not differences(reached(name), weights)
    assert (result.epoch, result.step) == (EPOCHS - 1, EPOCHS * BATCHES)
    assert any(line.startswith("the states of the random number generators") for line in left)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_accumulation_is_counted_in_batches(framework, tmp_path):
    name = "lightning-2.0.9-accumulated.ckpt"
    convert_checkpoint(GOLDEN / name, tmp_path / "run.ckpt", to="portable", template=spec())
    weights, result = gone_on(framework, tmp_path / "run.ckpt", accumulate_grad_batches=2)
    assert not differences(reached(name), weights)
    assert result.step == EPOCHS * 2
    convert_checkpoint(GOLDEN / name, tmp_path / "ignite.pt", to="ignite", template=spec())
    assert io.read(tmp_path / "ignite.pt")["trainer"]["iteration"] == 2 * BATCHES


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_from_the_midst_of_an_epoch_a_file_goes_on_after_the_last_batch(framework, tmp_path):
    """As if nothing had happened; Lightning itself begins the epoch's data anew, and comes elsewhere."""
    name = "lightning-2.5.6-midway.ckpt"
    left = convert_checkpoint(GOLDEN / name, tmp_path / "run.ckpt", to="portable", template=spec())
    weights, _ = gone_on(framework, tmp_path / "run.ckpt")
    assert not differences(reached("lightning-2.5.6.ckpt"), weights)
    assert differences(reached(name), weights)
    assert any("1 batches of a new order" in line for line in left)


def plain_ignite():
    model = net()
    optimizer = adam(model.parameters())
    schedule = step_lr(optimizer)

    def update(engine, batch):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(batch[0]), batch[1]).backward()
        optimizer.step()

    engine = Engine(update)
    engine.add_event_handler(Events.EPOCH_COMPLETED, lambda: schedule.step())  # noqa: PLW0108 - it takes no engine
    return {"model": model, "optimizer": optimizer, "lr_scheduler": schedule, "trainer": engine}


@pytest.mark.parametrize("name", LIGHTNING)
def test_plain_ignite_goes_on_with_lightnings_file(name, tmp_path):
    convert_checkpoint(GOLDEN / name, tmp_path / "ignite.pt", to="ignite", template=spec())
    objects = plain_ignite()
    Checkpoint.load_objects(to_load=objects, checkpoint=torch.load(tmp_path / "ignite.pt", weights_only=True))
    engine = objects["trainer"]
    assert engine.state.iteration == 2 * BATCHES
    engine.run(data(), max_epochs=EPOCHS)
    assert engine.state.iteration == EPOCHS * BATCHES
    assert not differences(reached(name), dict(objects["model"].state_dict()))


class Module(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.classifier = net()

    def training_step(self, batch, batch_idx):
        return nn.functional.cross_entropy(self.classifier(batch[0]), batch[1])

    def configure_optimizers(self):
        optimizer = adam(self.classifier.parameters())
        return [optimizer], [step_lr(optimizer)]


class Old(Module):
    """The module that wrote Lightning's files."""

    def __init__(self):
        super().__init__()
        self.net = self.classifier
        del self.classifier
        self.register_buffer("seen", torch.zeros(()))

    @property
    def classifier(self):
        return self.net

    @classifier.deleter
    def classifier(self):
        del self._modules["classifier"]


def fitted(module, path):
    trainer = pl.Trainer(max_epochs=EPOCHS, accelerator="cpu", **QUIET)
    trainer.fit(module, data(), ckpt_path=path, weights_only=True)
    assert trainer.global_step == EPOCHS * BATCHES
    return dict(module.classifier.state_dict())


@pytest.mark.parametrize("name", IGNITE)
def test_plain_lightning_goes_on_with_ignites_file(name, tmp_path):
    convert_checkpoint(GOLDEN / name, tmp_path / "pl.ckpt", to="lightning", template=Module())
    assert not differences(reached(name), fitted(Module(), tmp_path / "pl.ckpt"))


@pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`, callbacks")
@pytest.mark.parametrize("name", ["lightning-1.2.10.ckpt", "lightning-1.9.5.ckpt", "lightning-2.0.9.ckpt"])
def test_an_old_file_of_lightnings_is_brought_up_to_date(name, tmp_path):
    left = convert_checkpoint(GOLDEN / name, tmp_path / "pl.ckpt", to="lightning")
    assert any("dirpath" in line for line in left)
    assert torch.serialization.get_unsafe_globals_in_checkpoint(tmp_path / "pl.ckpt") == []
    assert not differences(reached(name), fitted(Old(), tmp_path / "pl.ckpt"))


@pytest.mark.parametrize("name", sorted(path.name for path in GOLDEN.glob("*.*t")))
def test_each_file_gives_its_weights(name, tmp_path):
    convert_checkpoint(GOLDEN / name, tmp_path / "w.safetensors", to="safetensors", template=net())
    weights = load_weights(tmp_path / "w.safetensors")
    model = net()
    model.load_state_dict(weights)
    assert differences(dict(net().state_dict()), dict(model.state_dict())), "it was trained"


def test_each_file_is_small_and_noted():
    files = {path.name for path in GOLDEN.glob("*.*t")}
    assert {name for name in files if "bare" not in name} == set(REACHED)
    assert all((GOLDEN / name).stat().st_size < 20_000 for name in files)


def swapped(path, first, second):
    """Write Ignite's file anew with the states of two parameters swapped."""
    content = torch.load(GOLDEN / "ignite-0.5.2.pt", weights_only=True)
    states = content["optimizer"]["state"]
    states[first], states[second] = states[second], states[first]
    torch.save(content, path)


def test_a_lost_state_of_the_optimizer_shows(tmp_path):
    """The comparison above can fail: one number that is a thousandth off leads elsewhere."""
    content = torch.load(GOLDEN / "ignite-0.5.2.pt", weights_only=True)
    moment = content["optimizer"]["state"][0]["exp_avg"]
    moment[0, 0] *= 1.001
    torch.save(content, tmp_path / "other.pt")
    convert_checkpoint(tmp_path / "other.pt", tmp_path / "run.ckpt", to="portable", template=spec())
    assert differences(reached("ignite-0.5.2.pt"), gone_on("reference", tmp_path / "run.ckpt")[0])


def test_swapped_states_are_noticed(tmp_path):
    swapped(tmp_path / "other.pt", 0, 2)
    with pytest.raises(Exception, match="at position 0 it has"):
        convert_checkpoint(tmp_path / "other.pt", tmp_path / "run.ckpt", to="portable", template=spec())
