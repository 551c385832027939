"""Modules that use hooks, logs and optimizers in unusual ways, and works that fit them."""

from __future__ import annotations

import os
import signal

import torch
from torch.utils.data import DataLoader

from tests.bridges.lightning_subject import Steps, in_order, samples, shuffled


def fitted(steps=Steps, loaders=(shuffled, in_order), **trainer):
    """Return a work that fits another module."""

    def work(package, tools):
        one = tools.trainer(**{"max_epochs": 3, **trainer})
        one.fit(tools.module(steps), *(make() for make in loaders))
        return [one.current_epoch, one.global_step, {**one.callback_metrics}]

    return work


class Manual(Steps):
    """Two optimizers by hand, the second one rarely; what torch offers for it is used once each."""

    def __init__(self):
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch, batch_idx):
        first, second = self.optimizers()
        self.toggle_optimizer(first)
        loss = self.loss(batch)
        first.zero_grad()
        self.manual_backward(loss)
        self.clip_gradients(first, 0.1, "norm")
        first.step()
        self.untoggle_optimizer(first)
        if batch_idx % 2:
            with second.toggle_model(sync_grad=batch_idx > 2):
                again = self.loss(batch)
                second.zero_grad()
                self.manual_backward(again)
                second.step()
        self.log("loss", loss, on_step=True, on_epoch=True)
        if self.trainer.is_last_batch:
            for scheduler in self.lr_schedulers():
                scheduler.step()
        return {"loss": loss, "more": torch.ones(1, requires_grad=True)}

    def configure_optimizers(self):
        head = torch.optim.SGD(self.head.parameters(), 0.05)
        body = torch.optim.Adam(self.body.parameters(), 0.05)
        scheduler = torch.optim.lr_scheduler.StepLR
        return {"optimizer": head, "lr_scheduler": scheduler(head, 1)}, {
            "optimizer": body,
            "lr_scheduler": scheduler(body, 2),
        }


class ByClosure(Manual):
    def training_step(self, batch, batch_idx):
        first, _ = self.optimizers(use_pl_optimizer=batch_idx % 2 == 0)

        def closure():
            loss = self.loss(batch)
            first.zero_grad()
            self.manual_backward(loss)
            return loss

        first.step(closure=closure)


class Several(Steps):
    """Two optimizers without saying that they are stepped by hand: Lightning refuses."""

    def configure_optimizers(self):
        return [torch.optim.SGD(self.head.parameters(), 0.1), torch.optim.SGD(self.body.parameters(), 0.1)]


class NoOptimizer(Steps):
    def training_step(self, batch, batch_idx):
        return self.loss(batch)

    def configure_optimizers(self):
        return None


class Skipping(Steps):
    """Steps that come to nothing: None now and then."""

    def training_step(self, batch, batch_idx):
        loss = super().training_step(batch, batch_idx)
        return None if batch_idx % 3 == 1 else {"loss": loss, "extra": loss.detach()}


class Cutting(Steps):
    def on_train_batch_start(self, batch, batch_idx):
        return -1 if batch_idx == 3 + self.current_epoch else None


class Exhausted(Steps):
    def training_step(self, batch, batch_idx):
        if batch_idx == 4:
            raise StopIteration
        return super().training_step(batch, batch_idx)


class Stopping(Steps):
    def on_train_batch_end(self, outputs, batch, batch_idx):
        if self.global_step == 11:
            self.trainer.should_stop = True


class StoppingAtOnce(Steps):
    def on_train_epoch_start(self):
        self.trainer.should_stop = self.current_epoch == 1


class Breaking(Steps):
    def training_step(self, batch, batch_idx):
        if self.global_step == 10:
            raise KeyError("a broken batch")
        return super().training_step(batch, batch_idx)


class Interrupted(Steps):
    def training_step(self, batch, batch_idx):
        if self.global_step == 10:
            raise KeyboardInterrupt
        return super().training_step(batch, batch_idx)


class Terminated(Steps):
    def training_step(self, batch, batch_idx):
        if self.global_step == 10:
            os.kill(os.getpid(), signal.SIGTERM)
        return super().training_step(batch, batch_idx)


class BreakingValidation(Steps):
    def validation_step(self, batch, batch_idx):
        if self.global_step == 16:
            raise RuntimeError("a broken validation")
        return super().validation_step(batch, batch_idx)


