"""A batch that cannot be trained on: a callback tells of it, and the error is the script's end."""

import pytorch_lightning as pl
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Watch(pl.Callback):
    def on_exception(self, trainer, pl_module, exception):
        print("failed at step", trainer.global_step, "with", type(exception).__name__)

    def teardown(self, trainer, pl_module, stage):
        print("teardown", stage)


class Net(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 1)

    def training_step(self, batch, batch_idx):
        (x,) = batch
        if not torch.isfinite(x).all():
            raise ValueError(f"batch {batch_idx} of epoch {self.current_epoch} is not finite")
        return self.layer(x).pow(2).mean()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.05)


def main():
    pl.seed_everything(1)
    x = torch.randn(40, 3)
    x[33] = float("nan")
    trainer = pl.Trainer(
        max_epochs=2,
        callbacks=[Watch()],
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
    )
    trainer.fit(Net(), DataLoader(TensorDataset(x), batch_size=5))


if __name__ == "__main__":
    main()
