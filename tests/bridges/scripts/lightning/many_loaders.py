"""Labelled and unlabelled batches side by side, half precision, and odd corners of self.log."""

import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import CSVLogger
from pytorch_lightning.utilities import CombinedLoader
from torch import nn
from torch.utils.data import DataLoader, RandomSampler, TensorDataset, WeightedRandomSampler


class SemiSupervised(pl.LightningModule):
    def __init__(self, consistency=0.5):
        super().__init__()
        self.save_hyperparameters()
        self.student = nn.Sequential(nn.Linear(5, 12), nn.Dropout(0.2), nn.ReLU(), nn.Linear(12, 3))
        self.register_buffer("seen", torch.zeros((), dtype=torch.long))

    def training_step(self, batch, batch_idx):
        x, y = batch["labelled"]
        (u,) = batch["unlabelled"]
        supervised = nn.functional.cross_entropy(self.student(x), y)
        first, second = self.student(u).softmax(1), self.student(u).softmax(1)
        drift = (first - second).pow(2).mean()
        self.seen += len(x) + len(u)
        loss = supervised + self.hparams.consistency * drift
        self.log_dict({"supervised": supervised, "drift": drift}, on_step=True, on_epoch=True, batch_size=len(x))
        self.log("largest", loss, reduce_fx="max", on_step=False, on_epoch=True, batch_size=1)
        self.log("seen", self.seen.float(), on_step=True, on_epoch=False, batch_size=1)
        if batch_idx % 2 == 0:
            self.log("even", float(batch_idx), on_step=False, on_epoch=True, batch_size=len(x))
        if batch_idx == 3:
            return None
        return loss

    def validation_step(self, batch, batch_idx, dataloader_idx=0):
        x, y = batch[0], batch[1]
        return self.log("val_acc", (self.student(x).argmax(1) == y).float().mean(), batch_size=len(x))

    def on_train_epoch_start(self):
        self.log("epoch_float", float(self.current_epoch), on_epoch=True)

    def configure_optimizers(self):
        optimizer = torch.optim.NAdam(self.parameters(), lr=0.02)
        warm = torch.optim.lr_scheduler.LinearLR(optimizer, 0.1, total_iters=4)
        cool = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 12)
        schedule = torch.optim.lr_scheduler.SequentialLR(optimizer, [warm, cool], milestones=[4])
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step", "name": "warm"}}


def main():
    pl.seed_everything(91)
    x, y = torch.randn(60, 5), torch.randint(0, 3, (60,))
    labelled = TensorDataset(x, y)
    balanced = WeightedRandomSampler(torch.rand(60), 30)
    loaders = CombinedLoader(
        {
            "labelled": DataLoader(labelled, batch_size=10, sampler=balanced),
            "unlabelled": DataLoader(TensorDataset(torch.randn(64, 5)), batch_size=8, sampler=RandomSampler(range(64))),
        },
        mode="max_size_cycle",
    )
    trainer = pl.Trainer(
        max_epochs=2,
        accelerator="cpu",
        precision="bf16-mixed",
        logger=CSVLogger("logs"),
        log_every_n_steps=2,
        enable_progress_bar=False,
        num_sanity_val_steps=-1,
        limit_val_batches=3,
        detect_anomaly=True,
        deterministic=True,
    )
    model = SemiSupervised()
    trainer.fit(model, loaders, [DataLoader(labelled, batch_size=16), DataLoader(labelled, batch_size=7)])
    print(int(model.seen), {k: round(v.item(), 6) for k, v in sorted(trainer.callback_metrics.items())})
    torch.use_deterministic_algorithms(False)


if __name__ == "__main__":
    main()
