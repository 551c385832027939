"""Manual optimization: accumulate by hand, two optimizers at different paces, schedulers stepped by hand."""

import torch
from pytorch_lightning import LightningModule, Trainer, seed_everything
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class TwoSpeed(LightningModule):
    def __init__(self):
        super().__init__()
        self.automatic_optimization = False
        self.backbone = nn.Sequential(nn.Linear(6, 10), nn.ReLU())
        self.head = nn.Linear(10, 2)

    def forward(self, x):
        return self.head(self.backbone(x))

    def training_step(self, batch, batch_idx):
        slow, fast = self.optimizers()
        slow_schedule, fast_schedule = self.lr_schedulers()
        x, y = batch
        loss = nn.functional.cross_entropy(self(x), y)
        fast.zero_grad()
        self.manual_backward(loss)
        self.clip_gradients(fast, gradient_clip_val=0.5, gradient_clip_algorithm="norm")
        fast.step()
        fast_schedule.step()
        if (batch_idx + 1) % 3 == 0:
            slow.step()
            slow.zero_grad()
        if self.trainer.is_last_batch:
            slow_schedule.step()
        self.log_dict({"loss": loss, "fast_lr": fast.param_groups[0]["lr"]}, prog_bar=True)

    def validation_step(self, batch, batch_idx):
        x, y = batch
        self.log("val_acc", (self(x).argmax(1) == y).float().mean())

    def on_validation_epoch_end(self):
        if self.trainer.sanity_checking:
            return
        print("rates", [s.get_last_lr()[0] for s in self.lr_schedulers()])

    def configure_optimizers(self):
        slow = torch.optim.SGD(self.backbone.parameters(), lr=0.1)
        fast = torch.optim.Adam(self.head.parameters(), lr=0.01)
        return (
            {"optimizer": slow, "lr_scheduler": torch.optim.lr_scheduler.StepLR(slow, 1, 0.5)},
            {"optimizer": fast, "lr_scheduler": torch.optim.lr_scheduler.CosineAnnealingLR(fast, 30)},
        )


def main():
    seed_everything(2)
    x = torch.randn(90, 6)
    y = (x.sum(1) > 0).long()
    train = DataLoader(TensorDataset(x[:70], y[:70]), batch_size=10, shuffle=True)
    val = DataLoader(TensorDataset(x[70:], y[70:]), batch_size=10)
    trainer = Trainer(max_epochs=3, accelerator="cpu", enable_progress_bar=False, log_every_n_steps=3)
    trainer.fit(TwoSpeed(), train, val)
    print(trainer.global_step, trainer.callback_metrics["val_acc"].item())


if __name__ == "__main__":
    main()
