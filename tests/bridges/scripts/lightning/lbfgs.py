"""Fit a curve with LBFGS."""

import lightning.pytorch as pl
import torch
from torch import nn, optim
from torch.utils.data import DataLoader, TensorDataset


class Curve(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(1, 8), nn.Tanh(), nn.Linear(8, 1))
        self.closures = 0

    def training_step(self, batch, batch_idx):
        x, y = batch
        self.closures += 1
        loss = ((self.net(x) - y) ** 2).mean()
        self.log("loss", loss)
        return loss

    def validation_step(self, batch, batch_idx):
        x, y = batch
        self.log("val", ((self.net(x) - y) ** 2).mean())

    def configure_optimizers(self):
        return optim.LBFGS(self.parameters(), lr=0.5, max_iter=5, line_search_fn="strong_wolfe")


if __name__ == "__main__":
    pl.seed_everything(13)
    x = torch.linspace(-2, 2, 64).unsqueeze(1)
    y = torch.sin(2 * x)
    loader = DataLoader(TensorDataset(x, y), batch_size=32)
    model = Curve()
    trainer = pl.Trainer(
        max_epochs=4, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False
    )
    trainer.fit(model, loader, loader)
    print("closures", model.closures, "loss", trainer.callback_metrics["val"].item())
