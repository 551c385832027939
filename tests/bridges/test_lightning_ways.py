"""Manual optimization, hooks that decide, evaluations, checkpoints and further runs: on the Trainer and on the others."""

from __future__ import annotations

import pytest
from torch.utils.data import DataLoader

from tests.bridges.lightning_subject import in_order, parted, samples, shuffled, told
from tests.bridges.lightning_ways import (
    Asking,
    Breaking,
    BreakingValidation,
    Bringing,
    ByClosure,
    Combined,
    Cutting,
    Exhausted,
    Interrupted,
    LoggingTwice,
    LoggingWrong,
    Manual,
    NoOptimizer,
    NotFinite,
    Overriding,
    Several,
    Skipping,
    Stopping,
    StoppingAtOnce,
    Terminated,
    Transferring,
    by_mode,
    dict_of_loaders,
    fitted,
)
from tests.bridges.test_lightning_same import BACKENDS, compared, plain

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
