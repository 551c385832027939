"""The traces can differ: one fault at a time, seeded into a bridge, and it is noticed; so is an engine that is not the one."""

import contextlib
from collections import deque
from contextlib import contextmanager
from unittest.mock import patch

import pytest
from ignite.engine import Engine

from tests.bridges.running import OTHER, SCRIPTS, redirected
from tests.bridges.trace import difference, unproved
from tests.peers.plain_path import plain_path
from unitrain_bridges.ignite.bridge import IgniteBridge
from unitrain_bridges.ignite.engine_run import EngineRun
from unitrain_bridges.ignite.foreign_program import EngineProgram
from unitrain_bridges.lightning import epoch, evaluation, fit
from unitrain_bridges.lightning.bridge import LightningBridge
from unitrain_bridges.lightning.foreign_program import ModuleProgram
from unitrain_bridges.lightning.hooks import Hooks
from unitrain_bridges.lightning.optimization import AutomaticOptimization


def wrapped(owner, name, fault):
    """Return the patch that puts ``fault(original, *arguments)`` in the place of a function."""
    original = owner.__dict__[name]
    return patch.object(owner, name, lambda *given, **options: fault(original, *given, **options))


def forgotten(hook):
    def both(original, self, name, *arguments):
        return None if name == hook else original(self, name, *arguments)

    return lambda: wrapped(Hooks, "both", both)


def optimizer_steps_twice():
    def step(original, self, batch_idx, closure):
        original(self, batch_idx, closure)
        self.trainer.optimizers[0].step()

    return wrapped(AutomaticOptimization, "_optimizer_step", step)


def but_the_last(original, self):
    held = deque()
    for one in original(self):
        if held:
            yield held.popleft()
        held.append(one)


def schedule_steps_before_the_validation():
    def step(original, loop, interval, *, plateau):
        original(loop, interval, plateau=plateau)
        if interval == "epoch":
            original(loop, interval, plateau=not plateau)

    # it is called at the last batch, and after the validation; now the first of them does it all
    stack = contextlib.ExitStack()
    stack.enter_context(wrapped(epoch, "step_schedules", step))
    stack.enter_context(patch.object(fit, "step_schedules", lambda *_, **__: None))
    return stack


def schedule_steps_after_the_validation():
    original = fit.step_schedules

    def at_the_end(loop, interval, *, plateau):
        original(loop, interval, plateau=False)
        original(loop, interval, plateau=plateau)

    def at_the_last_batch(loop, interval, *, plateau):
        if interval != "epoch":
            original(loop, interval, plateau=plateau)

    stack = contextlib.ExitStack()
    stack.enter_context(patch.object(epoch, "step_schedules", at_the_last_batch))
    stack.enter_context(patch.object(fit, "step_schedules", at_the_end))
    return stack


def metric_misses_the_first_batch():
    def step(original, self, batch, batch_idx, dataloader_idx):
        output = original(self, batch, batch_idx, dataloader_idx)
        if batch_idx == 0:
            self.trainer.logging.reset_results()
        return output

    return wrapped(evaluation.EvaluationLoop, "_evaluation_step", step)


def metric_is_not_weighted():
    def step(original, self, batch, batch_idx, dataloader_idx):
        with patch.object(self.trainer.logging, "on_batch_start", lambda *_: None):
            return original(self, batch, batch_idx, dataloader_idx)

    return wrapped(evaluation.EvaluationLoop, "_evaluation_step", step)


def rows_are_logged_a_step_late():
    late = property(lambda self: self.epoch_loop._batches_that_stepped)
    return patch.object(fit.FitLoop, "logged_step", late)


def draw_of_random_numbers():
    def start(original, self):
        import torch

        torch.rand(1)
        original(self)

    return wrapped(fit.FitLoop, "start", start)


LIGHTNING = {
    "a hook of the epoch is not called": ("siamese", forgotten("on_validation_epoch_end")),
    "a hook with a batch is not called": ("warmup_hooks", forgotten("on_train_batch_end")),
    "an optimizer steps twice": ("resume", optimizer_steps_twice),
    "the last batch is dropped": ("resume", lambda: wrapped(ModuleProgram, "_read", but_the_last)),
    "the last batch of a validation is dropped": (
        "resume",
        lambda: wrapped(evaluation.EvaluationLoop, "_batches", but_the_last),
    ),
    "a schedule on a plateau steps before the validation": ("regression_plateau", schedule_steps_before_the_validation),
    "a schedule steps after the checkpoint is written": ("resume", schedule_steps_after_the_validation),
    "a metric misses the first batch": ("regression_plateau", metric_misses_the_first_batch),
    "a metric is not weighted by the batches": ("regression_plateau", metric_is_not_weighted),
    "rows are logged a step late": ("autoencoder_callbacks", rows_are_logged_a_step_late),
    "one random number more is drawn": ("resume", draw_of_random_numbers),
}


