"""A variational autoencoder on small bumps."""

import lightning as L
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset


class VAE(L.LightningModule):
    def __init__(self, latent=3, kl_weight=0.1, max_lr=1e-2, total_steps=30):
        super().__init__()
        self.save_hyperparameters()
        self.encoder = nn.Sequential(nn.Linear(16, 24), nn.Tanh())
        self.mu = nn.Linear(24, latent)
        self.logvar = nn.Linear(24, latent)
        self.decoder = nn.Sequential(nn.Linear(latent, 24), nn.Tanh(), nn.Linear(24, 16))

    def encode(self, x):
        h = self.encoder(x)
        return self.mu(h), self.logvar(h)

    def forward(self, x):
        mu, logvar = self.encode(x)
        z = mu + torch.randn_like(mu) * torch.exp(0.5 * logvar)
        return self.decoder(z), mu, logvar

    def _losses(self, batch):
        (x,) = batch
        recon, mu, logvar = self(x)
        recon_loss = F.mse_loss(recon, x)
        kl = -0.5 * torch.mean(1 + logvar - mu**2 - logvar.exp())
        return {"loss": recon_loss + self.hparams.kl_weight * kl, "recon": recon_loss, "kl": kl}

    def training_step(self, batch, batch_idx):
        losses = self._losses(batch)
        self.log_dict({f"train_{k}": v for k, v in losses.items()}, on_step=True, on_epoch=True, prog_bar=True)
        return losses["loss"]

    def validation_step(self, batch, batch_idx):
        losses = self._losses(batch)
        self.log_dict({f"val_{k}": v for k, v in losses.items()}, batch_size=len(batch[0]))
        return losses["loss"]

    def on_validation_epoch_end(self):
        sample = self.decoder(torch.zeros(1, self.hparams.latent))
        self.logger.experiment.add_scalar("sample_mean", sample.mean().item(), self.current_epoch)

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.parameters(), lr=1e-3, weight_decay=1e-2)
        scheduler = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, max_lr=self.hparams.max_lr, total_steps=self.hparams.total_steps
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def bumps(n, generator):
    centers = torch.rand(n, 1, generator=generator) * 16
    return TensorDataset(torch.exp(-((torch.arange(16.0) - centers) ** 2) / 4))


if __name__ == "__main__":
    L.seed_everything(3)
    gen = torch.Generator().manual_seed(11)
    train = DataLoader(bumps(150, gen), batch_size=16, shuffle=True)
    val = DataLoader(bumps(40, gen), batch_size=16)
    model = VAE(total_steps=3 * len(train))
    trainer = L.Trainer(
        max_epochs=3,
        accelerator="auto",
        devices="auto",
        logger=TensorBoardLogger("tb", name="vae"),
        gradient_clip_val=0.5,
        log_every_n_steps=5,
        enable_progress_bar=False,
    )
    trainer.fit(model=model, train_dataloaders=train, val_dataloaders=val)
    for name in sorted(trainer.callback_metrics):
        print(name, f"{trainer.callback_metrics[name].item():.7f}")
