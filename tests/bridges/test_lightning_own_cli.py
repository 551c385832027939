"""Command lines of users, made with LightningCLI, with their Trainer on another engine, beside the untouched ones."""

from __future__ import annotations

import contextlib
import os
import sys

import pytest
import pytorch_lightning.cli  # noqa: F401 - the works use it
import torch
import yaml

from tests.bridges.lightning_subject import Loaders, Steps, listening_callback
from tests.bridges.test_lightning_same import BACKENDS, compared

pytestmark = pytest.mark.filterwarnings("ignore")

SHORT = ("--trainer.max_epochs=2", "--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false")
FILE = {
    "seed_everything": 4,
    "trainer": {
        "max_epochs": 3,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "log_every_n_steps": 2,
        "gradient_clip_val": 0.2,
        "callbacks": [
            {"class_path": "EarlyStopping", "init_args": {"monitor": "val_loss", "patience": 0, "min_delta": 1.0}},
            {"class_path": "LearningRateMonitor"},
            {"class_path": "ModelCheckpoint", "init_args": {"monitor": "val_loss", "save_last": True, "save_top_k": 2}},
        ],
        "logger": {"class_path": "CSVLogger", "init_args": {"save_dir": ".", "name": "logs"}},
    },
    "model": {"width": 4},
    "data": {"batch_size": 3},
    "optimizer": {"class_path": "torch.optim.SGD", "init_args": {"lr": 0.05, "momentum": 0.9}},
    "lr_scheduler": {"class_path": "ReduceLROnPlateau", "init_args": {"monitor": "val_loss", "patience": 0}},
}


def module_of(package):
    """Return a module's class that a command line can read: with the types of its arguments."""

    def __init__(self, width: int = 4, how: str = "one"):
        Steps.__init__(self, width, how)

    return type("Module", (Steps, package.LightningModule), {"__init__": __init__})


def data_of(package):
    return type("Data", (Loaders, package.LightningDataModule), {})


def own_cli(package, log):
    """Return a command line with arguments of its own, links, hooks and a callback."""

    class OwnCLI(package.cli.LightningCLI):
        def add_arguments_to_parser(self, parser):
            parser.add_argument("--times", type=int, default=1)
            parser.add_lightning_class_args(package.callbacks.EarlyStopping, "early")
            parser.set_defaults({"early.monitor": "val_loss", "early.patience": 1, "trainer.log_every_n_steps": 2})
            parser.add_optimizer_args(torch.optim.Adam)
            parser.add_lr_scheduler_args(torch.optim.lr_scheduler.ExponentialLR)
            parser.set_defaults({"lr_scheduler.gamma": 0.5})
            parser.link_arguments("times", "data.count", compute_fn=lambda times: 8 * times)

        def before_instantiate_classes(self):
            log.append(("before", self.config.fit.times))

        def instantiate_trainer(self, **given):
            return super().instantiate_trainer(num_sanity_val_steps=0, **given)

        def before_fit(self):
            log.append(("before_fit", [type(one).__name__ for one in self.trainer.callbacks]))

        def after_fit(self):
            log.append(("after_fit", self.trainer.global_step, self.model.hparams["width"]))
            self.trainer.test(ckpt_path="best", datamodule=self.datamodule, verbose=False)

    return OwnCLI


def saving_callback(package, log):
    class Saving(package.cli.SaveConfigCallback):
        def save_config(self, trainer, pl_module, stage):
            log.append(("save_config", stage, self.config.trainer.max_epochs, type(trainer.logger).__name__))
            if trainer.logger is not None:
                trainer.logger.log_hyperparams({"config": self.parser.dump(self.config, skip_none=False)})

    return Saving


def finetuning_trainer(package):
    class Trainer(package.Trainer):
        def finetune(self, model: package.LightningModule, datamodule: package.LightningDataModule, steps: int = 2):
            """Train the head.

            Args:
                steps: Number of steps.
            """
            model.body.requires_grad_(False)
            self.fit_loop.epoch_loop.max_steps = steps
            self.fit(model, datamodule)

    return Trainer


def finetuning_cli(package):
    class CLI(package.cli.LightningCLI):
        @staticmethod
        def subcommands():
            return {**package.cli.LightningCLI.subcommands(), "finetune": {"model", "datamodule"}}

    return CLI


