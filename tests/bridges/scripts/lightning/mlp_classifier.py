"""Classify three noisy clusters with a small MLP."""

import argparse

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, random_split


class LitMLP(pl.LightningModule):
    def __init__(self, hidden=32, lr=1e-2, dropout=0.1):
        super().__init__()
        self.save_hyperparameters()
        self.net = nn.Sequential(nn.Linear(8, hidden), nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden, 3))

    def forward(self, x):
        return self.net(x)

    def training_step(self, batch, batch_idx):
        x, y = batch
        loss = F.cross_entropy(self(x), y)
        self.log("train_loss", loss, prog_bar=True)
        return loss

    def validation_step(self, batch, batch_idx):
        self._evaluate(batch, "val")

    def test_step(self, batch, batch_idx):
        self._evaluate(batch, "test")

    def _evaluate(self, batch, stage):
        x, y = batch
        logits = self(x)
        acc = (logits.argmax(dim=1) == y).float().mean()
        self.log(f"{stage}_loss", F.cross_entropy(logits, y), prog_bar=True)
        self.log(f"{stage}_acc", acc, prog_bar=True)

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=self.hparams.lr)


def clusters(n=300):
    centers = torch.randn(3, 8) * 2
    y = torch.randint(0, 3, (n,))
    return TensorDataset(centers[y] + torch.randn(n, 8), y)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--lr", type=float, default=1e-2)
    args = parser.parse_args()

    pl.seed_everything(42)
    train, val, test = random_split(clusters(), [200, 50, 50])
    train_loader = DataLoader(train, batch_size=args.batch_size, shuffle=True)
    val_loader = DataLoader(val, batch_size=args.batch_size)
    test_loader = DataLoader(test, batch_size=args.batch_size)

    model = LitMLP(lr=args.lr)
    trainer = pl.Trainer(max_epochs=args.epochs, accelerator="cpu", log_every_n_steps=2)
    trainer.fit(model, train_loader, val_loader)
    print("val_acc", round(trainer.callback_metrics["val_acc"].item(), 6))
    results = trainer.test(model, test_loader)
    print({k: round(v, 6) for k, v in results[0].items()})


if __name__ == "__main__":
    main()
