"""``Trainer(plugins=...)`` and a strategy of one's own, beside the untouched Trainer."""

from __future__ import annotations

import os
import signal
from importlib import import_module
from pathlib import Path
from unittest.mock import patch

import pytest
import pytorch_lightning as pl
import torch

from tests.bridges.lightning_subject import Steps, in_order, parted, shuffled, told
from tests.bridges.test_lightning_same import BACKENDS, compared
from unitrain import UnsupportedFeatureError
from unitrain_bridges.lightning import trainer as stand_in
from unitrain_bridges.lightning.arguments import refuse_plugin
from unitrain_bridges.lightning.supported import PLUGINS

pytestmark = pytest.mark.filterwarnings("ignore")


def fitted(plugins, steps=Steps, **trainer):
    """Return a work that fits with what ``plugins`` makes of the package and the tools."""

    def work(package, tools):
        made = plugins(package, tools)
        one = tools.trainer(**{"max_epochs": 2, "accelerator": "cpu", **trainer}, plugins=made)
        module = tools.module(steps)
        one.fit(module, shuffled(), in_order())
        found = [one.global_step, str(one.precision), {**one.callback_metrics}]
        return [*found, one.test(module, in_order(), verbose=False), one.predict(module, in_order())]

    return work


# --- precision --------------------------------------------------------------------------------------------------------


class Doubled(Steps):
    """Takes batches of any type."""

    def loss(self, batch):
        x, y = batch
        return torch.nn.functional.mse_loss(self(x), y)


def watching(package, tools):
    """A precision of the author's own: each of its methods is written down, and two of them act."""
    base = package.plugins.Precision
    names = (
        *("convert_module", "convert_input", "convert_output", "module_init_context", "tensor_init_context", "connect"),
        *("forward_context", "train_step_context", "val_step_context", "test_step_context", "predict_step_context"),
        *("pre_backward", "post_backward", "optimizer_step", "main_params", "teardown", "state_dict"),
    )
    made = {name: tools.log.wrapped("precision", name, getattr(base, name)) for name in names}

    class Halving(base):
        def backward(self, tensor, model, optimizer, *given, **options):
            super().backward(tensor / 2, model, optimizer, *given, **options)

        def clip_gradients(self, optimizer, clip_val=0.0, gradient_clip_algorithm=None):
            for one in self.main_params(optimizer):
                one.grad.clamp_(-clip_val, clip_val)

    return type("Watching", (Halving,), {**made, "__repr__": lambda _: "Watching"})()


EQUAL = {
    "bf16-mixed": lambda package, _: package.plugins.MixedPrecision("bf16-mixed", "cpu"),
    "bf16-true": lambda package, _: [package.plugins.HalfPrecision("bf16-true")],
    "64-true": lambda package, _: (package.plugins.DoublePrecision(),),
    "32-true": lambda package, _: [package.plugins.Precision()],
}
"""Plugins that do what a value of ``precision=`` does."""


@pytest.mark.parametrize(
    "precision", [pytest.param(one, marks=() if one == "bf16-mixed" else pytest.mark.slow) for one in EQUAL]
)
def test_a_precision_plugin_is_the_argument(precision, tmp_path):
    by_argument = told("ignite", fitted(lambda *_: None, Doubled, precision=precision), tmp_path / "argument")
    by_plugin = told("ignite", fitted(EQUAL[precision], Doubled), tmp_path / "plugin")
    assert by_argument.error is None
    assert parted(by_argument, by_plugin) == ""


# --- checkpoint I/O ---------------------------------------------------------------------------------------------------


def storing(package, tools):
    """Files of a form of one's own."""

    class Storing(package.plugins.CheckpointIO):
        def save_checkpoint(self, checkpoint, path, storage_options=None):
            tools.log.append(("save", Path(path).name, sorted(checkpoint), storage_options))
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            torch.save({"enveloped": checkpoint}, path)

        def load_checkpoint(self, path, map_location=None, weights_only=None):
            tools.log.append(("load", Path(path).name, str(map_location), weights_only))
            return torch.load(path, weights_only=False)["enveloped"]

        def remove_checkpoint(self, path):
            tools.log.append(("remove", Path(path).name))
            Path(path).unlink()

        def teardown(self):
            tools.log.append(("teardown of the files",))

    return Storing()


def in_a_thread(package, tools):
    return package.plugins.AsyncCheckpointIO()


def saved(plugin):
    """Return a work that saves, goes on and evaluates through a plugin."""

    def work(package, tools):
        saving = package.callbacks.ModelCheckpoint(tools.folder / "files", monitor="val_loss", save_last=True)
        first = tools.trainer(max_epochs=3, callbacks=[saving], plugins=[plugin(package, tools)])
        first.fit(tools.module(), shuffled(), in_order())
        again = tools.trainer(max_epochs=4, enable_checkpointing=False, plugins=[plugin(package, tools)])
        module = tools.module()
        again.fit(module, shuffled(), in_order(), ckpt_path=saving.last_model_path)
        again.save_checkpoint(tools.folder / "by hand.ckpt", storage_options=None)
        found = [again.validate(module, in_order(), ckpt_path=saving.best_model_path, verbose=False)]
        return [*found, again.predict(module, in_order(), ckpt_path=tools.folder / "by hand.ckpt"), again.global_step]

    return work


# --- cluster environments ---------------------------------------------------------------------------------------------


