"""Trainers, callbacks and loggers of a LightningModule that are copied and pickled, and what Lightning's log says."""

from __future__ import annotations

import copy
import importlib.util
import logging
import pickle
import re
import subprocess
import sys
import textwrap
from contextlib import ExitStack

import pytest
import pytorch_lightning as pl
import torch

from tests.bridges.lightning_subject import PACKAGES, Steps, in_order, parted, shuffled, told
from tests.bridges.test_lightning_same import BACKENDS, compared
from unitrain import UnifiedTrainer
from unitrain_bridges.lightning import redirect
from unitrain_bridges.lightning.bridge import LightningBridge
from unitrain_bridges.lightning.imports import when_imported
from unitrain_bridges.lightning.trainer import StandInTrainer
from unitrain_lightning.namespace import Namespace, OnLightning

pytestmark = pytest.mark.filterwarnings("ignore")


class Module(Steps, pl.LightningModule):
    """A module whose class a pickle finds."""


# --- copies and pickles -----------------------------------------------------------------------------------------------


def pickled(thing):
    return pickle.loads(pickle.dumps(thing))


WAYS = {"copied": copy.deepcopy, "pickled": pickled}


def trainer_in(folder, package=pl):
    callbacks = [
        package.callbacks.TQDMProgressBar(),
        package.callbacks.EarlyStopping("val_loss"),
        package.callbacks.ModelCheckpoint(folder / "kept", save_top_k=-1),
        package.callbacks.LearningRateMonitor(),
    ]
    own = package.loggers.CSVLogger(folder, version=1)
    return package.Trainer(max_epochs=1, callbacks=callbacks, logger=own, enable_model_summary=False)


def again(way):
    """Return a work that fits, and fits once more with the copies."""

    def work(package, tools):
        trainer = trainer_in(tools.folder)
        trainer.fit(Module(), shuffled(12), in_order())
        other = way(trainer)
        tools.log.append([type(one).__name__ for one in way(trainer.callbacks)])
        tools.log.append(
            [isinstance(other, package.Trainer), type(other).__name__, other.callbacks[0].trainer is other]
        )
        other.fit_loop.max_epochs = 3
        other.fit(Module(), shuffled(12), in_order())
        callbacks = way(trainer.callbacks)  # as for the next fold
        fold = package.Trainer(
            max_epochs=2, callbacks=callbacks, logger=way(trainer.logger), enable_model_summary=False
        )
        fold.fit(Module(), shuffled(12), in_order())
        return [[one.global_step, one.current_epoch, {**one.callback_metrics}] for one in (trainer, other, fold)]

    return work


