"""`unitrain migrate --write` on each script: what it makes trains on each backend with the trace of the original."""

import warnings

import pytest
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from tests.bridges.running import BACKENDS, PATHS, natively
from tests.bridges.test_scripts import name
from tests.bridges.trace import difference, unproved
from unitrain import UnifiedTrainer, cli

CHANGES, NOTHING = 1, 0
FAST = {"lightning-mlp_classifier-to-ignite", "ignite-mlp_classifier-to-lightning"}


def tiered(path, backend):
    label = f"{name(path)}-to-{backend}"
    return pytest.param(path, backend, id=label, marks=() if label in FAST else pytest.mark.slow)


@pytest.mark.parametrize(("path", "backend"), [tiered(path, one) for path in PATHS for one in BACKENDS])
def test_a_migrated_script_does_the_same(path, backend, native, tmp_path, capsys):
    copy = tmp_path / path.name
    copy.write_text(path.read_text())
    assert cli.main(["migrate", str(copy), "--to", backend, "--write"]) == CHANGES, capsys.readouterr().out
    made = copy.read_text()

    wanted, got = native(path), natively(copy)
    assert not difference(wanted, got)
    assert not unproved(got, backend, wanted)

    assert cli.main(["migrate", str(copy), "--to", backend, "--write"]) == NOTHING
    assert copy.read_text() == made
    assert (tmp_path / f"{path.name}.orig").read_text() == path.read_text()


@pytest.mark.parametrize("framework", BACKENDS)
def test_an_option_that_looks_like_its_default_reaches_a_module(framework, tmp_path, monkeypatch):
    # one batch is not 1.0 of them, and a folder of one's own is no default
    monkeypatch.chdir(tmp_path)
    module = Counting()
    options = {"max_epochs": 1, "limit_train_batches": 1, "enable_progress_bar": False}
    trainer = UnifiedTrainer(framework=framework, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer.fit(module, DataLoader(torch.ones(4, 1)))
    assert module.batches == 1
    assert trainer.foreign_trainer.default_root_dir == str(tmp_path)


class Counting(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer, self.batches = torch.nn.Linear(1, 1), 0

    def training_step(self, batch, batch_idx):
        self.batches += 1
        return self.layer(batch).mean()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)
