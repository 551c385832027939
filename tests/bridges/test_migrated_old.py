"""A script in the manner of Lightning 0.9 to 1.4: what the codemod makes of it does the same on both engines."""

import pytest
import pytorch_lightning  # noqa: F401 - what importing it draws is no part of a run

from tests.bridges.running import natively
from tests.bridges.trace import difference, unproved
from unitrain import cli

CHANGES = 1
OLD = """
import argparse

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import EarlyStopping, ModelCheckpoint
from torch.utils.data import DataLoader, TensorDataset


class Base(pl.LightningModule):
    def __init__(self, hparams):
        super().__init__()
        self.hparams = hparams
        self.layer = torch.nn.Linear(3, 1)

    def training_step(self, batch, batch_idx):
        loss = (self.layer(batch[0]) - batch[1]).square().mean()
        return {"loss": loss, "log": {"train_loss": loss}}

    def training_epoch_end(self, outputs):
        print("train", torch.stack([one["loss"] for one in outputs]).mean().item())

    def validation_step(self, batch, batch_idx):
        loss = (self.layer(batch[0]) - batch[1]).square().mean()
        self.log("val_loss", loss)
        return loss

    def validation_epoch_end(self, outputs):
        print("val", len(outputs))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=self.hparams.lr)


class Model(Base):
    def on_train_epoch_start(self):
        print("epoch", self.current_epoch)


parser = argparse.ArgumentParser()
parser.add_argument("--lr", type=float, default=0.1)
parser = pl.Trainer.add_argparse_args(parser)
parser.set_defaults(max_epochs=3)
args = parser.parse_args()
keep = ModelCheckpoint(filepath="kept/{epoch}-{val_loss:.2f}", monitor="val_loss", mode="auto", period=1)
stop = EarlyStopping("val_loss", mode="auto", patience=1)
trainer = pl.Trainer.from_argparse_args(
    args, checkpoint_callback=keep, early_stop_callback=stop, progress_bar_refresh_rate=0, weights_summary=None
)
x = torch.randn(24, 3)
data = TensorDataset(x, x.sum(1, keepdim=True))
trainer.fit(Model(args), DataLoader(data, 6, shuffle=True), DataLoader(data, 12))
print(keep.best_model_path != "", trainer.callback_metrics["val_loss"].item())
"""


@pytest.mark.slow
def test_an_old_script_becomes_one_that_does_the_same_on_both_engines(tmp_path, capsys):
    script = tmp_path / "old.py"
    traces = {}
    for framework in ("lightning", "ignite"):
        script.write_text(OLD)
        assert cli.main(["migrate", str(script), "--to", framework, "--write"]) == CHANGES, capsys.readouterr().out
        traces[framework] = natively(script)
        (tmp_path / "old.py.orig").unlink()
    wanted, got = traces.values()
    assert wanted.error is None
    assert len(wanted.steps) == 12
    assert not difference(wanted, got)
    assert not unproved(got, "ignite", wanted)
