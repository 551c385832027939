"""Regression with ReduceLROnPlateau and early stopping."""

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import LearningRateMonitor
from pytorch_lightning.callbacks.early_stopping import EarlyStopping
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Regressor(pl.LightningModule):
    def __init__(self, learning_rate=0.1):
        super().__init__()
        self.save_hyperparameters()
        self.layers = nn.Sequential(nn.Linear(3, 16), nn.SiLU(), nn.Linear(16, 1))
        self.loss = nn.SmoothL1Loss()

    def forward(self, x):
        return self.layers(x).squeeze(1)

    def training_step(self, batch, batch_idx):
        x, y = batch
        loss = self.loss(self(x), y)
        self.log("loss", loss)
        return loss

    def validation_step(self, batch, batch_idx):
        x, y = batch
        self.log("val_loss", self.loss(self(x), y), on_epoch=True, sync_dist=True)
        self.log("lr", self.optimizers().param_groups[0]["lr"], prog_bar=True)

    def configure_optimizers(self):
        optimizer = torch.optim.Adam(self.parameters(), lr=self.hparams.learning_rate)
        return {
            "optimizer": optimizer,
            "lr_scheduler": torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=0),
            "monitor": "val_loss",
        }


def main():
    pl.seed_everything(4)
    x = torch.rand(130, 3) * 2 - 1
    y = torch.sin(3 * x[:, 0]) + x[:, 1] * x[:, 2] + 0.05 * torch.randn(130)
    train = DataLoader(TensorDataset(x[:100], y[:100]), batch_size=20, shuffle=True)
    val = DataLoader(TensorDataset(x[100:], y[100:]), batch_size=20)
    model = Regressor()
    stop = EarlyStopping("val_loss", patience=3, mode="min")
    trainer = pl.Trainer(
        max_epochs=10,
        callbacks=[stop, LearningRateMonitor()],
        accelerator="cpu",
        enable_progress_bar=False,
        log_every_n_steps=5,
    )
    trainer.fit(model, train, val)
    print("epochs", trainer.current_epoch, "lr", trainer.optimizers[0].param_groups[0]["lr"])
    print("best", stop.best_score.item(), "waited", stop.wait_count)
    print(trainer.validate(model, val))


if __name__ == "__main__":
    main()
