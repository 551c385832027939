"""Callbacks of a framework hear on every backend what they hear on their own; that run is the oracle."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import ignite.engine
import ignite.handlers
import ignite.metrics
import pytest
import torch
from ignite.engine import Events

from tests.bridges.foreign import NoLength, equal, fit
from unitrain import Callback, ConfigError, ModelCheckpoint, UnifiedTrainer, UnsupportedFeatureError
from unitrain.testing.cases import spec
from unitrain.testing.models import batches, loader
from unitrain_bridges.ignite.callbacks import IgniteHandler

ELSEWHERE = ("lightning", "reference")


class Hears:
    """A user's own handler, of no base class: notes each event with all that the engine says of the run.

    Args:
        act: Called with the engine and the event's name, after the note.
    """

    def __init__(self, act=lambda engine, name: None):
        self.act = act
        self.log = []
        self.kept = 0

    def attach(self, engine):
        for event in set(Events) - {Events.EXCEPTION_RAISED}:
            engine.add_event_handler(event, partial(self.note, event.name))

    def note(self, name, engine, iter_counter=None):
        state = engine.state
        counts = (state.epoch, state.iteration, state.max_epochs, state.epoch_length)
        values = (None if state.output is None else state.output.clone(), state.batch, dict(state.metrics))
        self.kept += 1
        self.log.append((name, counts, values, iter_counter, tuple(sorted(state.times))))
        self.act(engine, name)

    def state_dict(self):
        return {"kept": self.kept}

    def load_state_dict(self, state):
        self.kept = state["kept"]


def heard(framework, act=lambda engine, name: None, **options):
    """Return what a handler heard of a fit, and what the fit came to."""
    handler = Hears(act)
    _, result, weights = fit(framework, [handler], **options)
    return [*handler.log, ("end", result.stopped_by, result.step, weights)]


def at(name, iteration, method, **arguments):
    """Return what calls a method of the engine at one event."""

    def act(engine, event):
        if (event, engine.state.iteration) == (name, iteration):
            getattr(engine, method)(**arguments)

    return act


RUNS = {
    "plain": {},
    "no validation": {"val": None},
    "no length": {"train": NoLength},
    "limit": {"limit_train_batches": 4},
    "steps within an epoch": {"max_steps": 8},
    "steps at an epoch's end": {"max_steps": 12},
    "without end": {"max_epochs": -1, "max_steps": 7},
    "validation within": {"val_check_interval": 2},
    "accumulation": {"accumulate_grad_batches": 4},
    "double": {"precision": "64-true"},
    "terminated in an iteration": {"act": at("ITERATION_COMPLETED", 8, "terminate")},
    "terminated at an epoch's end": {"act": at("EPOCH_COMPLETED", 6, "terminate")},
    "terminated at the start": {"act": at("STARTED", 0, "terminate")},
    "terminated, not completed": {"act": at("EPOCH_COMPLETED", 6, "terminate", skip_completed=True)},
}


@pytest.mark.parametrize("case", RUNS)
def test_ignite_handler_hears_what_it_hears_on_ignite(case):
    oracle = heard("ignite", **RUNS[case])
    assert len(oracle) > 3
    for framework in ELSEWHERE:
        found = heard(framework, **RUNS[case])
        assert [entry[:2] for entry in found] == [entry[:2] for entry in oracle]
        assert equal(found, oracle)


FAULTS = {
    "an event is left out": ("on_batch_end", lambda self, run: None),
    "the epoch before": ("on_epoch_start", lambda self, run: setattr(self, "_within", True)),
    "no metrics": ("decide", lambda self, run: None),
    "no batch": ("on_batch_start", lambda self, run: None),
    "no end": ("on_fit_end", lambda self, run: None),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_of_the_shadow_is_noticed(monkeypatch, fault):
    oracle = heard("ignite")
    name, faulty = FAULTS[fault]
    monkeypatch.setattr(IgniteHandler, name, faulty)
    try:
        found = heard("reference")
    except AttributeError:
        return
    assert not equal(found, oracle)


@pytest.mark.parametrize("name", ["EPOCH_STARTED", "GET_BATCH_COMPLETED", "ITERATION_STARTED"])
def test_terminate_before_a_step_lets_the_batch_finish(name):
    """Ignite would not train on it; elsewhere a batch that has begun is finished, as after run.stop()."""
    act = at(name, 7 if name == "ITERATION_STARTED" else 6, "terminate")
    runs = [heard(framework, act) for framework in ELSEWHERE]
    assert equal(*runs)
    assert runs[0][-1][1:3] == ("user", 7)
    oracle = heard("ignite", act)
    assert equal(runs[0][:-1], oracle[:-1])
    assert oracle[-1][2] == 6


def test_minima_hold_for_terminate():
    act = at("ITERATION_COMPLETED", 2, "terminate")
    for framework in ELSEWHERE:
        log = heard(framework, act, min_epochs=2)
        assert [entry[0] for entry in log[-4:]] == ["ITERATION_COMPLETED", "TERMINATE", "COMPLETED", "end"]
        assert log[-1][1:3] == ("user", 12)


class Filtered:
    """Attaches handlers by all of Ignite's filters."""

    def __init__(self):
        self.calls = []

    def attach(self, engine):
        events = {
            "every": Events.ITERATION_COMPLETED(every=4),
            "once": Events.EPOCH_COMPLETED(once=2),
            "before": Events.ITERATION_STARTED(before=3),
            "after": Events.ITERATION_STARTED(after=16),
            "filter": Events.EPOCH_STARTED(event_filter=lambda _, number: number % 2),
            "either": Events.EPOCH_STARTED | Events.COMPLETED,
        }
        for name, event in events.items():
            engine.add_event_handler(event, lambda engine, name=name: self.calls.append((name, engine.state.iteration)))
        ignite.metrics.RunningAverage(output_transform=lambda loss: loss).attach(engine, "smooth")
        engine.add_event_handler(Events.EPOCH_COMPLETED, lambda: self.calls.append(engine.state.metrics["smooth"]))


