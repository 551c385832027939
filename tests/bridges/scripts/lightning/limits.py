"""Only a part of everything: max_steps, limited batches, validation every other epoch, a stop by hand."""

import pytorch_lightning as pl
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Small(pl.LightningModule):
    def __init__(self, stop_at=None):
        super().__init__()
        self.layer = nn.Linear(4, 1)
        self.stop_at = stop_at

    def training_step(self, batch, batch_idx):
        x, y = batch
        loss = (self.layer(x) - y).abs().mean()
        self.log("loss", loss, prog_bar=True, logger=False)
        self.log("half", loss / 2, on_step=False, on_epoch=True, reduce_fx=torch.sum)
        if self.stop_at is not None and self.global_step >= self.stop_at:
            self.trainer.should_stop = True
        return loss

    def validation_step(self, batch, batch_idx):
        x, y = batch
        self.log("val", (self.layer(x) - y).abs().mean(), on_step=True, on_epoch=True)

    def on_validation_epoch_end(self):
        print("validated in epoch", self.current_epoch, "at step", self.global_step)

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), lr=0.1)
        scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 3, 0.5)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step", "frequency": 2}}


def fit(title, model, loaders, **kwargs):
    print("--", title)
    trainer = pl.Trainer(
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **kwargs,
    )
    trainer.fit(model, *loaders)
    print(trainer.current_epoch, trainer.global_step, trainer.should_stop)


def main():
    pl.seed_everything(3)
    x = torch.randn(60, 4)
    data = TensorDataset(x, x.sum(1, keepdim=True))
    loaders = DataLoader(data, batch_size=10, shuffle=True), DataLoader(data, batch_size=15)
    fit("steps", Small(), loaders, max_steps=10)
    fit(
        "batches",
        Small(),
        loaders,
        max_epochs=4,
        limit_train_batches=4,
        limit_val_batches=0.5,
        check_val_every_n_epoch=2,
    )
    fit("stop", Small(stop_at=9), loaders, max_epochs=10, num_sanity_val_steps=0)
    fit("at least", Small(stop_at=2), loaders, max_epochs=10, min_epochs=2)
    fit("fast_dev_run", Small(), loaders, fast_dev_run=2)


if __name__ == "__main__":
    main()
