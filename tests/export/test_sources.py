"""Where the weights are from: the run, a checkpoint of any form, the moving average; of a framework's own code too."""

import hashlib
from functools import partial

import pytest
import pytorch_lightning as pl
import torch
from ignite.engine import Engine
from torch import nn
from torch.utils.data import DataLoader

from tests.export.models import loss_of, made, trained
from unitrain import EMA, ConfigError, Event, ExportError, ModelCheckpoint, TrainSpec, UnifiedTrainer
from unitrain.export.formats.table import find_format
from unitrain.export.sources import by_the_first, checksum


@pytest.fixture(scope="module", params=["lightning", "ignite"])
def averaged(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("ema")
    callbacks = [EMA(0.5), ModelCheckpoint(folder / "kept", save_last=True)]
    trainer, path = trained("mlp", request.param, folder, callbacks=callbacks)
    return trainer, path, callbacks[0]


def computed(path, rows):
    return find_format("torch_export").load(path)(rows)


def test_the_average_is_exported_and_the_weights_stay(averaged, tmp_path):
    trainer, path, ema = averaged
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    rows = torch.randn(4, 5)
    of_run = trainer.export(tmp_path / "run.pt2", weights="ema")
    of_file = trainer.export(tmp_path / "file.pt2", weights="ema", ckpt_path=path)
    plain = trainer.export(tmp_path / "plain.pt2")

    assert all(torch.equal(before[name], value) for name, value in trainer.model.state_dict().items())
    assert of_run.metadata["weights"] == of_file.metadata["weights"] == "ema"
    with torch.no_grad():
        own = trainer.model.eval()(rows)
        ema.copy_to(trainer.model)
        expected = trainer.model(rows)
        trainer.model.load_state_dict(before)
    assert torch.equal(computed(of_run.path, rows), expected)
    assert torch.equal(computed(of_file.path, rows), expected)
    assert torch.equal(computed(plain.path, rows), own)
    assert not torch.equal(own, expected)


def test_the_checksum_is_that_of_the_checkpoint(averaged, tmp_path):
    trainer, path, _ = averaged
    report = trainer.export(tmp_path / "x.safetensors", ckpt_path=path)
    assert report.metadata["checkpoint_sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()


def test_last_means_what_it_means_to_fit(averaged, tmp_path):
    report = averaged[0].export(tmp_path / "x.safetensors", ckpt_path="last")
    assert report.metadata["checkpoint_sha256"] is not None


def test_an_average_that_is_not_there_is_refused(runs, tmp_path):
    trainer, path = runs("mlp", "ignite")
    for options in ({}, {"ckpt_path": path}):
        with pytest.raises(ExportError, match=r"(?s)no moving average.*EMA\(\)"):
            trainer.export(tmp_path / "x.pt2", weights="ema", **options)
    with pytest.raises(ExportError, match="did you mean 'ema'"):
        trainer.export(tmp_path / "x.pt2", weights="em")
    with pytest.raises(ConfigError, match="wrote no such checkpoint"):
        trainer.export(tmp_path / "x.pt2", ckpt_path="best")


def test_a_folder_with_a_file_a_process_is_a_checkpoint_too(runs, tmp_path):
    trainer, path = runs("mlp", "ignite")
    trainer.save_checkpoint(tmp_path / "parts", sharded=True)
    one = trainer.export(tmp_path / "x.safetensors", ckpt_path=tmp_path / "parts")
    assert one.metadata["checkpoint_sha256"] == checksum(tmp_path / "parts")
    other = trainer.export(tmp_path / "y.safetensors", ckpt_path=path)
    assert (one.path.stat().st_size, one.differences) == (other.path.stat().st_size, other.differences)


class Lit(pl.LightningModule):
    """As people write them."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 3))
        self.example_input_array = torch.randn(1, 4)

    def forward(self, x):
        return self.net(x).softmax(-1)

    def training_step(self, batch, _):
        return nn.functional.cross_entropy(self.net(batch[0]), batch[1])

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def rows():
    return DataLoader(list(zip(torch.randn(8, 4), torch.randint(0, 3, (8,)), strict=True)), batch_size=4)


@pytest.mark.parametrize("backend", ["lightning", "ignite"])
def test_a_lightning_module_is_exported_by_its_forward_with_its_own_example(backend, tmp_path, monkeypatch):
    torch.manual_seed(0)
    module = Lit()
    monkeypatch.chdir(tmp_path)  # Lightning logs there
    options = {"max_epochs": 1, "accelerator": "cpu", "enable_progress_bar": False, "log_every_n_steps": 1}
    trainer = UnifiedTrainer(backend, **options)
    trainer.fit(module, rows())
    report = trainer.export(tmp_path / "x.pt2")
    given = computed(report.path, torch.ones(5, 4))
    assert torch.equal(given, module.eval()(torch.ones(5, 4)))
    assert torch.allclose(given.sum(-1), torch.ones(5))
    path = tmp_path / "lit.ckpt"
    trainer.save_checkpoint(path)
    again = trainer.export(tmp_path / "y.pt2", ckpt_path=path)
    assert torch.equal(computed(again.path, torch.ones(5, 4)), given)
    with pytest.raises(ExportError, match="no moving average"):
        trainer.export(tmp_path / "z.pt2", weights="ema")


def test_an_ignite_program_says_what_to_do(tmp_path):
    engine = Engine(lambda engine, batch: None)
    trainer = UnifiedTrainer("ignite", max_epochs=1, accelerator="cpu", enable_progress_bar=False)
    trainer.fit(engine, [1, 2])
    with pytest.raises(ExportError, match=r"(?s)an Ignite program.*unitrain.export_module\(model"):
        trainer.export(tmp_path / "x.pt2", example_input=torch.ones(2, 4))


def test_an_export_in_the_midst_of_a_run_changes_nothing_of_it(tmp_path):
    with_export = _trained(lambda trainer: trainer.export(tmp_path / "x.pt2", example_input=torch.ones(1, 5)))
    without = _trained(lambda _: None)
    assert all(torch.equal(one, other) for one, other in zip(with_export, without, strict=True))
    assert (tmp_path / "x.pt2").exists()


def _trained(act):
    """Return the weights after two epochs with ``act(trainer)`` at the end of each batch."""
    model, _ = made("mlp")
    trainer = UnifiedTrainer("ignite", max_epochs=2, seed=1, accelerator="cpu", enable_progress_bar=False)
    trainer.on(Event.BATCH_END, lambda: act(trainer))
    optimizer = partial(torch.optim.SGD, lr=0.1)
    data = [(torch.randn(8, 5), torch.randint(0, 3, (8,))) for _ in range(2)]
    trainer.fit(TrainSpec(model=model, loss=loss_of, optimizer=optimizer), data)
    return list(model.state_dict().values())


class Two:
    """Two processes in turn: what the first gives is what all get."""

    def __init__(self):
        self.rank, self.given = 0, []

    def all_gather_object(self, value):
        self.given.append(value)
        return self.given


def test_of_several_processes_each_knows_why_the_first_failed():
    def fail():
        raise OSError("the disk is full")

    team = Two()
    with pytest.raises(OSError, match="the disk is full"):
        by_the_first(team, fail)
    team.rank = 1
    with pytest.raises(ExportError, match="rank 0 could not export: the disk is full"):
        by_the_first(team, fail)