class NotFinite(Steps):
    def training_step(self, batch, batch_idx):
        return torch.zeros(())  # nothing to go back through


class Overriding(Steps):
    """Each hook of optimization, written by the author."""

    def optimizer_step(self, epoch, batch_idx, optimizer, optimizer_closure=None):
        for group in optimizer.param_groups:
            group["lr"] = 0.01 * min(1.0, (self.trainer.global_step + 1) / 5)
        optimizer.step(closure=optimizer_closure)

    def optimizer_zero_grad(self, epoch, batch_idx, optimizer):
        optimizer.zero_grad(set_to_none=False)

    def configure_gradient_clipping(self, optimizer, gradient_clip_val=None, gradient_clip_algorithm=None):
        self.clip_gradients(optimizer, gradient_clip_val=(gradient_clip_val or 0.2), gradient_clip_algorithm="norm")

    def lr_scheduler_step(self, scheduler, metric):
        scheduler.step()

    def backward(self, loss, *args, **kwargs):
        (2 * loss).backward(*args, **kwargs)

    def configure_optimizers(self):
        one = torch.optim.SGD(self.parameters(), 0.1)
        return [one], [torch.optim.lr_scheduler.StepLR(one, 1)]


class Transferring(Steps):
    def on_before_batch_transfer(self, batch, dataloader_idx):
        return [one * 1.5 for one in batch]

    def transfer_batch_to_device(self, batch, device, dataloader_idx):
        return [one.to(device) + 0.25 for one in batch]

    def on_after_batch_transfer(self, batch, dataloader_idx):
        return [one + torch.rand(()) for one in batch]


class Bringing(Steps):
    """Its data, its callbacks, and a part that is made late."""

    def prepare_data(self):
        self.print("preparing", self.trainer.is_global_zero)

    def setup(self, stage):
        self.extra = torch.nn.Linear(1, 1)

    def configure_model(self):
        if not hasattr(self, "late"):
            self.late = torch.nn.Linear(1, 1)

    def forward(self, x):
        return self.late(self.extra(super().forward(x)))

    def configure_callbacks(self):
        import pytorch_lightning as pl

        return [pl.callbacks.EarlyStopping("val_loss", patience=0, min_delta=9.0)]

    def train_dataloader(self):
        self.trainer.asked = getattr(self.trainer, "asked", 0) + 1
        return DataLoader(samples(12), batch_size=3, shuffle=True)

    def val_dataloader(self):
        return [DataLoader(samples(6), batch_size=3), DataLoader(samples(3, 5), batch_size=3)]


class Combined(Steps):
    def loss(self, batch):
        if isinstance(batch, dict):
            return super().loss(batch["one"]) + super().loss(batch["two"])
        return super().loss(batch)


class Asking(Steps):
    """What a module may ask its trainer for."""

    def training_step(self, batch, batch_idx):
        trainer, loss = self.trainer, super().training_step(batch, batch_idx)
        self.told = [
            (trainer.num_training_batches, trainer.num_val_batches, trainer.estimated_stepping_batches),
            (trainer.max_epochs, trainer.log_every_n_steps, trainer.precision, str(trainer.strategy.root_device)),
            (trainer.training, trainer.validating, trainer.evaluating, trainer.world_size, trainer.num_devices),
            (len(trainer.train_dataloader), trainer.checkpoint_callback is None, trainer.early_stopping_callback),
            (self.global_rank, self.local_rank, str(self.device), self.dtype, len(self.loggers)),
            self.all_gather(loss).shape,
            hasattr(trainer, "not_there"),
        ]
        return loss

    def on_train_end(self):
        self.logger.log_metrics({f"told {index}": repr(one) for index, one in enumerate(self.told)})


class LoggingWrong(Steps):
    def on_fit_start(self):
        self.log("nonsense", 1.0)


class LoggingTwice(Steps):
    def training_step(self, batch, batch_idx):
        self.log("one", 1.0)
        self.log("one", 2.0, on_epoch=True)
        return self.loss(batch)


def dict_of_loaders():
    return {"one": shuffled(12), "two": shuffled(20)}


def by_mode(mode):
    def make():
        from pytorch_lightning.utilities import CombinedLoader

        return CombinedLoader(dict_of_loaders(), mode)

    return make
