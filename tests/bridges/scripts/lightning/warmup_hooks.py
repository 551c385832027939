"""Warm up in optimizer_step, count every hook, and step a scheduler of one's own."""

import pytorch_lightning as pl
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset


class Spirals(Dataset):
    def __init__(self, n=96):
        t = torch.linspace(0.2, 1.0, n)
        sign = torch.where(torch.arange(n) % 2 == 0, 1.0, -1.0)
        self.x = torch.stack([sign * t * torch.cos(5 * t), sign * t * torch.sin(5 * t)], 1)
        self.y = (sign > 0).float()

    def __len__(self):
        return len(self.y)

    def __getitem__(self, i):
        return self.x[i], self.y[i]


class PolyDecay:
    """A scheduler that torch knows nothing of."""

    def __init__(self, optimizer, total):
        self.optimizer, self.total, self.epoch = optimizer, total, 0
        self.base = optimizer.param_groups[0]["lr"]

    def step(self, epoch):
        self.epoch = epoch
        for group in self.optimizer.param_groups:
            group["lr"] = self.base * (1 - epoch / self.total) ** 0.9

    def state_dict(self):
        return {"epoch": self.epoch}

    def load_state_dict(self, state):
        self.epoch = state["epoch"]


class Spiral(pl.LightningModule):
    def __init__(self, lr=0.05, warmup_steps=6):
        super().__init__()
        self.lr, self.warmup_steps = lr, warmup_steps
        self.net = nn.Sequential(nn.Linear(2, 24), nn.ReLU(), nn.Linear(24, 1))

    def forward(self, x):
        return self.net(x).squeeze(-1)

    def on_fit_start(self):
        print("fit starts on", self.device.type)

    def on_train_start(self):
        print("train starts with", self.trainer.num_training_batches, "batches")

    def on_train_epoch_start(self):
        self.correct = self.total = 0

    def on_train_batch_start(self, batch, batch_idx):
        if self.current_epoch == 2 and batch_idx == 2:
            return -1

    def transfer_batch_to_device(self, batch, device, dataloader_idx):
        return tuple(part.to(device) for part in batch)

    def on_after_batch_transfer(self, batch, dataloader_idx):
        x, y = batch
        if self.trainer.training:
            x = x + 0.01 * torch.randn_like(x)
        return x, y

    def training_step(self, batch, batch_idx):
        x, y = batch
        logits = self(x)
        self.correct += int(((logits > 0) == (y > 0)).sum())
        self.total += len(y)
        return nn.functional.binary_cross_entropy_with_logits(logits, y)

    def backward(self, loss):
        loss.backward()

    def on_after_backward(self):
        self.largest = max(p.grad.abs().max().item() for p in self.parameters())

    def configure_gradient_clipping(self, optimizer, gradient_clip_val, gradient_clip_algorithm):
        if self.current_epoch > 0:
            self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)

    def optimizer_step(self, epoch, batch_idx, optimizer, optimizer_closure):
        if self.trainer.global_step < self.warmup_steps:
            scale = float(self.trainer.global_step + 1) / self.warmup_steps
            for group in optimizer.param_groups:
                group["lr"] = scale * self.lr
        optimizer.step(closure=optimizer_closure)

    def optimizer_zero_grad(self, epoch, batch_idx, optimizer):
        optimizer.zero_grad(set_to_none=True)

    def lr_scheduler_step(self, scheduler, metric):
        scheduler.step(epoch=self.current_epoch)

    def on_train_batch_end(self, outputs, batch, batch_idx):
        if batch_idx % 3 == 0:
            print(f"{self.global_step}: loss {outputs['loss'].item():.6f} largest {self.largest:.6f}")

    def on_train_epoch_end(self):
        print(f"accuracy {self.correct / self.total:.4f}")

    def on_train_end(self):
        print("train ends")

    def on_fit_end(self):
        print("fit ends")

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), lr=self.lr, momentum=0.9)
        return [optimizer], [PolyDecay(optimizer, 5)]


def main():
    pl.seed_everything(15)
    loader = DataLoader(Spirals(), batch_size=16, shuffle=True)
    trainer = pl.Trainer(
        max_epochs=4,
        accelerator="cpu",
        gradient_clip_val=0.05,
        gradient_clip_algorithm="value",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        reload_dataloaders_every_n_epochs=1,
    )
    trainer.fit(Spiral(), loader)


if __name__ == "__main__":
    main()
