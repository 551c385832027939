"""The same modules on the untouched Trainer and through the bridge: each call, each value and each file is equal."""

from __future__ import annotations

from datetime import timedelta

import pytest
import torch
from torch.utils.data import DataLoader

from tests.bridges.lightning_subject import FORMS, PACKAGES, Stream, in_order, parted, shuffled, told

BACKENDS = ("ignite", "reference")


def plain(trainer=None, callbacks=None, train=shuffled, val=in_order, fit=None, **module):
    """Return a work that fits the subject."""

    def work(package, tools):
        made = [] if callbacks is None else callbacks(package)
        options = {"max_epochs": 3, **(trainer or {})}
        one = tools.trainer(callbacks=made, **options)
        tools.log.append(("callbacks", [type(each).__name__ for each in one.callbacks]))
        loaders = [None if make is None else make() for make in (train, val)]
        one.fit(tools.module(**module), *loaders, **(fit or {}))
        return [one.state.status.value, one.current_epoch, one.global_step, {**one.callback_metrics}]

    return work


OPTIONS = {
    "default": {},
    "accumulation": {"accumulate_grad_batches": 3},
    "clip by norm": {"gradient_clip_val": 0.1},
    "clip by value": {"gradient_clip_val": 0.05, "gradient_clip_algorithm": "value"},
    "bf16-mixed": {"precision": "bf16-mixed"},
    "16-mixed": {"precision": "16-mixed"},
    "64-true": {"precision": "64-true"},
    "bf16-true": {"precision": "bf16-true"},
    "validation within": {"val_check_interval": 3},
    "validation at a fraction": {"val_check_interval": 0.4},
    "validation over epochs": {"val_check_interval": 5, "check_val_every_n_epoch": None},
    "validation too rare": {"val_check_interval": 50},
    "every second epoch": {"check_val_every_n_epoch": 2},
    "validation by time": {"val_check_interval": timedelta(seconds=0)},
    "limits": {"limit_train_batches": 3, "limit_val_batches": 2},
    "fractions": {"limit_train_batches": 0.5, "limit_val_batches": 0.7},
    "no training": {"limit_train_batches": 0},
    "no validation": {"limit_val_batches": 0},
    "max_steps": {"max_epochs": -1, "max_steps": 11},
    "max_steps 0": {"max_steps": 0},
    "max_epochs 0": {"max_epochs": 0},
    "min_epochs": {"min_epochs": 2},
    "fast_dev_run": {"fast_dev_run": True},
    "fast_dev_run 3": {"fast_dev_run": 3},
    "overfit": {"overfit_batches": 2},
    "no sanity check": {"num_sanity_val_steps": 0},
    "all sanity checks": {"num_sanity_val_steps": -1},
    "reload": {"reload_dataloaders_every_n_epochs": 2},
    "anomaly": {"detect_anomaly": True},
    "rows at each step": {"log_every_n_steps": 1},
    "no rows": {"log_every_n_steps": 0},
    "no logger": {"logger": False},
    "no checkpoints": {"enable_checkpointing": False},
    "own logger": {"logger": True},
    "no time": {"max_time": timedelta(seconds=0)},
    "nonsense": {"max_epochs": -2},
    "nonsense limit": {"limit_train_batches": 1.5},
}


def _early(package, **options):
    return package.callbacks.EarlyStopping("val_loss", **{"patience": 1, "min_delta": 5.0, **options})


def _saving(package, **options):
    return package.callbacks.ModelCheckpoint(**options)


CALLBACKS = {
    "early stopping": lambda p: [_early(p)],
    "early stopping in training": lambda p: [_early(p, check_on_train_epoch_end=True)],
    "early stopping, missing": lambda p: [p.callbacks.EarlyStopping("nothing")],
    "early stopping, not finite": lambda p: [_early(p, divergence_threshold=1e-9, mode="min")],
    "best 2 and last": lambda p: [_saving(p, monitor="val_loss", save_top_k=2, save_last=True)],
    "all": lambda p: [_saving(p, save_top_k=-1, filename="{epoch}-{val_loss:.3f}", every_n_epochs=2)],
    "each third step": lambda p: [_saving(p, every_n_train_steps=3, save_top_k=-1)],
    "weights alone": lambda p: [_saving(p, save_weights_only=True, save_on_train_epoch_end=True)],
    "two": lambda p: [_saving(p, monitor="error", mode="max"), _saving(p, monitor="at_the_end", filename="{step}")],
    "by time": lambda p: [_saving(p, train_time_interval=timedelta(0), save_top_k=-1)],
    "rates": lambda p: [p.callbacks.LearningRateMonitor(log_momentum=True)],
    "rates each step": lambda p: [p.callbacks.LearningRateMonitor("step")],
    "accumulation": lambda p: [p.callbacks.GradientAccumulationScheduler({0: 1, 1: 3})],
    "averaging": lambda p: [p.callbacks.StochasticWeightAveraging(0.01, swa_epoch_start=1)],
    "timer": lambda p: [p.callbacks.Timer(timedelta(0), interval="epoch")],
    "finetuning": lambda p: [Unfreezing(p)],
    "lambda": lambda p: [p.callbacks.LambdaCallback(on_train_epoch_end=_stop_after_two)],
    "on exception": lambda p: [p.callbacks.OnExceptionCheckpoint(".")],
    "summary": lambda p: [p.callbacks.ModelSummary(max_depth=2)],
    "moving average": lambda p: [p.callbacks.EMAWeightAveraging(decay=0.5)],
    "devices": lambda p: [p.callbacks.DeviceStatsMonitor(cpu_stats=False)],
    "pruning": lambda p: [p.callbacks.ModelPruning("l1_unstructured", amount=0.5, verbose=0)],
}


