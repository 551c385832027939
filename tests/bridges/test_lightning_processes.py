"""LightningCLI as users start it, in processes of their own: a script under `unitrain run`, a file under `unitrain fit`."""

from __future__ import annotations

import re
import subprocess
import sys
from types import SimpleNamespace

import pytest
import yaml

from tests.bridges.written import everything

MODULE = """
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, TensorDataset


class Net(pl.LightningModule):
    def __init__(self, width: int = 8, lr: float = 0.1):
        super().__init__()
        self.save_hyperparameters()
        self.net = torch.nn.Sequential(torch.nn.Linear(4, width), torch.nn.Dropout(0.1), torch.nn.Linear(width, 1))

    def training_step(self, batch, batch_idx):
        loss = (self.net(batch[0]) - batch[1]).pow(2).mean()
        self.log("train_loss", loss, on_step=True, on_epoch=True)
        return loss

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", (self.net(batch[0]) - batch[1]).pow(2).mean())

    test_step = validation_step

    def predict_step(self, batch, batch_idx):
        return self.net(batch[0])

    def on_fit_end(self):
        print("SUM", sum(one.double().sum().item() for one in self.parameters()).hex())

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=self.hparams.lr)


class Data(pl.LightningDataModule):
    def __init__(self, batch_size: int = 4):
        super().__init__()
        self.size = batch_size

    def _loader(self, shuffle=False):
        draw = torch.Generator().manual_seed(0)
        data = TensorDataset(torch.randn(20, 4, generator=draw), torch.randn(20, 1, generator=draw))
        return DataLoader(data, batch_size=self.size, shuffle=shuffle)

    def train_dataloader(self):
        return self._loader(shuffle=True)

    def val_dataloader(self):
        return self._loader()

    test_dataloader = predict_dataloader = val_dataloader
"""
SCRIPT = """
from pytorch_lightning.cli import LightningCLI

import parts


class CLI(LightningCLI):
    def add_arguments_to_parser(self, parser):
        parser.add_argument("--note", default="none")

    def after_fit(self):
        print("NOTE", self.config.fit.note, self.trainer.global_step)


if __name__ == "__main__":
    CLI(parts.Net, parts.Data)
"""
FILE = {
    "seed_everything": 5,
    "trainer": {
        "max_epochs": 2,
        "accelerator": "cpu",
        "log_every_n_steps": 2,
        "logger": {"class_path": "CSVLogger", "init_args": {"save_dir": "."}},
        "callbacks": [{"class_path": "LearningRateMonitor"}],
    },
    "model": {"width": 6},
    "data": {"batch_size": 5},
    "optimizer": {"class_path": "torch.optim.AdamW", "init_args": {"lr": 0.02}},
    "lr_scheduler": {"class_path": "torch.optim.lr_scheduler.StepLR", "init_args": {"step_size": 1}},
}
UNITRAIN = [sys.executable, "-m", "unitrain"]
BY_CLASS = ["--model", "parts.Net", "--data", "parts.Data"]
SAID = re.compile(r"^(SUM|NOTE).*$", re.MULTILINE)
VALUES = re.compile(r"val_loss\W+([\d.]+)")


@pytest.fixture
def project(tmp_path):
    """Return a function that runs a command in a folder with the script, and tells what came of it."""
    folders = iter("abcdefgh")

    def run(*command):
        folder = tmp_path / next(folders)
        folder.mkdir()
        (folder / "parts.py").write_text(MODULE)
        (folder / "train.py").write_text(SCRIPT)
        (folder / "run.yaml").write_text(yaml.safe_dump(FILE))
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=250)
        assert done.returncode == 0, done.stdout + done.stderr
        files = {name: one for name, one in everything(folder).items() if not re.search(r"run\.json|\.pyc", name)}
        values = VALUES.findall(done.stdout)
        return SimpleNamespace(said=[one[0] for one in SAID.finditer(done.stdout)], values=values, files=files)

    return run


@pytest.mark.slow
def test_a_script(project):
    arguments = ["fit", "--config", "run.yaml", "--note", "mine"]
    wanted = project(sys.executable, "train.py", *arguments)
    assert [one.partition(" ")[0] for one in wanted.said] == ["SUM", "NOTE"]
    assert {"lightning_logs/version_0/config.yaml", "lightning_logs/version_0/metrics.csv"} <= wanted.files.keys()
    assert project(*UNITRAIN, "run", "train.py", "--framework", "ignite", "--", *arguments) == wanted


@pytest.mark.slow
def test_the_test_of_a_script(project):
    wanted = project(sys.executable, "train.py", "test", "--config", "run.yaml")
    assert wanted.values
    assert (
        project(*UNITRAIN, "run", "train.py", "--framework", "ignite", "--", "test", "--config", "run.yaml") == wanted
    )


@pytest.mark.slow
def test_a_file(project):
    """The file of the script, without it: the same weights and files, but for the script's own argument."""
    wanted = project(sys.executable, "train.py", "fit", "--config", "run.yaml")
    name = "lightning_logs/version_0/config.yaml"
    for framework in ("ignite", "lightning"):
        got = project(*UNITRAIN, "fit", "--config", "run.yaml", "--framework", framework, *BY_CLASS)
        assert got.said == [one for one in wanted.said if not one.startswith("NOTE")]
        assert got.files.pop(name) == wanted.files[name].replace("note: none\n", "")
        assert got.files == {one: contents for one, contents in wanted.files.items() if one != name}
