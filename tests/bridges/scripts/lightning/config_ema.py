"""A configuration in a dataclass, and an exponential moving average as a callback."""

import copy
from dataclasses import asdict, dataclass, field

import pytorch_lightning as pl
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


@dataclass
class ModelConfig:
    width: int = 16
    depth: int = 2


@dataclass
class OptimConfig:
    name: str = "AdamW"
    lr: float = 5e-3
    weight_decay: float = 1e-3


@dataclass
class Config:
    seed: int = 77
    epochs: int = 3
    batch_size: int = 16
    ema_decay: float = 0.9
    model: ModelConfig = field(default_factory=ModelConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)


class EMA(pl.Callback):
    def __init__(self, decay):
        self.decay = decay
        self.ema = None
        self.backup = None

    def on_fit_start(self, trainer, pl_module):
        self.ema = copy.deepcopy(pl_module.state_dict())

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        with torch.no_grad():
            for key, value in pl_module.state_dict().items():
                self.ema[key].mul_(self.decay).add_(value, alpha=1 - self.decay)

    def on_validation_epoch_start(self, trainer, pl_module):
        self.backup = copy.deepcopy(pl_module.state_dict())
        pl_module.load_state_dict(self.ema)

    def on_validation_epoch_end(self, trainer, pl_module):
        pl_module.load_state_dict(self.backup)


class Net(pl.LightningModule):
    def __init__(self, cfg: dict):
        super().__init__()
        self.save_hyperparameters(cfg)
        width = cfg["model"]["width"]
        layers = [nn.Linear(5, width), nn.ReLU()]
        for _ in range(cfg["model"]["depth"] - 1):
            layers += [nn.Linear(width, width), nn.ReLU()]
        self.net = nn.Sequential(*layers, nn.Linear(width, 1))

    def training_step(self, batch, batch_idx):
        x, y = batch
        loss = (self.net(x) - y).pow(2).mean()
        self.log("loss", loss)
        return loss

    def validation_step(self, batch, batch_idx):
        x, y = batch
        loss = (self.net(x) - y).pow(2).mean()
        self.log("ema_val", loss)
        return loss

    def on_before_optimizer_step(self, optimizer):
        norm = torch.stack([p.grad.norm() for p in self.parameters()]).norm()
        self.log("grad_norm", norm)

    def configure_optimizers(self):
        optim = self.hparams["optim"]
        return getattr(torch.optim, optim["name"])(
            self.parameters(), lr=optim["lr"], weight_decay=optim["weight_decay"]
        )


def main(cfg):
    pl.seed_everything(cfg.seed)
    x = torch.randn(100, 5)
    y = (x**2).sum(dim=1, keepdim=True)
    train = DataLoader(TensorDataset(x[:80], y[:80]), batch_size=cfg.batch_size, shuffle=True)
    val = DataLoader(TensorDataset(x[80:], y[80:]), batch_size=cfg.batch_size)
    trainer = pl.Trainer(
        max_epochs=cfg.epochs,
        callbacks=[EMA(cfg.ema_decay)],
        accelerator="cpu",
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=2,
    )
    trainer.fit(Net(asdict(cfg)), train, val)
    print({k: v.item() for k, v in trainer.callback_metrics.items()})


if __name__ == "__main__":
    main(Config())
