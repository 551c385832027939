"""Profiles: the same parts and counts on every backend, torch's profiler stepped and stopped, nothing where it is off."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from unitrain import (
    Callback,
    ConfigError,
    CSVLogger,
    Event,
    ModelCheckpoint,
    TrainerConfig,
    UnifiedTrainer,
)
from unitrain.testing import cases
from unitrain.testing.models import loader
from unitrain.utilities.profiling import Clock, Profile, ProfileRow, handler_name

FRAMEWORKS = ("reference", "lightning", "ignite")


class Watching(Callback):
    def on_batch_end(self, run):
        pass


def own_handler(run):
    pass


def manual(run, batch):
    loss = run.spec.loss(run.model(batch[0]), batch[1])
    run.backward(loss)
    run.step()
    return {"loss": loss, "output": run.model(batch[0]), "target": batch[1]}


def stream():
    return (batch for batch in [*loader()])


class Unsized:
    def __iter__(self):
        return iter([*loader()])


RUNS = {
    "plain": ({}, {}, loader),
    "accumulating": ({}, {"accumulate_grad_batches": 4}, loader),
    "closure": ({"optimizer": "lbfgs"}, {}, loader),
    "manual": ({"training_step": manual, "automatic_optimization": False}, {}, loader),
    "scaled": ({}, {"precision": "16-mixed"}, loader),
    "64-true": ({}, {"precision": "64-true"}, loader),
    "unsized": ({}, {}, Unsized),
    "one-shot": ({}, {"max_epochs": 1}, stream),
    "stopped": ({}, {"max_steps": 8}, loader),
    "midway validation": ({}, {"val_check_interval": 2}, loader),
    "limited": ({}, {"limit_train_batches": 3, "limit_val_batches": 2}, Unsized),
    "overfit": ({}, {"overfit_batches": 2}, loader),
}


def counts(framework, name, folder):
    """Return the parts of a run and their calls."""
    changes, options, data = RUNS[name]
    torch.manual_seed(0)
    spec = cases.spec(callbacks=[Watching(), ModelCheckpoint(folder / "ckpt")], **changes)
    options = {"max_epochs": 2, "seed": 1, "loggers": [CSVLogger(folder / "runs")], "log_every_n_steps": 2, **options}
    trainer = UnifiedTrainer(framework, profiler="simple", enable_progress_bar=False, **options)
    trainer.on(Event.EPOCH_END, own_handler)
    result = trainer.fit(spec, data(), loader(samples=10))
    assert result.profile is trainer.profile
    return {row.part: row.calls for row in result.profile.rows}


@pytest.mark.parametrize("name", RUNS)
def test_same_parts_and_counts_on_every_backend(name, tmp_path):
    found = {framework: counts(framework, name, tmp_path / framework) for framework in FRAMEWORKS}
    assert list(found["lightning"].items()) == list(found["ignite"].items()) == list(found["reference"].items())


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_counts_are_as_by_hand(framework, tmp_path):
    """Six batches of 22 samples, three of 10; two epochs."""
    found = counts(framework, "accumulating", tmp_path)
    assert found == {
        "load train batch": 12,
        "training step": 12,
        "backward": 12,
        "optimizer step": 4,
        "validation": 2,
        "load val batch": 6,
        "val step": 6,
        "write checkpoint": 2,
        "handler ModelCheckpoint.decide": 2,
        "handler ModelCheckpoint.on_batch_end": 12,
        "handler ModelCheckpoint.on_checkpoint_saved": 2,
        "handler ModelCheckpoint.on_fit_end": 1,
        "handler ModelCheckpoint.on_val_end": 2,
        "handler Watching.on_batch_end": 12,
        "handler own_handler": 2,
        "tracker CSVLogger": found["tracker CSVLogger"],
    }


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_table_is_shown_at_the_end_and_fits(framework, make_spec, make_batches, capsys):
    trainer = UnifiedTrainer(framework, max_epochs=1, profiler="simple", enable_progress_bar=False)
    trainer.on(Event.BATCH_END, type("A" * 120, (), {"__call__": lambda self, run: None})())
    result = trainer.fit(make_spec(), make_batches())
    assert capsys.readouterr().out == f"{result.profile}\n"
    assert max(map(len, str(result.profile).splitlines())) <= 100
    assert sum(row.seconds for row in result.profile.rows) <= result.profile.total
    assert trainer.test(dataloaders=make_batches())
    assert [row.part for row in trainer.profile.rows] == ["load test batch", "test step"]
    assert "test step" in capsys.readouterr().out


def test_table_is_as_by_hand():
    profile = Profile((ProfileRow("backward", 1200, 0.6), ProfileRow("validation", 1, 0.2)), 2.0)
    assert str(profile) == (
        "part        calls  mean ms  total s  % of run\n"
        "---------------------------------------------\n"
        "backward    1,200    0.500    0.600      30.0\n"
        "validation      1  200.000    0.200      10.0\n"
        "the run took 2.000 s"
    )


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_training_is_the_same_bits(framework, make_spec, make_batches):
    runs = [
        UnifiedTrainer(framework, max_epochs=2, profiler=given, enable_progress_bar=False) for given in (None, "simple")
    ]
    specs = [make_spec(), make_spec()]
    results = [trainer.fit(spec, make_batches(), make_batches()) for trainer, spec in zip(runs, specs, strict=True)]
    assert results[0].history == results[1].history
    assert torch.equal(specs[0].model.weight, specs[1].model.weight)
    assert results[0].profile is None
    assert runs[0].profile is None


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_profile_of_a_run_that_failed_is_kept(framework, make_spec, make_batches, capsys):
    trainer = UnifiedTrainer(framework, max_epochs=2, profiler="simple", enable_progress_bar=False)
    trainer.on(Event.BATCH_END(once=4), lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        trainer.fit(make_spec(), make_batches())
    assert {row.part: row.calls for row in trainer.profile.rows}["training step"] == 4
    assert not capsys.readouterr().out
    assert trainer._hub.clock is None


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_moving_to_the_device_is_measured(framework, make_spec, make_batches):
    class Data:
        """In the shape of a datamodule, with a transfer of its own."""

        def prepare_data(self):
            pass

        def setup(self, stage):
            pass

        def teardown(self, stage):
            pass

        def train_dataloader(self):
            return make_batches(3)

        def val_dataloader(self):
            return make_batches(2)

        def on_after_batch_transfer(self, batch, index):
            return batch

    trainer = UnifiedTrainer(framework, max_epochs=2, profiler="simple", enable_progress_bar=False)
    trainer.fit(make_spec(), Data())
    assert {row.part: row.calls for row in trainer.profile.rows}["move to device"] == 2 * (3 + 2)


# --- torch's profiler -----------------------------------------------------------------------------------------------


class Noting:
    """In the shape of torch.profiler.profile."""

    def __init__(self):
        self.tape = []

    def start(self):
        self.tape.append("start")

    def step(self):
        self.tape.append("step")

    def stop(self):
        self.tape.append("stop")


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("factory", [False, True])
def test_profiler_is_started_stepped_and_stopped(framework, factory, make_spec, make_batches):
    noting = Noting()
    given = (lambda: noting) if factory else noting
    trainer = UnifiedTrainer(framework, max_epochs=2, profiler=given, enable_progress_bar=False)
    trainer.fit(make_spec(), make_batches(3), make_batches(2))
    assert noting.tape == ["start", *["step"] * 6, "stop"]
    noting.tape.clear()
    trainer.validate(dataloaders=make_batches(2))
    assert noting.tape == ["start", "step", "step", "stop"]


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_profiler_is_stopped_after_an_error(framework, make_spec, make_batches):
    noting = Noting()
    trainer = UnifiedTrainer(framework, max_epochs=2, profiler=noting, enable_progress_bar=False)
    trainer.on(Event.BATCH_START(once=2), lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        trainer.fit(make_spec(), make_batches(3))
    assert noting.tape == ["start", "step", "stop"]
    assert not trainer._hub._listeners[Event.BATCH_END]


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_torchs_own_profiler_sees_the_steps(framework, make_spec, make_batches):
    seen = []
    profiler = torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU],
        schedule=torch.profiler.schedule(wait=1, warmup=1, active=2, repeat=1),
        on_trace_ready=lambda one: seen.append({event.key for event in one.key_averages()}),
    )
    UnifiedTrainer(framework, max_epochs=2, profiler=profiler, enable_progress_bar=False).fit(
        make_spec(), make_batches()
    )
    assert len(seen) == 1
    assert {"aten::linear", "aten::mse_loss"} <= seen[0]
    assert profiler.step_num == 6


# --- refusals -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("given", ["advanced", "Simple", 3, True, object()])
def test_what_is_no_profiler_is_refused(given):
    with pytest.raises(ConfigError, match=r'profiler must be None, "simple", a torch.profiler.profile') as caught:
        TrainerConfig(profiler=given)
    assert 'native={"lightning": {"profiler": ...}}' in str(caught.value)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_factory_of_something_else_is_refused_before_training(framework, make_spec, make_batches):
    spec = make_spec()
    before = spec.model.weight.clone()
    with pytest.raises(ConfigError, match="which lacks start"):
        UnifiedTrainer(framework, profiler=dict, enable_progress_bar=False).fit(spec, make_batches())
    assert torch.equal(spec.model.weight, before)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_program_of_ignite_refuses_it(framework, make_batches):
    from ignite.engine import Engine

    with pytest.raises(ConfigError, match=r"profiler='simple' does not apply to an Ignite program"):
        UnifiedTrainer(framework, profiler="simple").fit(Engine(lambda engine, batch: None), make_batches())


@pytest.mark.parametrize(
    ("handler", "name"),
    [
        (own_handler, "own_handler"),
        (partial(own_handler, None), "own_handler"),
        (Watching().on_batch_end, "Watching.on_batch_end"),
        (lambda run: run, "<lambda>"),
        (print, "print"),
        (Noting(), "Noting"),
    ],
)
def test_handlers_have_names(handler, name):
    assert handler_name(handler) == name


# --- negative controls ----------------------------------------------------------------------------------------------


def test_a_part_that_one_backend_does_not_measure_is_noticed(tmp_path, monkeypatch):
    reference = counts("reference", "plain", tmp_path / "reference")
    monkeypatch.setattr("unitrain.loop.step._measured", lambda primitives, clock: primitives)
    assert counts("ignite", "plain", tmp_path / "ignite") != reference


def test_end_of_the_data_counts_as_no_batch():
    clock = Clock()
    assert list(clock.reading("load", iter([1, 2]))) == [1, 2]
    assert [(row.part, row.calls) for row in clock.report().rows] == [("load", 2)]
