"""Train, stop, go on from the checkpoint, then load the best one for a test."""

import os

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class LitModel(pl.LightningModule):
    def __init__(self, hidden_dim=12, lr=0.02):
        super().__init__()
        self.save_hyperparameters()
        self.l1 = nn.Linear(4, hidden_dim)
        self.l2 = nn.Linear(hidden_dim, 1)
        self.seen = 0

    def forward(self, x):
        return self.l2(torch.tanh(self.l1(x)))

    def training_step(self, batch, batch_idx):
        x, y = batch
        self.seen += len(x)
        loss = nn.functional.mse_loss(self(x), y)
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch, batch_idx):
        x, y = batch
        self.log("val_loss", nn.functional.mse_loss(self(x), y))

    def test_step(self, batch, batch_idx):
        x, y = batch
        self.log("test_loss", nn.functional.mse_loss(self(x), y))

    def predict_step(self, batch, batch_idx):
        return self(batch[0])

    def on_save_checkpoint(self, checkpoint):
        checkpoint["seen"] = self.seen

    def on_load_checkpoint(self, checkpoint):
        self.seen = checkpoint["seen"]

    def configure_optimizers(self):
        optimizer = torch.optim.Adam(self.parameters(), lr=self.hparams.lr)
        scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.8)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "epoch"}}


def loaders():
    g = torch.Generator().manual_seed(2)
    x = torch.randn(120, 4, generator=g)
    y = x[:, :1] * x[:, 1:2] + 0.5 * x[:, 2:3]
    train = DataLoader(TensorDataset(x[:90], y[:90]), batch_size=30, shuffle=True)
    val = DataLoader(TensorDataset(x[90:], y[90:]), batch_size=30)
    return train, val


def make_trainer(max_epochs):
    checkpoint = ModelCheckpoint(dirpath="checkpoints", save_last=True, monitor="val_loss", filename="{epoch}")
    return pl.Trainer(
        max_epochs=max_epochs,
        callbacks=[checkpoint],
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


def main():
    pl.seed_everything(31)
    train, val = loaders()
    trainer = make_trainer(2)
    trainer.fit(LitModel(), train, val)
    print("first", trainer.current_epoch, trainer.global_step)

    last = os.path.join("checkpoints", "last.ckpt")
    model = LitModel()
    trainer = make_trainer(4)
    trainer.fit(model, train, val, ckpt_path=last)
    print("then", trainer.current_epoch, trainer.global_step, "seen", model.seen)

    print(trainer.test(ckpt_path="best", dataloaders=val, verbose=False))
    loaded = LitModel.load_from_checkpoint(trainer.checkpoint_callback.best_model_path, lr=0.5)
    print(loaded.hparams.lr, loaded.hparams.hidden_dim)
    predictions = trainer.predict(loaded, val)
    print(len(predictions), torch.cat(predictions).sum().item())


if __name__ == "__main__":
    main()
