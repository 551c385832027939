"""Segment discs with a tiny U-Net; validate twice an epoch."""

import pytorch_lightning as pl
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset


class Discs(Dataset):
    def __init__(self, n, size=16, seed=0):
        g = torch.Generator().manual_seed(seed)
        ys, xs = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
        self.items = []
        for _ in range(n):
            cy, cx = (torch.rand(2, generator=g) * size).tolist()
            radius = 2 + 4 * torch.rand(1, generator=g).item()
            mask = ((ys - cy) ** 2 + (xs - cx) ** 2 < radius**2).float()
            image = mask + 0.4 * torch.randn(size, size, generator=g)
            self.items.append((image[None], mask[None]))

    def __len__(self):
        return len(self.items)

    def __getitem__(self, i):
        return self.items[i]


def double_conv(i, o):
    return nn.Sequential(nn.Conv2d(i, o, 3, padding=1), nn.BatchNorm2d(o), nn.ReLU(inplace=True))


class UNet(nn.Module):
    def __init__(self, width=4):
        super().__init__()
        self.down1, self.down2 = double_conv(1, width), double_conv(width, 2 * width)
        self.up = nn.ConvTranspose2d(2 * width, width, 2, stride=2)
        self.last = double_conv(2 * width, width)
        self.out = nn.Conv2d(width, 1, 1)

    def forward(self, x):
        a = self.down1(x)
        b = self.down2(F.max_pool2d(a, 2))
        return self.out(self.last(torch.cat([a, self.up(b)], dim=1)))


def dice(logits, target):
    probs = (logits > 0).float()
    return 2 * (probs * target).sum() / (probs.sum() + target.sum() + 1e-6)


class SegModel(pl.LightningModule):
    def __init__(self, lr=1e-2, batch_size=8):
        super().__init__()
        self.net = UNet()
        self.lr, self.batch_size = lr, batch_size

    def setup(self, stage=None):
        self.trainset, self.valset = Discs(40, seed=1), Discs(12, seed=2)

    def forward(self, x):
        return self.net(x)

    def training_step(self, batch, batch_idx):
        image, mask = batch
        logits = self(image)
        loss = F.binary_cross_entropy_with_logits(logits, mask)
        self.log("train_bce", loss, prog_bar=True)
        return {"loss": loss}

    def validation_step(self, batch, batch_idx):
        image, mask = batch
        logits = self(image)
        self.log("val_bce", F.binary_cross_entropy_with_logits(logits, mask), prog_bar=True)
        self.log("val_dice", dice(logits, mask), prog_bar=True, reduce_fx="max")

    def on_validation_end(self):
        print(f"step {self.global_step}: dice {self.trainer.callback_metrics['val_dice'].item():.5f}")

    def configure_optimizers(self):
        opt = torch.optim.Adam(self.net.parameters(), lr=self.lr)
        sch = torch.optim.lr_scheduler.CosineAnnealingLR(opt, T_max=10)
        return [opt], [sch]

    def train_dataloader(self):
        return DataLoader(self.trainset, batch_size=self.batch_size, shuffle=True)

    def val_dataloader(self):
        return DataLoader(self.valset, batch_size=self.batch_size, shuffle=False)


def main():
    pl.seed_everything(9)
    model = SegModel()
    trainer = pl.Trainer(
        max_epochs=2,
        accelerator="cpu",
        val_check_interval=0.5,
        log_every_n_steps=1,
        enable_progress_bar=False,
        enable_model_summary=False,
        logger=pl.loggers.CSVLogger(save_dir="seg"),
    )
    trainer.fit(model)
    print(sorted(trainer.logged_metrics))


if __name__ == "__main__":
    main()
