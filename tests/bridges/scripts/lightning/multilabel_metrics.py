"""Multi-label classification with a collection of metric objects."""

from pytorch_lightning import LightningDataModule, LightningModule, Trainer, seed_everything
from pytorch_lightning.loggers import CSVLogger, TensorBoardLogger
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
import torchmetrics


class LabelData(LightningDataModule):
    def __init__(self, n=120):
        super().__init__()
        self.n = n

    def setup(self, stage=None):
        g = torch.Generator().manual_seed(5)
        x = torch.randn(self.n, 6, generator=g)
        y = (x @ torch.randn(6, 4, generator=g) > 0).int()
        self.train, self.val = TensorDataset(x[:90], y[:90]), TensorDataset(x[90:], y[90:])

    def train_dataloader(self):
        return DataLoader(self.train, batch_size=20, shuffle=True)

    def val_dataloader(self):
        return DataLoader(self.val, batch_size=20)

    def test_dataloader(self):
        return DataLoader(self.val, batch_size=20)


class MultiLabel(LightningModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Linear(6, 4)
        metrics = torchmetrics.MetricCollection(
            {
                "f1": torchmetrics.F1Score(task="multilabel", num_labels=4),
                "exact": torchmetrics.classification.MultilabelExactMatch(num_labels=4),
            }
        )
        self.train_metrics = metrics.clone(prefix="train_")
        self.val_metrics = metrics.clone(prefix="val_")
        self.mean_score = torchmetrics.MeanMetric()

    def training_step(self, batch, batch_idx):
        x, y = batch
        logits = self.net(x)
        self.log_dict(self.train_metrics(logits, y))
        self.mean_score.update(logits.mean().detach())
        self.log("mean_score", self.mean_score, on_step=False, on_epoch=True)
        return nn.functional.binary_cross_entropy_with_logits(logits, y.float())

    def validation_step(self, batch, batch_idx):
        x, y = batch
        self.val_metrics.update(self.net(x), y)

    def on_validation_epoch_end(self):
        self.log_dict(self.val_metrics.compute(), prog_bar=True)
        self.val_metrics.reset()

    def test_step(self, batch, batch_idx):
        x, y = batch
        self.val_metrics(self.net(x), y)
        self.log_dict(self.val_metrics, on_step=False, on_epoch=True)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.5)


def main():
    seed_everything(6)
    loggers = [CSVLogger("logs_csv"), TensorBoardLogger("logs_tb")]
    trainer = Trainer(max_epochs=3, accelerator="cpu", logger=loggers, log_every_n_steps=3, enable_progress_bar=False)
    data = LabelData()
    model = MultiLabel()
    trainer.fit(model, data)
    print({k: round(v.item(), 6) for k, v in sorted(trainer.callback_metrics.items())})
    print(trainer.test(model, data))


if __name__ == "__main__":
    main()
