"""Manual optimization, hooks that decide, evaluations, checkpoints and further runs: on the Trainer and on the others."""

from __future__ import annotations

import os
import signal

import pytest
import torch
from torch.utils.data import DataLoader

from tests.bridges.lightning_subject import Steps, in_order, parted, samples, shuffled, told
from tests.bridges.test_lightning_same import BACKENDS, compared, plain


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


WORKS = {
    "manual": fitted(Manual),
    "manual, closures": fitted(ByClosure),
    "manual, clipped by the Trainer": fitted(Manual, gradient_clip_val=0.1),
    "two optimizers, automatic": fitted(Several),
    "no optimizer": fitted(NoOptimizer),
    "skipped steps": fitted(Skipping, accumulate_grad_batches=2),
    "cut epochs": fitted(Cutting),
    "StopIteration": fitted(Exhausted),
    "should_stop": fitted(Stopping),
    "should_stop, min_epochs": fitted(Stopping, min_epochs=3),
    "should_stop at an epoch's start": fitted(StoppingAtOnce),
    "an error": fitted(Breaking),
    "an interrupt": fitted(Interrupted),
    "a signal": fitted(Terminated),
    "an error in validation": fitted(BreakingValidation),
    "a loss without gradient": fitted(NotFinite),
    "overridden": fitted(Overriding, gradient_clip_val=0.5),
    "transfer": fitted(Transferring),
    "asking": fitted(Asking),
    "logging in a wrong hook": fitted(LoggingWrong),
    "logging twice": fitted(LoggingTwice),
    "brought": fitted(Bringing, (), max_epochs=4, reload_dataloaders_every_n_epochs=1),
    "combined": fitted(Combined, (dict_of_loaders, in_order)),
    **{mode: fitted(Combined, (by_mode(mode), in_order)) for mode in ("min_size", "max_size", "sequential")},
}


def evaluated(package, tools):
    """Validate, test and predict, before and after a fit, with several loaders and with files."""
    saving = package.callbacks.ModelCheckpoint(monitor="val_loss", save_last=True)
    trainer, module = tools.trainer(max_epochs=3, callbacks=[saving]), tools.module()
    found = [trainer.validate(module, in_order(), verbose=False)]
    trainer.fit(module, shuffled(), in_order())
    found += [trainer.validate(module, [in_order(), in_order(6, seed=3)])]
    found += [trainer.test(dataloaders=in_order(7, seed=4)), trainer.test(ckpt_path="best", dataloaders=in_order())]
    found += [trainer.test(module, in_order(), ckpt_path=saving.last_model_path)]
    found += [trainer.predict(module, in_order()), trainer.predict(None, [in_order(), in_order(6)], ckpt_path="last")]
    found += [trainer.predict(module, in_order(), return_predictions=False), module.training]
    return [*found, trainer.ckpt_path is None, trainer.state.status.value]


class Data:
    """A datamodule, but for its base, that writes down what it is told."""

    def __init__(self, log, count=12):
        super().__init__()
        self.save_hyperparameters(ignore="log")
        self.log = log

    def prepare_data(self):
        self.log.append(("data", "prepare_data"))

    def setup(self, stage):
        self.log.append(("data", "setup", stage, self.trainer.state.fn.value))

    def teardown(self, stage):
        self.log.append(("data", "teardown", stage))

    def train_dataloader(self):
        return DataLoader(samples(self.hparams.count), batch_size=4, shuffle=True)

    def val_dataloader(self):
        return in_order(6)

    test_dataloader = predict_dataloader = val_dataloader

    def on_after_batch_transfer(self, batch, dataloader_idx):
        return [one + 1 for one in batch]

    def state_dict(self):
        return {"seen": self.trainer.global_step}

    def load_state_dict(self, state):
        self.log.append(("data", "load_state_dict", state))


def datamodule(package, tools):
    """Fit, go on, test and predict with a datamodule."""
    data = type("Data", (Data, package.LightningDataModule), {})(tools.log)
    trainer, module = tools.trainer(max_epochs=2), tools.module()
    trainer.fit(module, data)
    again = tools.trainer(max_epochs=3)
    again.fit(tools.module(), datamodule=data, ckpt_path=trainer.checkpoint_callback.best_model_path)
    return [trainer.test(module, data), trainer.predict(module, datamodule=data), again.global_step]


