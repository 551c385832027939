"""What a script replaces while it trains acts at once, as on Lightning, or is refused; so is what would never be called."""

from __future__ import annotations

import os
from types import MethodType
from unittest.mock import patch

import pytest
import torch

from tests.bridges.lightning_subject import Steps, parted, shuffled, told
from unitrain_bridges.lightning.short_way import ShortWay

pytestmark = pytest.mark.skipif(bool(os.environ.get("PLAIN_PATH")), reason="looks into the short way, which is off")

AT = 3


def _slow(module, epoch, batch_idx, optimizer, closure):
    for group in optimizer.param_groups:
        group["lr"] = 1e-4
    optimizer.step(closure)


def _halved(_, batch, device=None, dataloader_idx=0):
    return [part / 2 if part.is_floating_point() else part for part in batch]


CHANGES = {
    "optimizer_step": lambda module: setattr(module, "optimizer_step", MethodType(_slow, module)),
    "zero_grad": lambda module: setattr(module, "optimizer_zero_grad", lambda *_: None),
    "transfer": lambda module: setattr(module, "transfer_batch_to_device", MethodType(_halved, module)),
    "clipping": lambda module: setattr(
        module,
        "configure_gradient_clipping",
        lambda optimizer, *_, **__: torch.nn.utils.clip_grad_norm_(module.parameters(), 1e-3),
    ),
    "class": lambda module: setattr(type(module), "optimizer_step", _slow),
    "strategy": lambda module: setattr(
        module.trainer.strategy, "batch_to_device", lambda batch, *_, **__: _halved(None, batch)
    ),
    "precision": lambda module: setattr(
        module.trainer.precision_plugin, "convert_input", lambda batch: _halved(None, batch)
    ),
    "wrapper": lambda module: setattr(
        module.trainer.strategy._lightning_optimizers[0], "step", lambda closure=None, **_: closure()
    ),
}
"""What is replaced in a hook of the fourth batch."""


EARLY = [(name, "start") for name in CHANGES] + [("zero_grad", "step"), ("clipping", "step")]
"""Changes that act in the same batch; the others act from the next one on, at which is looked anyway."""


def training(package, tools, change, moment):
    """Train two epochs, and change something at a moment of a batch."""

    class Changed(Steps):
        def training_step(self, batch, batch_idx):
            if moment == "step" and batch_idx == AT and self.trainer.current_epoch == 0:
                change(self)
            return self.loss(batch)

        def on_train_batch_start(self, batch, batch_idx):
            if moment == "start" and batch_idx == AT and self.trainer.current_epoch == 0:
                change(self)

    tools.trainer(max_epochs=2).fit(tools.module(Changed, listens=False), shuffled())


@pytest.mark.parametrize("moment", ["start", "step"])
@pytest.mark.parametrize("name", CHANGES)
def test_it_acts_at_once(name, moment, tmp_path):
    def work(package, tools):
        training(package, tools, CHANGES[name], moment)

    wanted = told(None, work, tmp_path / "trainer")
    assert not parted(wanted, told("ignite", work, tmp_path / "ignite"))
    assert wanted.error is None


@pytest.mark.parametrize(("name", "moment"), EARLY)
def test_without_a_second_look_it_would_be_noticed(name, moment, tmp_path, monkeypatch):
    def work(package, tools):
        training(package, tools, CHANGES[name], moment)

    monkeypatch.setattr(ShortWay, "look", lambda *_: None)
    assert parted(told(None, work, tmp_path / "trainer"), told("ignite", work, tmp_path / "ignite"))


def test_an_exchanged_profiler_is_stopped_as_it_was_started(tmp_path):
    def work(package, tools):
        class Exchanging(Steps):
            def on_train_batch_start(self, batch, batch_idx):
                self.trainer.profiler = package.profilers.SimpleProfiler(dirpath=tmp_path, filename="second")

        profiler = package.profilers.SimpleProfiler(dirpath=tmp_path, filename="first")
        tools.trainer(max_epochs=1, profiler=profiler).fit(tools.module(Exchanging, listens=False), shuffled())
        return sorted(profiler.recorded_durations)

    wanted, got = told(None, work, tmp_path / "trainer"), told("ignite", work, tmp_path / "ignite")
    assert (got.error, got.result) == (None, wanted.result)


def test_a_logger_is_asked_for_its_folder_before_training(tmp_path):
    """It may make the folder then."""

    def work(package, tools):
        class Files(package.loggers.logger.Logger):
            name, version = "files", 0

            @property
            def save_dir(self):
                tools.log.append(("save_dir", "asked"))
                return str(tmp_path)

            def log_hyperparams(self, *_, **__):
                """Do nothing."""

            def log_metrics(self, *_, **__):
                """Do nothing."""

        options = {"max_epochs": 1, "logger": Files(), "enable_checkpointing": False}
        tools.trainer(**options).fit(tools.module(Steps), shuffled())

    wanted = told(None, work, tmp_path / "trainer")
    assert wanted.log[0] == "('save_dir', 'asked')"
    assert not parted(wanted, told("ignite", work, tmp_path / "ignite"))


# --- what would never be called ---------------------------------------------------------------------------------------


def own_stage(package, tools, fit):
    class Own(package.Trainer):
        def _run_stage(self):
            return super()._run_stage()

    fit(Own(logger=False))


def patched_class(package, tools, fit):
    with patch.object(package.Trainer, "_run_stage", lambda self: None, create=True):
        fit(package.Trainer(logger=False))


def own_loop(package, tools, fit):
    class Loop(package.loops._FitLoop):
        """One's own."""

    trainer = tools.trainer()
    trainer.fit_loop = Loop(trainer)
    fit(trainer)


def patched_loop(package, tools, fit):
    with patch.object(package.loops._FitLoop, "advance", lambda self: None):
        fit(tools.trainer())


def patched_run(package, tools, fit):
    with patch.object(package.loops._FitLoop, "run", lambda self: None):
        fit(tools.trainer())


def hook_of_a_loop(package, tools, fit):
    trainer = tools.trainer()
    trainer.fit_loop.on_advance_start = lambda *_: None
    fit(trainer)


REFUSED = {
    own_stage: "Own._run_stage()",
    patched_class: "Trainer._run_stage()",
    own_loop: "trainer.fit_loop = Loop(...)",
    patched_loop: "_FitLoop.advance, which was replaced,",
    patched_run: "_FitLoop.run, which was replaced,",
    hook_of_a_loop: "trainer.fit_loop.on_advance_start = ...",
}


@pytest.mark.parametrize("work", REFUSED, ids=lambda work: work.__name__)
def test_what_would_never_be_called_is_refused(work, tmp_path):
    def refused(package, tools):
        module = tools.module(Steps, listens=False)
        work(package, tools, lambda trainer: trainer.fit(module, shuffled()))

    got = told("ignite", refused, tmp_path / "ignite")
    assert got.error[0] == "UnsupportedFeatureError"
    assert got.error[1].startswith(f"{REFUSED[work]} is never called on 'ignite'")
    assert not got.steps
