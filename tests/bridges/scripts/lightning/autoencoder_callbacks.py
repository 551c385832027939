"""An autoencoder with every callback one can think of."""

from argparse import ArgumentParser

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, EarlyStopping, LearningRateMonitor, ModelCheckpoint
from pytorch_lightning.loggers import CSVLogger
from torch import nn, optim
from torch.utils.data import DataLoader, TensorDataset


class PrintingCallback(Callback):
    def on_train_start(self, trainer, pl_module):
        print("Training is starting")

    def on_train_end(self, trainer, pl_module):
        print("Training is ending at step", trainer.global_step)

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if batch_idx == 0:
            print(f"first loss of epoch {trainer.current_epoch}: {outputs['loss'].item():.6f}")

    def on_validation_start(self, trainer, pl_module):
        if not trainer.sanity_checking:
            print("validating")


class BestLoss(Callback):
    """Keeps the best validation loss, in the checkpoint too."""

    def __init__(self):
        self.best = float("inf")
        self.epochs = 0

    def on_validation_end(self, trainer, pl_module):
        if trainer.sanity_checking:
            return
        self.best = min(self.best, trainer.callback_metrics["val_loss"].item())

    def on_train_epoch_end(self, trainer, pl_module):
        self.epochs += 1
        pl_module.log("best_so_far", self.best)

    def state_dict(self):
        return {"best": self.best, "epochs": self.epochs}

    def load_state_dict(self, state):
        self.best, self.epochs = state["best"], state["epochs"]

    def on_save_checkpoint(self, trainer, pl_module, checkpoint):
        checkpoint["written_by"] = "BestLoss"


class LitAutoEncoder(pl.LightningModule):
    def __init__(self, lr):
        super().__init__()
        self.lr = lr
        self.encoder = nn.Sequential(nn.Linear(20, 12), nn.ReLU(), nn.Linear(12, 4))
        self.decoder = nn.Sequential(nn.Linear(4, 12), nn.ReLU(), nn.Linear(12, 20))

    def forward(self, x):
        return self.encoder(x)

    def training_step(self, batch, batch_idx):
        x = batch[0]
        x_hat = self.decoder(self.encoder(x))
        loss = nn.functional.mse_loss(x_hat, x)
        self.log("train_loss", loss, on_epoch=True)
        return {"loss": loss, "codes": x_hat.detach()}

    def validation_step(self, batch, batch_idx):
        x = batch[0]
        loss = nn.functional.mse_loss(self.decoder(self.encoder(x)), x)
        self.log("val_loss", loss)

    def configure_optimizers(self):
        optimizer = optim.Adam(self.parameters(), lr=self.lr)
        return {
            "optimizer": optimizer,
            "lr_scheduler": optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.3),
        }


def main(args):
    pl.seed_everything(args.seed)
    mixing = torch.randn(4, 20)
    data = torch.randn(240, 4) @ mixing
    train = DataLoader(TensorDataset(data[:200]), batch_size=25, shuffle=True)
    val = DataLoader(TensorDataset(data[200:]), batch_size=25)

    best = BestLoss()
    checkpoint = ModelCheckpoint(
        dirpath="ckpts", filename="ae-{epoch:02d}-{val_loss:.3f}", monitor="val_loss", save_top_k=2
    )
    stopping = EarlyStopping(monitor="val_loss", patience=2, min_delta=0.15, verbose=True)
    trainer = pl.Trainer(
        max_epochs=args.max_epochs,
        callbacks=[PrintingCallback(), best, checkpoint, stopping, LearningRateMonitor(logging_interval="epoch")],
        logger=CSVLogger("csv"),
        enable_progress_bar=False,
        log_every_n_steps=4,
        accelerator="cpu",
    )
    trainer.fit(LitAutoEncoder(args.lr), train, val)
    print("stopped at", stopping.stopped_epoch, "best", round(best.best, 6), "after", best.epochs)
    print(checkpoint.best_model_path, round(checkpoint.best_model_score.item(), 6))


if __name__ == "__main__":
    parser = ArgumentParser()
    parser.add_argument("--seed", type=int, default=5)
    parser.add_argument("--lr", type=float, default=2e-2)
    parser.add_argument("--max_epochs", type=int, default=12)
    main(parser.parse_args())
