"""LightningCLI, as it is, with its Trainer on another engine."""

from __future__ import annotations

import contextlib
import gc
import sys

import pytest
import pytorch_lightning as pl
import pytorch_lightning.cli as cli_of_lightning
import torch

from tests.bridges.lightning_subject import Loaders, Steps, listening_callback, subject
from tests.bridges.test_lightning_same import BACKENDS, compared
from unitrain_bridges.lightning import redirect

pytest.importorskip("jsonargparse", reason="LightningCLI needs the extra `cli`")
pytestmark = pytest.mark.filterwarnings("ignore")


class Unset(Steps):
    """Leaves its optimizer to the command line."""

    def configure_optimizers(self):
        raise AssertionError("the command line sets it")


def cli(*lines, steps=Steps, **options):
    """Return a work that runs command lines, one after the other."""

    def work(package, tools):
        found = []
        for line in lines:
            module = type("Module", (steps, package.LightningModule), {"__init__": _init(steps)})
            data = type("DataModule", (Loaders, package.LightningDataModule), {})
            defaults = {"callbacks": [listening_callback(package, tools.log)], "logger": False}
            with contextlib.chdir(tools.folder):
                made = package.cli.LightningCLI(
                    module,
                    data,
                    args=line.split(),
                    trainer_defaults=defaults | {"enable_progress_bar": False, "enable_model_summary": False},
                    seed_everything_default=3,
                    save_config_kwargs={"overwrite": True},
                    **options,
                )
            if options.get("run") is False:
                made.trainer.fit(made.model, made.datamodule)
            trainer = made.trainer
            found += [trainer.global_step, type(trainer).__name__, isinstance(trainer, package.Trainer)]
            found += [{**made.model.state_dict()}, {**trainer.callback_metrics}, dict(made.model.hparams)]
        (tools.folder / "a.ckpt").unlink(missing_ok=True)  # it names its folder
        return found

    return work


def _init(steps):
    def __init__(self, width: int = 4, how: str = "one"):
        steps.__init__(self, width, how)

    return __init__


SHORT = "--trainer.max_epochs=2"
WORKS = {
    "fit": cli(f"fit {SHORT} --data.batch_size=3"),
    "optimizer": cli(
        f"fit {SHORT} --optimizer=SGD --optimizer.lr=0.05 --lr_scheduler=StepLR --lr_scheduler.step_size=1"
    ),
    "evaluations": cli("validate", "test --data.batch_size=2", "predict"),
    "resumed": cli(
        f"fit {SHORT} --trainer.callbacks+=ModelCheckpoint --trainer.callbacks.dirpath=. --trainer.callbacks.filename=a",
        "fit --trainer.max_epochs=3 --ckpt_path=a.ckpt",
    ),
    "built only": cli(SHORT, run=False),
    "own steps": cli(f"fit {SHORT} --optimizer=Adam", steps=Unset),
    "a file": cli(f"fit {SHORT} --model.how=list", "fit --config=config.yaml --trainer.max_epochs=1"),
    "a wrong argument": cli("fit --trainer.nonsense=2"),
    "a clash": cli("fit --trainer.barebones=true --trainer.fast_dev_run=true"),
}
FAST = {"fit"}
RAISING = {"a wrong argument": "SystemExit", "a clash": "ValueError"}


@pytest.mark.parametrize("name", [pytest.param(one, marks=() if one in FAST else pytest.mark.slow) for one in WORKS])
def test_the_same(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["train.py"])
    differences, wanted = compared(WORKS[name], tmp_path)
    assert differences == dict.fromkeys(BACKENDS, "")
    assert (wanted.error or (None,))[0] == RAISING.get(name), wanted.error


def test_a_fault_is_noticed(tmp_path, monkeypatch):
    """Where the default of LightningCLI stays the real Trainer, it is refused."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["train.py"])
    monkeypatch.setattr(redirect, "_exchange_default", lambda *_: None)
    differences, _ = compared(WORKS["fit"], tmp_path)
    assert all(differences.values())


@pytest.mark.parametrize("command", ["fit", "validate", "test", "predict"])
def test_its_help_is_lightnings(command, capsys, monkeypatch):
    from unitrain_bridges.lightning.bridge import LightningBridge

    def shown():
        with pytest.raises(SystemExit):
            cli_of_lightning.LightningCLI(subject(pl), args=[command, "--help"])
        return capsys.readouterr().out

    monkeypatch.setattr(sys, "argv", ["train.py"])
    gc.collect()  # the help lists the classes of callbacks, those of other tests too
    wanted = shown()
    with LightningBridge().redirected("ignite"):
        assert shown() == wanted
    assert "--ckpt_path" in wanted
    assert torch.is_grad_enabled()
