"""Lightning's own callbacks: averaging, accumulation that changes, a summary, a timer, a writer of predictions."""

import os

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import (
    BasePredictionWriter,
    GradientAccumulationScheduler,
    LambdaCallback,
    ModelCheckpoint,
    ModelSummary,
    StochasticWeightAveraging,
    Timer,
)
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Writer(BasePredictionWriter):
    def __init__(self, output_dir, write_interval):
        super().__init__(write_interval)
        self.output_dir = output_dir

    def write_on_batch_end(self, trainer, pl_module, prediction, batch_indices, batch, batch_idx, dataloader_idx):
        os.makedirs(self.output_dir, exist_ok=True)
        torch.save(prediction, os.path.join(self.output_dir, f"{batch_idx}.pt"))

    def write_on_epoch_end(self, trainer, pl_module, predictions, batch_indices):
        torch.save([len(predictions), batch_indices], os.path.join(self.output_dir, "all.pt"))


class Boring(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 1))

    def forward(self, x):
        return self.net(x)

    def training_step(self, batch, batch_idx):
        x, y = batch
        loss = nn.functional.l1_loss(self(x), y)
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch, batch_idx):
        x, y = batch
        self.log("val_loss", nn.functional.l1_loss(self(x), y))

    def predict_step(self, batch, batch_idx):
        return self(batch[0])

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.05, momentum=0.9)

    def configure_callbacks(self):
        return [LambdaCallback(on_train_epoch_start=lambda trainer, module: print("epoch", trainer.current_epoch))]


def main():
    pl.seed_everything(55)
    x = torch.randn(96, 6)
    data = TensorDataset(x, x[:, :1] - x[:, 1:2])
    train, val = DataLoader(data, batch_size=8, shuffle=True), DataLoader(data, batch_size=32)
    timer = Timer(duration="00:12:00:00")
    saves = ModelCheckpoint(dirpath="saves", every_n_train_steps=5, save_top_k=-1, filename="{step}")
    trainer = pl.Trainer(
        max_epochs=4,
        accelerator="cpu",
        callbacks=[
            StochasticWeightAveraging(swa_lrs=0.01, swa_epoch_start=2, annealing_epochs=1),
            GradientAccumulationScheduler(scheduling={0: 1, 1: 2, 3: 4}),
            ModelSummary(max_depth=2),
            Writer("predictions", "batch_and_epoch"),
            timer,
            saves,
        ],
        logger=False,
        enable_progress_bar=False,
    )
    model = Boring()
    trainer.fit(model, train, val)
    trainer.predict(model, val)
    print("timed", timer.time_elapsed("train") > 0, len(os.listdir("saves")))


if __name__ == "__main__":
    main()