def filters_are_ignored():
    return patch.object(Engine, "_handler_wrapper", lambda engine, handler, event, event_filter: handler)


def unheard(event):
    def timed(original, self, fired):
        return 0.0 if fired.name == event else original(self, fired)

    return lambda: wrapped(EngineRun, "_timed", timed)


def nobody_heeds_a_stop():
    return wrapped(EngineRun, "_heed", lambda original, self, asked=True: original(self, asked=False))


def step_is_made_twice():
    def batch(original, self, given):
        verdict = original(self, given)
        for optimizer in self.optimizers.values():
            optimizer.step()
        return verdict

    return wrapped(EngineProgram, "train_batch", batch)


def epochs_are_a_batch_short():
    def fetched(original, self):
        if self._counter == self._state.epoch_length - 1:
            return False
        return (yield from original(self))

    return wrapped(EngineRun, "_fetched", fetched)


def epochs_are_counted_from_one_more():
    def run(original, self):
        self._engine.state.epoch += 1
        yield from original(self)

    return wrapped(EngineRun, "run", run)


IGNITE = {
    "a handler's filter is ignored": ("handler_zoo", filters_are_ignored),
    "an event is not fired": ("autoencoder_early_stop", unheard("EPOCH_COMPLETED")),
    "the end is not told": ("handler_zoo", unheard("COMPLETED")),
    "terminate() is not heeded": ("stopping", nobody_heeds_a_stop),
    "an optimizer steps twice": ("autoencoder_early_stop", step_is_made_twice),
    "the last batch is dropped": ("resume", epochs_are_a_batch_short),
    "an epoch is missed": ("regression_plateau", epochs_are_counted_from_one_more),
}


def tiered(faults):
    return [pytest.param(one, id=one, marks=pytest.mark.slow if one in SLOW else ()) for one in faults]


SLOW = {
    "a hook with a batch is not called",
    "the last batch of a validation is dropped",
    "a metric is not weighted by the batches",
    "rows are logged a step late",
    "an event is not fired",
    "an epoch is missed",
}
"""Relatives of faults that the fast tier has."""


@pytest.mark.parametrize("fault", tiered(LIGHTNING))
def test_a_fault_of_lightnings_bridge_is_noticed(fault, native):
    script, seeded = LIGHTNING[fault]
    noticed(SCRIPTS / "lightning" / f"{script}.py", seeded, native)


@pytest.mark.parametrize("fault", tiered(IGNITE))
def test_a_fault_of_ignites_bridge_is_noticed(fault, native):
    script, seeded = IGNITE[fault]
    noticed(SCRIPTS / "ignite" / f"{script}.py", seeded, native)


def noticed(path, seeded, native, framework="reference"):
    wanted = native(path)
    with seeded():
        got = redirected(path, framework)
    assert difference(wanted, got)


FAULTS = {"lightning": LIGHTNING, "ignite": IGNITE}


@pytest.mark.slow
@pytest.mark.parametrize(("home", "fault"), [(home, fault) for home, faults in FAULTS.items() for fault in faults])
def test_a_fault_is_noticed_on_the_plain_path(home, fault, native):
    script, seeded = FAULTS[home][fault]
    with plain_path():
        noticed(SCRIPTS / home / f"{script}.py", seeded, native, OTHER[home])


@contextmanager
def nothing_is_redirected(self, framework):
    yield


@pytest.mark.parametrize(("home", "bridge", "wanted"), [
    ("lightning", LightningBridge, "ignite"), ("ignite", IgniteBridge, "lightning"),
    ("lightning", LightningBridge, "reference"), ("ignite", IgniteBridge, "reference"),
])  # fmt: skip
def test_a_silent_fall_back_is_noticed(home, bridge, wanted, native, capsys):
    path = SCRIPTS / home / "resume.py"
    with patch.object(bridge, "redirected", nothing_is_redirected):
        got = redirected(path, wanted)
    assert home in unproved(got, wanted, native(path))
    assert got.error == ("NotRun", "exit status 4")
    assert f"none of them on {wanted!r}" in capsys.readouterr().err


def test_a_trace_without_a_step_proves_nothing(native):
    trace = native(SCRIPTS / "ignite" / "resume.py")
    empty = type(trace)(error=None, rng=trace.rng)
    assert unproved(empty, "ignite", empty) == "called no optimizer step"
