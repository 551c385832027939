"""A module that overrides no hook is trained elsewhere by fewer calls: to the trace that the untouched Trainer leaves."""

from __future__ import annotations

import copy
import functools
import os
from unittest.mock import Mock, patch

import pytest
import torch

from tests.bridges.lightning_subject import Steps, adam, in_order, parted, shuffled, told
from unitrain_bridges.lightning import repeated_log
from unitrain_bridges.lightning.hooks import Hooks
from unitrain_bridges.lightning.repeated_log import RepeatedLog
from unitrain_bridges.lightning.self_log import SelfLog
from unitrain_bridges.lightning.short_way import ShortWay
from unitrain_bridges.lightning.stock import does_nothing
from unitrain_bridges.lightning.trainer import StandInTrainer

pytestmark = pytest.mark.skipif(bool(os.environ.get("PLAIN_PATH")), reason="looks into the short way, which is off")


class Logging(Steps):
    """Logs in every manner, and changes what it has logged."""

    def training_step(self, batch, batch_idx):
        loss = self.loss(batch)
        seen = torch.full((1,), float(batch_idx))
        self.log("seen", seen, prog_bar=True)
        seen.add_(100)
        self.log("loss", loss, on_step=True, on_epoch=True, prog_bar=True)
        self.log("mean", loss, on_step=False, on_epoch=True)
        self.log("weighted", loss, on_epoch=True, batch_size=batch_idx + 1)
        self.log("largest", loss, on_step=False, on_epoch=True, reduce_fx="max")
        self.log("count", torch.tensor(batch_idx))
        self.log("double", loss.detach().double(), on_epoch=True)
        self.log("half", loss.detach().half(), on_epoch=True)
        self.log("number", 0.5)
        self.log_dict({"a": loss, "b": batch_idx})
        if batch_idx % 2:
            self.log("sometimes", loss, on_step=True, on_epoch=True)
        return {"loss": loss, "more": loss.detach() * 2}

    def on_train_epoch_end(self):
        self.log("at_the_end", torch.tensor(float(self.current_epoch)))


class Contradicting(Steps):
    def training_step(self, batch, batch_idx):
        loss = self.loss(batch)
        self.log("loss", loss)
        if batch_idx == 3:
            self.log("loss", loss, on_epoch=True)
        return loss


class Vector(Steps):
    def training_step(self, batch, batch_idx):
        loss = self.loss(batch)
        self.log("loss", loss if batch_idx < 3 else loss.expand(2))
        return loss


class Nested(Steps):
    """Logs from the hooks that lie within a step."""

    def training_step(self, batch, batch_idx):
        loss = self.loss(batch)
        self.log("loss", loss)
        return loss

    def on_before_zero_grad(self, optimizer):
        self.log("before_zero_grad", torch.tensor(1.0))

    def on_after_backward(self):
        self.log("gradient", self.head.weight.grad.norm(), on_epoch=True)


class NoLoss(Steps):
    def training_step(self, batch, batch_idx):
        return None if batch_idx == 2 else super().training_step(batch, batch_idx)


class Keeping(Steps):
    def training_step(self, batch, batch_idx):
        self.__dict__["kept"] = self.loss(batch)
        return self.kept


class Looking(Keeping):
    """Looks at the loss before its backward: Lightning has divided it, by 1 too."""

    def on_before_backward(self, loss):
        self.log("same", float(loss is self.kept))


class Accumulating(Steps):
    """Changes within an epoch how many batches are accumulated."""

    def on_train_batch_start(self, batch, batch_idx):
        self.trainer.accumulate_grad_batches = 1 + batch_idx // 3


class Manual(Steps):
    def __init__(self, **options):
        super().__init__(**options)
        self.automatic_optimization = False

    def training_step(self, batch, batch_idx):
        optimizer = self.optimizers()
        loss = self.loss(batch)
        optimizer.zero_grad()
        self.manual_backward(loss)
        optimizer.step()
        self.log("loss", loss, on_step=True, on_epoch=True)

    def configure_optimizers(self):
        return adam(self)


def fit(steps=Logging, trainer=None, **module):
    """Return a work that fits a module in whose hooks nothing is written down."""

    def work(package, tools):
        one = tools.trainer(**{"max_epochs": 2, **(trainer or {})})
        one.fit(tools.module(steps, listens=False, **module), shuffled(), in_order())
        return [one.state.status.value, one.global_step, {**one.callback_metrics}, {**one.logged_metrics}]

    return work


