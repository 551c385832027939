"""A siamese network: are two noisy sequences of the same kind?"""

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Dataset


class Pairs(Dataset):
    def __init__(self, n, seed):
        g = torch.Generator().manual_seed(seed)
        self.prototypes = torch.randn(4, 10, generator=torch.Generator().manual_seed(99))
        self.kinds = torch.randint(0, 4, (n, 2), generator=g)
        self.noise = 0.3 * torch.randn(n, 2, 10, generator=g)

    def __len__(self):
        return len(self.kinds)

    def __getitem__(self, index):
        a, b = self.kinds[index]
        return {
            "first": self.prototypes[a] + self.noise[index, 0],
            "second": self.prototypes[b] + self.noise[index, 1],
            "same": (a == b).float(),
        }


class ContrastiveLoss(nn.Module):
    def __init__(self, margin=1.0):
        super().__init__()
        self.margin = margin

    def forward(self, a, b, same):
        distance = F.pairwise_distance(a, b)
        loss = same * distance.pow(2) + (1 - same) * F.relu(self.margin - distance).pow(2)
        return loss.mean(), distance


class SiameseNet(pl.LightningModule):
    def __init__(self, embedding=6, lr=0.05):
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Unflatten(1, (1, 10)), nn.Conv1d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(32, embedding)
        )
        self.criterion = ContrastiveLoss()
        self.lr = lr
        self.val_distances = []

    def forward(self, first, second):
        return self.encoder(first), self.encoder(second)

    def training_step(self, batch, batch_idx):
        a, b = self(batch["first"], batch["second"])
        loss, _ = self.criterion(a, b, batch["same"])
        self.log("train/contrastive", loss, on_step=True, on_epoch=False)
        return loss

    def on_validation_epoch_start(self):
        self.val_distances.clear()

    def validation_step(self, batch, batch_idx):
        a, b = self(batch["first"], batch["second"])
        loss, distance = self.criterion(a, b, batch["same"])
        self.val_distances.append((distance, batch["same"]))
        return loss

    def on_validation_epoch_end(self):
        distances = torch.cat([d for d, _ in self.val_distances])
        same = torch.cat([s for _, s in self.val_distances]).bool()
        correct = ((distances < 0.5) == same).float().mean()
        self.log("val/accuracy", correct)
        if not self.trainer.sanity_checking:
            print(f"epoch {self.current_epoch} accuracy {correct:.4f}")

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), lr=self.lr, momentum=0.9, nesterov=True)
        scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones=[2, 3], gamma=0.1)
        return [optimizer], [scheduler]

    def train_dataloader(self):
        return DataLoader(Pairs(120, 0), batch_size=24, shuffle=True)

    def val_dataloader(self):
        return DataLoader(Pairs(50, 1), batch_size=24)


def main():
    pl.seed_everything(21)
    model = SiameseNet()
    trainer = pl.Trainer(
        max_epochs=4, accelerator="cpu", enable_progress_bar=False, log_every_n_steps=2, num_sanity_val_steps=1
    )
    trainer.fit(model)
    trainer.save_checkpoint("siamese.ckpt")
    print(trainer.current_epoch, trainer.global_step, trainer.num_training_batches)


if __name__ == "__main__":
    main()