def resumed(*, epochs=3, options=None, **saving):
    """Return a work that goes on from each file that a fit wrote."""
    options = options or {}

    def work(package, tools):
        save = package.callbacks.ModelCheckpoint(tools.folder / "files", save_top_k=-1, **saving)
        first = tools.trainer(max_epochs=2, callbacks=[save], **options)
        first.fit(tools.module(how="dict, each step"), shuffled(), in_order())
        found = []
        for path in sorted((tools.folder / "files").glob("*.ckpt")):
            tools.log.append(("resuming", path.name))
            trainer = tools.trainer(max_epochs=epochs, enable_checkpointing=False, **options)
            module = tools.module(how="dict, each step")
            trainer.fit(module, shuffled(), in_order(), ckpt_path=path)
            found += [trainer.global_step, trainer.current_epoch, {**trainer.callback_metrics}]
        return found

    return work


def again(package, tools):
    """Fit twice with one trainer, save by hand, and load."""
    trainer, module = tools.trainer(max_epochs=2), tools.module()
    trainer.fit(module, shuffled(), in_order())
    trainer.fit_loop.max_epochs = 4
    trainer.fit(module, shuffled(), in_order())
    trainer.save_checkpoint(tools.folder / "by hand.ckpt")
    trainer.save_checkpoint(tools.folder / "weights.ckpt", weights_only=True)
    loaded = type(module).load_from_checkpoint(tools.folder / "by hand.ckpt")
    return [trainer.global_step, {**loaded.state_dict()}, dict(loaded.hparams)]


def subclassed(package, tools):
    """A Trainer of the author's own class."""

    class Own(package.Trainer):
        def __init__(self, **options):
            super().__init__(max_epochs=2, **options)

        def fit(self, *given, **options):
            tools.log.append(("own", "fit"))
            super().fit(*given, **options)

    trainer = Own(logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False)
    trainer.fit(tools.module(), shuffled(), in_order())
    return [trainer.global_step, isinstance(trainer, package.Trainer)]


def writing(package, tools):
    class Writer(package.callbacks.BasePredictionWriter):
        def write_on_batch_end(self, trainer, module, prediction, indices, batch, batch_idx, dataloader_idx):
            tools.log.append(("writer", batch_idx, indices, dataloader_idx))

        def write_on_epoch_end(self, trainer, module, predictions, indices):
            tools.log.append(("writer", len(predictions), indices))

    trainer = tools.trainer(callbacks=[Writer("batch_and_epoch")])
    return trainer.predict(tools.module(), [in_order(), in_order(6)])


WORKS |= {
    "evaluations": evaluated,
    "datamodule": datamodule,
    "resumed from epochs": resumed(),
    "resumed from epochs, after validation": resumed(save_on_train_epoch_end=False),
    "resumed from steps": resumed(every_n_train_steps=3),
    "resumed from steps, accumulation": resumed(every_n_train_steps=2, options={"accumulate_grad_batches": 2}),
    "resumed from steps, max_steps": resumed(every_n_train_steps=5, options={"max_steps": 13}),
    "resumed within validation": resumed(save_on_train_epoch_end=False, options={"val_check_interval": 4}),
    "resumed beyond its end": resumed(epochs=1),
    "resumed, 16-mixed": resumed(options={"precision": "16-mixed"}),
    "fitted again": again,
    "written predictions": writing,
    "a class of one's own": subclassed,
    "callbacks that are missing": plain(fit={"ckpt_path": "nothing.ckpt"}),
}

FAST = {"manual", "skipped steps", "cut epochs", "an error", "overridden", "brought", "evaluations", "datamodule"}
FAST |= {"resumed from epochs", "combined"}


@pytest.mark.parametrize("name", [pytest.param(one, marks=() if one in FAST else pytest.mark.slow) for one in WORKS])
def test_the_same(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    differences, _ = compared(WORKS[name], tmp_path)
    assert differences == dict.fromkeys(BACKENDS, "")


@pytest.mark.parametrize("framework", BACKENDS)
def test_a_plain_trainer_goes_on_from_its_files(framework, tmp_path):
    """Each side writes, the other one goes on, and both end in the same."""

    def write(package, tools):
        trainer = tools.trainer(max_epochs=2)
        trainer.fit(tools.module(), shuffled(), in_order())
        trainer.save_checkpoint(tmp_path / "one.ckpt")

    def go_on(package, tools):
        trainer = tools.trainer(max_epochs=4)
        trainer.fit(tools.module(), shuffled(), in_order(), ckpt_path=tmp_path / "one.ckpt")
        return [trainer.global_step, {**trainer.callback_metrics}]

    told(framework, write, tmp_path / "a")
    plainly, elsewhere = (told(one, go_on, tmp_path / "b" / str(one)) for one in (None, framework))
    assert plainly.error is None
    assert len(plainly.steps) == 2 * 8
    assert not parted(plainly, elsewhere)