CASES = {
    "every manner of logging": fit(),
    "clipping and accumulation": fit(trainer={"gradient_clip_val": 0.1, "accumulate_grad_batches": 3}),
    "bf16-mixed": fit(trainer={"precision": "bf16-mixed"}),
    "validation within": fit(trainer={"val_check_interval": 3}),
    "lbfgs": fit(how="lbfgs"),
    "schedule": fit(how="one cycle"),
    "anomaly": fit(trainer={"detect_anomaly": True}),
    "no logger": fit(trainer={"logger": False}),
    "rows at each step": fit(trainer={"log_every_n_steps": 1}),
    "hooks within a step": fit(Nested),
    "no loss": fit(NoLoss),
    "a loss that is looked at": fit(Looking),
    "accumulation that changes": fit(Accumulating),
    "manual": fit(Manual),
    "twice with other arguments": fit(Contradicting),
    "a vector": fit(Vector),
}
FAST = {"every manner of logging", "clipping and accumulation", "hooks within a step", "accumulation that changes"}
"""What the fast tier runs; the others differ from one of these in one thing."""


@pytest.mark.parametrize("name", [pytest.param(one, marks=() if one in FAST else pytest.mark.slow) for one in CASES])
def test_both_ways_are_the_trainers(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    wanted = told(None, CASES[name], tmp_path / "trainer")
    assert parted(wanted, told("ignite", CASES[name], tmp_path / "ignite")) == ""
    assert parted(wanted, told("reference", CASES[name], tmp_path / "reference")) == ""
    monkeypatch.setattr(StandInTrainer, "short_way", False)
    assert parted(wanted, told("ignite", CASES[name], tmp_path / "long")) == ""


@pytest.mark.parametrize("short", [True, False])
def test_the_short_way_is_taken(short, tmp_path, monkeypatch):
    monkeypatch.setattr(StandInTrainer, "short_way", short)
    with (
        patch.object(ShortWay, "step", autospec=True, side_effect=ShortWay.step) as stepped,
        patch.object(ShortWay, "move", autospec=True, side_effect=ShortWay.move) as moved,
        patch.object(RepeatedLog, "_add", autospec=True, side_effect=RepeatedLog._add) as added,
    ):
        told("ignite", fit(), tmp_path)
    assert stepped.call_count == (16 if short else 0)
    assert moved.call_count == (16 if short else 0)
    assert (added.call_count > 60) == short


def _unscaled(self, batch):
    return [batch[0] * 1.0001, batch[1]]


def _unclipped(self, wrapper, closure):
    wrapper.optimizer.step(closure=closure)


def _heavier(self, logged, value, batch_size):
    return self._results.update_metrics(logged.key, value * 1.0001, 1)


def _unnamed(self, name, *arguments, **options):
    return getattr(self._strategy.lightning_module, name)(*arguments, **options)


def _undivided(self, output):
    return self._trainer.parts.ClosureResult(output)


FAULTS = {
    "a loss that is not divided": (ShortWay, "result", _undivided),
    "a batch that is another": (ShortWay, "move", _unscaled),
    "hooks and clipping left out": (ShortWay, "step", _unclipped),
    "a value that is another": (RepeatedLog, "_add", _heavier),
    "a hook without its name": (Hooks, "module", _unnamed),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_of_the_short_way_is_noticed(name, tmp_path):
    work = CASES["clipping and accumulation"]
    wanted = told(None, work, tmp_path / "trainer")
    with patch.object(*FAULTS[name]):
        assert parted(wanted, told("ignite", work, tmp_path / "ignite"))


def patched(package, name):
    """Return a class of Lightning, the name of a method in it, and what stands where the short way is not taken."""
    optimizer = package.core.optimizer.LightningOptimizer
    return {
        "optimizer_step": package.LightningModule,
        "transfer_batch_to_device": package.LightningModule,
        "log": package.LightningModule,
        "on_train_batch_end": package.Callback,
        "step": optimizer,
        "backward": package.strategies.Strategy,
        "_wrap_closure": package.plugins.Precision,
    }[name]


@pytest.mark.parametrize("wraps", [False, True])
@pytest.mark.parametrize(
    "name",
    ["optimizer_step", "transfer_batch_to_device", "log", "on_train_batch_end", "step", "backward", "_wrap_closure"],
)
def test_what_is_replaced_in_lightnings_classes_is_called(name, wraps, tmp_path):
    def calls(framework):
        count = []

        def work(package, tools):
            owner = patched(package, name)
            original = getattr(owner, name)

            def counting(*given, **options):
                count.append(name)
                return original(*given, **options)

            one = tools.trainer(max_epochs=1, limit_train_batches=4, callbacks=[package.Callback()])
            with patch.object(owner, name, functools.wraps(original)(counting) if wraps else counting):
                one.fit(tools.module(listens=False), shuffled())

        assert told(framework, work, tmp_path / str(framework)).error is None
        return len(count)

    assert calls("ignite") == calls(None) > 0


def test_a_callback_whose_class_has_no_hooks_listens(tmp_path):
    """As a mock of one does: what it has of its own is found in no class."""

    def seen(framework):
        losses = []

        def work(package, tools):
            watching = Mock(spec=package.Callback)
            watching.on_before_backward = lambda trainer, module, loss: losses.append(loss is module.kept)
            trainer = tools.trainer(max_epochs=1, callbacks=[watching], enable_checkpointing=False)
            trainer.fit(tools.module(Keeping, listens=False), shuffled())

        assert told(framework, work, tmp_path / str(framework)).error is None
        return losses

    assert seen("ignite") == seen(None) == [False] * 8


def test_a_wrapper_of_an_optimizer_keeps_its_step(tmp_path):
    def calls(framework):
        count = []

        class Replacing(Steps):
            def on_train_start(self):
                wrapper = self.optimizers()
                step = wrapper.step
                wrapper.step = lambda *given, **options: (count.append(1), step(*given, **options))

        told(framework, fit(Replacing), tmp_path / str(framework))
        return len(count)

    assert calls("ignite") == calls(None) == 16


def test_a_fit_within_a_fit_logs_for_itself(tmp_path):
    class Inner(Steps):
        seen: list

        def on_train_epoch_end(self):
            if self.seen:
                return
            outer = self.trainer
            self.seen.append(None)
            one = self.package.Trainer(
                max_epochs=1, logger=False, enable_checkpointing=False, enable_progress_bar=False
            )
            one.fit(self, shuffled())
            self.seen[0] = sorted(one.callback_metrics)
            self.trainer = outer

    def work(package, tools):
        Inner.seen, Inner.package = [], package
        tools.trainer(max_epochs=1).fit(tools.module(Inner, listens=False), shuffled())
        return Inner.seen

    assert told("ignite", work, tmp_path / "ignite").result == told(None, work, tmp_path / "trainer").result


def test_numbers_of_samples_are_not_kept(tmp_path):
    kept = []

    class Masked(Steps):
        def training_step(self, batch, batch_idx):
            loss = self.loss(batch)
            self.log("loss", loss, on_epoch=True, batch_size=torch.tensor(batch_idx + 1))
            kept.append(len(repeated_log._RUNNING[id(self)]._known))
            return loss

    told("ignite", fit(Masked), tmp_path)
    assert max(kept) == 1


def _silent(*given, **options):
    """Log nothing."""


def test_a_log_that_the_author_sets_stays(tmp_path):
    class Own(Steps):
        def on_train_start(self):
            vars(self)["log"] = _silent

    def work(package, tools):
        module = tools.module(Own, listens=False)
        tools.trainer(max_epochs=1).fit(module, shuffled())
        return vars(module)["log"] is _silent

    assert told("ignite", work, tmp_path / "ignite").result == told(None, work, tmp_path / "trainer").result == "True"


def test_what_a_callback_keeps_of_the_values_stays_new(tmp_path):
    def work(package, tools):
        seen = []

        class Keeping(package.Callback):
            def on_train_batch_end(self, trainer, *_):
                if not seen:
                    self.kept = trainer.callback_metrics
                seen.append({**self.kept})

        quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
        one = package.Trainer(max_epochs=1, callbacks=[Keeping()], **quiet)  # nobody else looks
        one.fit(tools.module(Nested, listens=False), shuffled())
        return seen

    wanted = told(None, work, tmp_path / "trainer").result
    assert told("ignite", work, tmp_path / "ignite").result == wanted
    with patch.object(SelfLog, "_watched", lambda self: False):
        assert told("ignite", work, tmp_path / "not watched").result != wanted


class Copying(Logging):
    """Copies itself while it is trained, and lets the copies log: they have no Trainer, which Lightning warns of."""

    def training_step(self, batch, batch_idx):
        for copied in (copy.copy(self), copy.deepcopy(self)):
            copied.log("copied", torch.ones(()))
        assert "log" not in vars(self)
        return super().training_step(batch, batch_idx)


class Relogging(Logging):
    """Replaces ``log`` in its class in the middle of an epoch."""

    def on_train_batch_start(self, batch, batch_idx):
        if batch_idx == 2:
            original = type(self).log
            type(self).log = lambda module, name, *given, **options: original(module, f"new_{name}", *given, **options)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", [Copying, Relogging])
def test_only_the_module_itself_logs_the_short_way(kind, tmp_path):
    def work(package, tools):
        fresh = type(kind.__name__, (kind,), {})
        before = package.LightningModule.log
        one = tools.trainer(max_epochs=2)
        one.fit(tools.module(fresh, listens=False), shuffled())
        assert package.LightningModule.log is before
        return {name: value.item() for name, value in sorted(one.callback_metrics.items())}

    wanted = told(None, work, tmp_path / "trainer")
    got = told("ignite", work, tmp_path / "ignite")
    assert wanted.error is None
    assert (got.error, got.result) == (None, wanted.result)


def test_a_body_that_answers_is_not_nothing():
    def answers(self):
        """Answer."""
        return 5

    assert not does_nothing(answers)
    assert does_nothing(_silent)