@pytest.mark.parametrize("place", ["trainer", "spec"])
def test_filters_and_metrics_of_ignite(place):
    calls = {}
    for framework in ("ignite", *ELSEWHERE):
        handler = Filtered()
        given, own = ([handler], []) if place == "trainer" else ([], [handler])
        fit(framework, given, make=partial(spec, callbacks=own))
        calls[framework] = handler.calls
    assert len(calls["ignite"]) == 4 + 1 + 2 + 2 + 2 + 4 + 3
    assert all(equal(calls[framework], calls["ignite"]) for framework in ELSEWHERE)


@pytest.mark.parametrize("framework", ELSEWHERE)
def test_handlers_that_ignite_brings(framework, capsys):
    timer, outputs = ignite.handlers.Timer(average=True), ignite.handlers.EpochOutputStore()
    bar = ignite.handlers.ProgressBar(persist=True)
    fit(framework, [timer, outputs, bar], max_epochs=1)
    assert timer.value() > 0
    assert len(outputs.data) == 6
    assert "Epoch" not in capsys.readouterr().out


def test_ema_handler_averages_as_on_ignite():
    averages, handlers = [], []

    def make():
        made = spec()
        handlers.append(ignite.handlers.EMAHandler(made.model, momentum=0.1))
        return replace(made, callbacks=[handlers[-1]])

    for framework in ("ignite", *ELSEWHERE):
        _, _, weights = fit(framework, [], make=make)
        averages.append(dict(handlers[-1].ema_model.state_dict()))
        assert not equal(averages[-1], dict(weights))
    assert equal(averages[1], averages[0])
    assert equal(averages[2], averages[0])


@pytest.mark.filterwarnings("ignore:.*contains state for callbacks not in this run")
@pytest.mark.parametrize("step", [2, 6, 9])
@pytest.mark.parametrize("framework", ELSEWHERE)
def test_a_run_that_goes_on(tmp_path, framework, step):
    """In the middle of an epoch, at its end, and in a later one; the file is of either backend."""
    for writer in (framework, "ignite"):
        files, logs = tmp_path / writer, []
        saving = ModelCheckpoint(files, every_n_train_steps=step, save_top_k=-1)
        kept = Hears()
        fit(writer, [saving, kept], max_epochs=2)
        first = min(files.glob("*.ckpt"), key=lambda file: torch.load(file)["global_step"])
        for backend in ("ignite", framework):
            handler = Hears()
            fit(backend, [handler], ckpt_path=first)
            logs.append(handler)
        assert equal(logs[1].log, logs[0].log)
        assert logs[1].log[0][1][1] == step
        own = torch.load(first)["unitrain"]["callbacks"]["ignite.Hears"]
        assert logs[1].kept == own["kept"] + len(logs[1].log)


