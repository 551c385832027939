"""A CNN on stripes that lie across or along, with a data module."""

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torchmetrics import Accuracy


class Stripes(Dataset):
    def __init__(self, n, seed):
        generator = torch.Generator().manual_seed(seed)
        self.labels = torch.randint(0, 2, (n,), generator=generator)
        base = torch.zeros(12, 12)
        base[::3] = 1.0
        images = torch.stack([base if label else base.T for label in self.labels])
        self.images = (images + 0.5 * torch.randn(n, 12, 12, generator=generator)).unsqueeze(1)

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, i):
        return self.images[i], self.labels[i]


class StripesData(pl.LightningDataModule):
    def __init__(self, batch_size=16):
        super().__init__()
        self.save_hyperparameters()

    def prepare_data(self):
        print("preparing")

    def setup(self, stage):
        print("setup", stage)
        if stage == "fit":
            self.train, self.val = Stripes(70, 0), Stripes(30, 1)
        if stage in ("test", "predict"):
            self.held_out = Stripes(20, 2)

    def train_dataloader(self):
        return DataLoader(self.train, batch_size=self.hparams.batch_size, shuffle=True, drop_last=True)

    def val_dataloader(self):
        return DataLoader(self.val, batch_size=self.hparams.batch_size)

    def test_dataloader(self):
        return DataLoader(self.held_out, batch_size=self.hparams.batch_size)

    def predict_dataloader(self):
        return DataLoader(self.held_out, batch_size=self.hparams.batch_size)

    def teardown(self, stage):
        print("teardown", stage)


class StripesNet(pl.LightningModule):
    def __init__(self, channels: int = 4, lr: float = 0.05):
        super().__init__()
        self.save_hyperparameters()
        self.features = nn.Sequential(nn.Conv2d(1, channels, 3), nn.BatchNorm2d(channels), nn.ReLU(), nn.MaxPool2d(2))
        self.classifier = nn.Linear(channels * 25, 2)
        self.loss = nn.CrossEntropyLoss()
        self.train_acc = Accuracy(task="multiclass", num_classes=2)
        self.val_acc = Accuracy(task="multiclass", num_classes=2)

    def forward(self, x):
        return self.classifier(self.features(x).flatten(1))

    def training_step(self, batch, batch_idx):
        x, y = batch
        logits = self(x)
        loss = self.loss(logits, y)
        self.train_acc(logits, y)
        self.log("train/loss", loss, on_step=True, on_epoch=True)
        self.log("train/acc", self.train_acc, on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch, batch_idx):
        x, y = batch
        logits = self(x)
        self.val_acc.update(logits, y)
        self.log("val/loss", self.loss(logits, y))
        self.log("val/acc", self.val_acc, prog_bar=True)

    def test_step(self, batch, batch_idx):
        x, y = batch
        self.log("test/loss", self.loss(self(x), y))

    def predict_step(self, batch, batch_idx, dataloader_idx=0):
        x, _ = batch
        return self(x).softmax(dim=1)

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), lr=self.hparams.lr, momentum=0.9)
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, step_size=2, gamma=0.5)]


def main():
    pl.seed_everything(7, workers=True)
    data = StripesData()
    model = StripesNet()
    checkpoint = ModelCheckpoint(monitor="val/acc", mode="max", save_top_k=1, save_last=True, filename="best")
    trainer = pl.Trainer(
        max_epochs=4,
        accelerator="cpu",
        logger=CSVLogger("logs", name="stripes"),
        callbacks=[checkpoint],
        log_every_n_steps=1,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(model, datamodule=data)
    print("best", float(checkpoint.best_model_score))
    best = StripesNet.load_from_checkpoint(checkpoint.best_model_path)
    print(best.hparams)
    print(trainer.test(best, datamodule=data, verbose=False))
    predictions = torch.cat(trainer.predict(best, datamodule=data))
    print(predictions.shape, float(predictions[:, 0].sum()))


if __name__ == "__main__":
    main()