def _stop_after_two(trainer, module):
    trainer.should_stop = trainer.current_epoch >= 1


def Unfreezing(package):
    class Finetuning(package.callbacks.BaseFinetuning):
        def freeze_before_training(self, module):
            self.freeze(module.body)

        def finetune_function(self, module, epoch, optimizer):
            if epoch == 1:
                self.unfreeze_and_add_param_group(module.body, optimizer, lr=0.01)

    return Finetuning()


LOADERS = {
    "stream": (lambda: DataLoader(Stream(14), batch_size=4), in_order),
    "streams": (lambda: DataLoader(Stream(14), batch_size=4), lambda: DataLoader(Stream(6), batch_size=4)),
    "several to validate": (shuffled, lambda: [in_order(), in_order(6, seed=2)]),
    "dict to validate": (shuffled, lambda: {"one": in_order(), "two": in_order(6, seed=2)}),
    "none to validate": (shuffled, None),
    "used up": (lambda: iter([(torch.randn(4, 4), torch.randn(4, 1)) for _ in range(3)]), in_order),
    "empty": (list, in_order),
    "no loader": (lambda: 3, in_order),
    "workers": (lambda: DataLoader(Stream(14), batch_size=4, num_workers=1), in_order),
}

CASES = {
    **{f"option: {name}": plain(options) for name, options in OPTIONS.items()},
    **{f"optimizers: {name}": plain({"accumulate_grad_batches": 2}, how=name) for name in FORMS},
    **{f"callback: {name}": plain({"max_epochs": 4}, made) for name, made in CALLBACKS.items()},
    **{f"data: {name}": plain(None, None, *loaders) for name, loaders in LOADERS.items()},
    "stream, limited": plain({"limit_train_batches": 3, "limit_val_batches": 1}, None, *LOADERS["streams"]),
    "stream, within": plain({"val_check_interval": 2}, None, *LOADERS["streams"]),
    "stream, at a fraction": plain({"val_check_interval": 0.5}, None, *LOADERS["streams"]),
    "min_epochs against a stop": plain({"max_epochs": 6, "min_epochs": 4}, CALLBACKS["early stopping"]),
    "min_steps against a stop": plain({"max_epochs": 6, "min_steps": 30}, CALLBACKS["early stopping"]),
    "bar of rich": plain({"enable_progress_bar": True}, lambda p: [p.callbacks.RichProgressBar()]),
    "bar of tqdm": plain({"enable_progress_bar": True}, lambda p: [p.callbacks.TQDMProgressBar()]),
    "bar by default": plain({"enable_progress_bar": True, "enable_model_summary": True}),
    "stop within": plain({"max_epochs": 6, "val_check_interval": 2}, CALLBACKS["early stopping"]),
    "plateau within": plain({"val_check_interval": 2}, how="plateau"),
    "clipping and accumulation, mixed": plain(
        {"gradient_clip_val": 0.1, "accumulate_grad_batches": 3, "precision": "16-mixed"}
    ),
}


def compared(work, folder, package="pytorch_lightning"):
    """Run ``work`` on the Trainer and on each backend, and return where they part, and the Trainer's run."""
    wanted = told(None, work, folder / "trainer", package)
    got = {name: told(name, work, folder / name, package) for name in BACKENDS}
    return {name: parted(wanted, one) for name, one in got.items()}, wanted


FAST = {
    "option: default",
    "option: accumulation",
    "option: 16-mixed",
    "option: validation within",
    "option: max_steps",
    "option: fast_dev_run",
    "optimizers: two lists",
    "optimizers: plateau",
    "optimizers: lbfgs",
    "callback: early stopping",
    "callback: best 2 and last",
    "data: stream",
    "data: several to validate",
}
"""What the fast tier runs; the others differ from one of these in one thing."""


@pytest.mark.parametrize("name", [pytest.param(one, marks=() if one in FAST else pytest.mark.slow) for one in CASES])
def test_the_same(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    differences, _ = compared(CASES[name], tmp_path)
    assert differences == dict.fromkeys(BACKENDS, "")


@pytest.mark.slow
@pytest.mark.parametrize("package", PACKAGES)
def test_both_packages(package, tmp_path):
    differences, wanted = compared(CASES["callback: best 2 and last"], tmp_path, package)
    assert differences == dict.fromkeys(BACKENDS, "")
    assert len(wanted.steps) == 4 * 8