@pytest.mark.parametrize("way", ["pickled", pytest.param("copied", marks=pytest.mark.slow)])
def test_copies_train_as_lightnings(way, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    differences, wanted = compared(again(WAYS[way]), tmp_path)
    assert differences == dict.fromkeys(BACKENDS, "")
    assert wanted.error is None


@pytest.mark.parametrize("framework", ["lightning", *BACKENDS])
def test_what_unified_trainer_uses_is_copied_too(framework, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    trainer = UnifiedTrainer(framework, max_epochs=1, loggers=[Rows()], enable_progress_bar=False)
    trainer.fit(Module(), shuffled(12), in_order())
    for way in WAYS.values():
        other = way(trainer.bridged)
        other.fit_loop.max_epochs = 2
        other.fit(Module(), shuffled(12), in_order())
        assert [type(one).__name__ for one in other.callbacks] == [
            type(one).__name__ for one in trainer.bridged.callbacks
        ]
        assert other.global_step == 6
        assert trainer.bridged.global_step == 3
        assert other.logger.tracker is not trainer.bridged.logger.tracker


class Rows:
    def __init__(self):
        self.rows = []

    def log_metrics(self, metrics, step):
        self.rows.append((metrics, step))


class Own(pl.Trainer):
    """Made anew within a redirection, where its base is the stand-in."""


def test_a_trainer_that_is_unpickled_elsewhere_and_one_of_an_own_class(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = {"max_epochs": 1, "logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    with LightningBridge().redirected("reference"):
        monkeypatch.setitem(globals(), "Own", type("Own", (pl.Trainer,), {"__module__": __name__}))
        texts = [pickle.dumps(pl.Trainer(**options)), pickle.dumps(Own(**options))]
    redirect._MADE.clear()  # as another process
    for text in texts:
        read = pickle.loads(text)
        assert isinstance(read, StandInTrainer)
        read.fit(Module(), shuffled(12), in_order())
        assert read.global_step == 3


FAULTS = {
    "what was looked up is pickled": (Namespace, "__reduce__", object.__reduce__),
    "a mixed class is looked for by its name": (OnLightning, "__reduce_ex__", object.__reduce_ex__),
    "the backend's run is pickled": (StandInTrainer, "__getstate__", object.__getstate__),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_cannot_be_pickled_is_noticed(fault, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    where, name, wrong = FAULTS[fault]
    work = again(pickled)
    wanted = told(None, work, tmp_path / "trainer")
    monkeypatch.setattr(where, name, wrong)
    assert parted(wanted, told("ignite", work, tmp_path / "ignite"))


# --- what the log says ------------------------------------------------------------------------------------------------


def logged(package, tools):
    """Fit, resume and evaluate; each line of Lightning's log is among the calls."""

    class Lines(logging.Handler):
        def emit(self, record):
            tools.log.append((record.name, re.sub(r"0x\w+", "", record.getMessage())))

    logger, handler = logging.getLogger("pytorch_lightning"), Lines()
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    try:
        trainer = package.Trainer(max_epochs=1, logger=False, enable_progress_bar=False, default_root_dir=tools.folder)
        module = Module()
        trainer.fit(module, shuffled(12), in_order())
        more = package.Trainer(max_epochs=2, logger=False, enable_progress_bar=False, default_root_dir=tools.folder)
        more.fit(module, shuffled(12), in_order(), ckpt_path=trainer.checkpoint_callback.best_model_path)
        for run in (trainer.validate, trainer.test):
            run(module, in_order(), verbose=False)
        return [len(trainer.predict(module, in_order())), more.global_step]
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


def test_the_debug_log_is_lightnings(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    differences, wanted = compared(logged, tmp_path)
    assert differences == dict.fromkeys(BACKENDS, "")
    assert any("Trainer: trainer tearing down" in line for line in wanted.log)


def test_a_line_that_is_missing_is_noticed(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    wanted = told(None, logged, tmp_path / "trainer")
    monkeypatch.setattr("unitrain_bridges.lightning.stages._told", lambda *_: None)
    assert parted(wanted, told("ignite", logged, tmp_path / "ignite"))


# --- which package speaks ---------------------------------------------------------------------------------------------


@pytest.fixture
def package(tmp_path, monkeypatch):
    (tmp_path / "awaited_package.py").write_text(
        "import os\nif os.environ.get('BROKEN'):\n    raise OSError\nthere = 1\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    yield "awaited_package"
    sys.modules.pop("awaited_package", None)


def test_what_waits_for_a_package_acts_once_it_is_there(package, monkeypatch):
    seen, before = [], sys.meta_path[:]
    with ExitStack() as stack:
        when_imported(stack, package, lambda: seen.append(sys.modules[package].there))
        monkeypatch.setenv("BROKEN", "1")
        with pytest.raises(OSError):
            importlib.import_module(package)
        assert not seen
        monkeypatch.delenv("BROKEN")
        assert importlib.util.find_spec(package), "whoever only looks imports nothing"
        assert not seen
        importlib.import_module(package)
        importlib.import_module(package)
        assert seen == [1]
        when_imported(stack, package, lambda: seen.append(2))
        when_imported(stack, "a_package_that_never_comes", lambda: seen.append(3))
    assert seen == [1, 2]
    assert sys.meta_path == before


SPEAKS = """
    import logging
    from importlib import import_module
    root = {root!r}
    pl = import_module(root)
    logging.getLogger(root).setLevel(logging.ERROR)
    options = dict(logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False)
    Model = import_module(root + ".demos.boring_classes").BoringModel
    pl.Trainer(max_epochs=1, limit_train_batches=2, limit_val_batches=0, accelerator="cpu", **options).fit(Model())
    from lightning_utilities.core import rank_zero
    print(rank_zero.log.name, rank_zero.rank_zero_deprecation_category.__module__)
"""


@pytest.mark.slow
@pytest.mark.parametrize("root", PACKAGES)
def test_only_the_package_in_use_is_imported(root, tmp_path):
    """Whichever is imported last is the one whose log speaks for both."""
    (tmp_path / "speaks.py").write_text(textwrap.dedent(SPEAKS).format(root=root))
    options = {"cwd": tmp_path, "capture_output": True, "text": True, "timeout": 200}
    wanted = subprocess.run([sys.executable, "speaks.py"], **options, check=True)
    command = [sys.executable, "-m", "unitrain", "run", "speaks.py", "--framework", "ignite"]
    got = subprocess.run(command, **options, check=True)
    assert got.stdout == wanted.stdout
    assert got.stdout.startswith(root)
    assert "`Trainer.fit` stopped" not in got.stderr


def test_a_package_is_redirected_when_it_is_imported(monkeypatch):
    """And put back, also what was imported meanwhile."""
    real, module = pl.Trainer, sys.modules.pop("pytorch_lightning")
    try:
        with LightningBridge().redirected("ignite"):
            assert pl.Trainer is real
            sys.modules["pytorch_lightning"] = module  # as an import does, but for executing it
            finder = sys.meta_path[0]
            finder._act()
            assert issubclass(pl.Trainer, StandInTrainer)
            late = type(sys)("imported_meanwhile")
            late.Trainer = pl.Trainer
            monkeypatch.setitem(sys.modules, "imported_meanwhile", late)
    finally:
        sys.modules["pytorch_lightning"] = module
    assert pl.Trainer is late.Trainer is real
    assert torch.is_grad_enabled()