def work(*lines, cli=None, files=(), environment=None, options=None):
    """Return a work that runs command lines, one after the other, in the folder of the case.

    Args:
        lines: The arguments of each.
        cli: Takes the package and the log; returns the class of the command line.
        files: The contents of 0.yaml, 1.yaml and so on.
        environment: Variables.
        options: Takes the package and the log; returns further arguments of the command line.
    """

    def run(package, tools):
        found = []
        with contextlib.chdir(tools.folder), pytest.MonkeyPatch.context() as patch:
            for index, contents in enumerate(files):
                text = contents if isinstance(contents, str) else yaml.safe_dump(contents)
                (tools.folder / f"{index}.yaml").write_text(text)
            for name, value in (environment or {}).items():
                patch.setenv(name, value)
            for line in lines:
                kind = package.cli.LightningCLI if cli is None else cli(package, tools.log)
                callbacks = {"callbacks": listening_callback(package, tools.log)}
                given = {"trainer_defaults": callbacks, "save_config_kwargs": {"overwrite": True}}
                given |= {} if options is None else options(package, tools.log)
                made = kind(module_of(package), data_of(package), args=line, **given)
                found += [type(made).__name__, made.trainer.global_step, {**made.trainer.callback_metrics}]
                found += [{**made.model.state_dict()}, dict(made.model.hparams)]
            found.append(_loaded(package, made))
        for path in tools.folder.rglob("*.ckpt"):
            path.unlink()  # each names its own folder
        return found

    return run


def _loaded(package, made):
    """Return the weights of the module that the best checkpoint makes by itself."""
    path = made.trainer.checkpoint_callback and made.trainer.checkpoint_callback.best_model_path
    if not path:
        return None
    model = type(made.model).load_from_checkpoint(path)
    return {**model.state_dict()}, os.path.basename(path)  # noqa: PTH119


WORKS = {
    "all from a file": work(["fit", "--config=0.yaml"], ["validate", "--config=0.yaml"], files=[FILE]),
    "a section a subcommand": work(
        ["--config=0.yaml", "fit"], ["--config=0.yaml", "test"], files=[{"fit": FILE, "test": {"seed_everything": 1}}]
    ),
    "own arguments": work(
        ["fit", *SHORT, "--times=2", "--early.min_delta=1.0", "--optimizer.lr=0.1", "--early.patience", "0"],
        cli=own_cli,
    ),
    "own saving": work(
        ["fit", *SHORT, "--trainer.logger=CSVLogger", "--trainer.logger.save_dir=logs"],
        options=lambda package, log: {"save_config_callback": saving_callback(package, log)},
    ),
    "no saving": work(["fit", *SHORT, "--trainer.logger=false"], options=lambda *_: {"save_config_callback": None}),
    "an own Trainer": work(
        ["finetune", *SHORT, "--steps=3", "--optimizer=Adam", "--trainer.logger=false"],
        cli=lambda package, _: finetuning_cli(package),
        options=lambda package, _: {"trainer_class": finetuning_trainer(package)},
    ),
    "a dict": work({"fit": FILE, "subcommand": "fit"}),
    "variables": work(
        ["fit", *SHORT[1:], "--trainer.logger=false"],
        environment={"PL_FIT__TRAINER__MAX_EPOCHS": "1", "PL_FIT__MODEL__HOW": "list"},
        options=lambda *_: {"parser_kwargs": {"default_env": True, "fit": {"default_env": True}}},
    ),
    "defaults from a file": work(
        ["fit", "--trainer.max_epochs=1"],
        files=[FILE],
        options=lambda *_: {"parser_kwargs": {"fit": {"default_config_files": ["0.yaml"]}}},
    ),
    "without optimizers": work(
        ["fit", *SHORT, "--trainer.logger=false"], options=lambda *_: {"auto_configure_optimizers": False}
    ),
    "without hyper-parameters": work(
        ["fit", *SHORT, "--trainer.logger=false"], options=lambda *_: {"load_from_checkpoint_support": False}
    ),
    "no seed": work(["fit", *SHORT, "--seed_everything=false", "--trainer.logger=false"]),
}
FAST = {"all from a file", "own arguments"}


@pytest.mark.parametrize("name", [pytest.param(one, marks=() if one in FAST else pytest.mark.slow) for one in WORKS])
def test_the_same(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["train.py"])
    differences, wanted = compared(WORKS[name], tmp_path)
    assert differences == dict.fromkeys(BACKENDS, "")
    assert wanted.error is None, wanted.error
    assert wanted.steps


def test_what_a_file_configures_is_written(tmp_path, monkeypatch, capsys):
    """The comparison is of something: the configuration, the rows and the checkpoints are there."""
    seen = {}

    def looking(package, tools):
        result = WORKS["all from a file"](package, tools)
        seen.update({path.relative_to(tools.folder).as_posix(): path for path in tools.folder.rglob("*")})
        return result

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["train.py"])
    differences, wanted = compared(looking, tmp_path)
    assert not any(differences.values())
    assert {"logs/version_0/config.yaml", "logs/version_0/metrics.csv", "logs/version_0/checkpoints"} <= seen.keys()
    assert any("lr-SGD" in row for row in wanted.files["logs/version_0/metrics.csv"])