def test_the_second_fit_of_a_trainer_has_an_engine_of_its_own():
    handler = Hears()
    trainer, _, _ = fit("reference", [handler], max_epochs=1)
    first = list(handler.log)
    handler.log.clear()
    torch.manual_seed(3)
    trainer.fit(spec(), loader(), loader())
    assert equal(handler.log, first)


def test_evaluations_are_not_heard_as_on_ignite():
    for framework in ("ignite", *ELSEWHERE):
        handler = Hears()
        trainer = UnifiedTrainer(framework, callbacks=[handler], enable_progress_bar=False)
        trainer.validate(spec(), loader())
        trainer.predict(spec(), loader())
        assert handler.log == []


@pytest.mark.parametrize("framework", ["ignite", *ELSEWHERE])
def test_errors_are_not_swallowed(framework):
    class Swallows:
        def attach(self, engine):
            engine.add_event_handler(Events.EXCEPTION_RAISED, lambda _: None)

    with pytest.raises(ConfigError, match=r"EXCEPTION_RAISED[\s\S]*Hint: "):
        fit(framework, [Swallows()])

    def fails(engine, name):
        if name == "ITERATION_COMPLETED":
            raise LookupError("on purpose")

    with pytest.raises(LookupError, match="on purpose"):
        heard(framework, fails)


def change(name, **values):
    def act(engine, event):
        if event == name:
            vars(engine.state).update(values)

    return act


WITHOUT_EFFECT = {
    "max_epochs": (change("STARTED", max_epochs=1), "engine.state.max_epochs"),
    "batch": (change("ITERATION_STARTED", batch=(torch.zeros(4, 36), torch.zeros(4).long())), "engine.state.batch"),
    "terminate_epoch": (at("ITERATION_COMPLETED", 2, "terminate_epoch"), r"engine.terminate_epoch\(\)"),
    "interrupt": (at("ITERATION_COMPLETED", 2, "interrupt"), r"engine.interrupt\(\)"),
    "run": (at("STARTED", 0, "run"), r"engine.run\(\)"),
}


@pytest.mark.parametrize("framework", ELSEWHERE)
@pytest.mark.parametrize("case", WITHOUT_EFFECT)
def test_what_could_not_act_says_so(framework, case):
    act, says = WITHOUT_EFFECT[case]
    with pytest.raises(UnsupportedFeatureError, match=rf"{says}[\s\S]*{framework}[\s\S]*Hint: "):
        heard(framework, act)


@pytest.mark.parametrize("framework", ELSEWHERE)
def test_profilers_of_ignites_loop_are_refused(framework):
    made = spec()
    before = [value.clone() for value in made.model.state_dict().values()]
    with pytest.raises(UnsupportedFeatureError, match=r"BasicTimeProfiler[\s\S]*Hint: torch.profiler"):
        fit(framework, [ignite.handlers.BasicTimeProfiler()], make=lambda: made)
    assert equal(before, list(made.model.state_dict().values()))


@pytest.mark.slow
@pytest.mark.parametrize("framework", ELSEWHERE)
def test_handlers_go_along_to_several_processes(framework):
    """Each process has its own copy; what its state is comes back."""
    handler = Terminates()
    _, result, _ = fit(framework, [handler], devices=2, accelerator="cpu")
    assert (result.stopped_by, result.step) == ("user", 2)
    assert handler.heard == 2


class Terminates:
    """Ends the run after its second iteration."""

    heard = 0

    def attach(self, engine):
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.count)

    def count(self, engine):
        self.heard += 1
        if self.heard == 2:
            engine.terminate()

    def state_dict(self):
        return {"heard": self.heard}

    def load_state_dict(self, state):
        self.heard = state["heard"]


def test_the_batch_is_seen_by_every_callback():
    class Sees(Callback):
        def __init__(self):
            self.seen = []

        def on_batch_start(self, run):
            self.seen.append(run.batch)

        on_val_batch_end = on_predict_batch_start = on_batch_end = on_batch_start

        def on_epoch_end(self, run):
            self.seen.append(run.batch)

    found = []
    for framework in ("ignite", *ELSEWHERE):
        callback = Sees()
        trainer, _, _ = fit(framework, [callback], max_epochs=1)
        trainer.predict(spec(), batches())
        found.append(callback.seen)
    assert found[0][18] is None
    assert len(found[0]) == 12 + 6 + 1 + 6
    assert equal(found[1], found[0])
    assert equal(found[2], found[0])