def environments(package):
    return import_module(f"{package.__name__}.plugins.environments")


def cluster(package, tools):
    base = environments(package).LightningEnvironment
    names = ("global_rank", "world_size", "local_rank", "node_rank", "set_global_rank", "validate_settings", "teardown")
    return type("Cluster", (base,), {name: tools.log.wrapped("cluster", name, getattr(base, name)) for name in names})()


class Requeued(Steps):
    """Gets the signal by which SLURM says that its time is over."""

    def on_train_batch_end(self, *_):
        if self.global_step == 11:
            signal.raise_signal(signal.SIGUSR1)


def requeued(package, tools):
    """A job that is told to end writes where it is and asks for another one, which goes on from there."""
    asked = tools.log.append
    call = f"{package.__name__}.trainer.connectors.signal_connector.call"
    found = []
    with patch.dict(os.environ, {"SLURM_JOB_ID": "7"}), patch(call, lambda command: asked(("call", command)) or 0):
        for _ in range(2):
            environment = environments(package).SLURMEnvironment()
            one = tools.trainer(max_epochs=2, plugins=[environment], enable_checkpointing=False)
            one.fit(tools.module(Requeued), shuffled(), in_order())
            found += [one.global_step, {**one.callback_metrics}]
    return found


# --- strategies -------------------------------------------------------------------------------------------------------


def restored_late(package, tools):
    """A strategy of the author's own, whose checkpoint is restored after its setup."""
    base = package.strategies.SingleDeviceStrategy
    names = ("setup", "load_checkpoint", "load_model_state_dict", "load_optimizer_state_dict")
    watched = {name: tools.log.wrapped("strategy", name, getattr(base, name)) for name in names}
    kind = type("Late", (base,), {**watched, "restore_checkpoint_after_setup": True, "__repr__": lambda _: "Late"})

    def trainer(epochs):
        strategy = kind(device=torch.device("cpu"), accelerator=package.accelerators.CPUAccelerator())
        return tools.trainer(max_epochs=epochs, strategy=strategy, enable_checkpointing=False)

    first, second = trainer(1), trainer(2)
    first.fit(tools.module(Steps), shuffled(), in_order())
    first.save_checkpoint("late.ckpt")
    module = tools.module(Steps)
    second.fit(module, shuffled(), in_order(), ckpt_path="late.ckpt")
    tested = second.test(module, in_order(), ckpt_path="late.ckpt", verbose=False)
    return [second.global_step, {**second.callback_metrics}, tested]


# --- all of them ------------------------------------------------------------------------------------------------------


def unsynchronized(package, _):
    """One process has nothing to synchronize."""
    return [package.plugins.TorchSyncBatchNorm()]


def two_of_a_kind(package, _):
    return [package.plugins.TorchCheckpointIO(), package.plugins.TorchCheckpointIO()]


WORKS = {
    **{f"precision: {name}": fitted(made, Doubled) for name, made in EQUAL.items()},
    "precision of one's own": fitted(watching, gradient_clip_val=0.01, accumulate_grad_batches=2),
    "files of one's own": saved(storing),
    "files in a thread": saved(in_a_thread),
    "cluster": fitted(cluster),
    "requeued": requeued,
    "strategy that restores late": restored_late,
    "several": fitted(lambda *given: [watching(*given), storing(*given), cluster(*given)], gradient_clip_val=0.1),
    "synchronization": fitted(unsynchronized),
    "wrong: two of a kind": fitted(two_of_a_kind),
    "wrong: no plugin": fitted(lambda *_: [3]),
    "wrong: precision twice": fitted(watching, precision="64-true"),
}
FAST = {
    "precision of one's own",
    "files of one's own",
    "requeued",
    "strategy that restores late",
    "wrong: two of a kind",
}


@pytest.mark.parametrize("name", [pytest.param(one, marks=() if one in FAST else pytest.mark.slow) for one in WORKS])
def test_the_same(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    differences, wanted = compared(WORKS[name], tmp_path)
    assert differences == dict.fromkeys(BACKENDS, "")
    assert (wanted.error is not None) == name.startswith("wrong"), wanted.error


@pytest.mark.parametrize("name", PLUGINS)
def test_a_plugin_of_other_hardware_is_refused(name):
    kind = getattr(pl.plugins, name)
    for one in (kind, type("Mine", (kind,), {})):
        with pytest.raises(UnsupportedFeatureError, match=f"the plugin {one.__name__} only works on 'lightning'"):
            refuse_plugin(one.__new__(one), "ignite")


def _as_torch_does(self, filepath, weights_only=None, storage_options=None):
    torch.save(self._checkpoint_connector.dump_checkpoint(weights_only), filepath)


def _without_plugins(*given, original=stand_in.check_arguments):
    return {**original(*given), "plugins": None}


FAULTS = {
    "files are written past the plugin": (
        "files of one's own",
        stand_in.StandInTrainer,
        "save_checkpoint",
        _as_torch_does,
    ),
    "plugins are dropped": ("precision of one's own", stand_in, "check_arguments", _without_plugins),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_noticed(fault, tmp_path, monkeypatch):
    work, where, name, wrong = FAULTS[fault]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(where, name, wrong)
    wanted = told(None, WORKS[work], tmp_path / "trainer")
    assert parted(wanted, told("ignite", WORKS[work], tmp_path / "ignite"))
