"""Events of the user's own: fired, filtered and counted alike on every backend, also by a run that is resumed."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from ignite.engine import Events

from unitrain import Callback, ConfigError, CustomEvent, Event, SpecError, UnifiedTrainer, UnsupportedFeatureError
from unitrain.testing import cases_views
from unitrain.testing.trace import Case, Tape, differences, record

MINE, OTHER = CustomEvent("mine"), CustomEvent("other")


def heard(trainer, tape):
    """Note what is heard, and of which occurrence."""

    def note(name):
        return lambda run: tape.append((name, run.hub.occurred(MINE), run.state.batch))

    trainer.on(MINE, note("each"))
    trainer.on(MINE(every=2), note("every 2"))
    trainer.on(MINE(once=[1, 5]), note("once 1, 5"))
    trainer.on(MINE(after=4) | OTHER, note("after 4 or other"))
    trainer.on(MINE(event_filter=lambda run, count: count == run.state.batch + 1), note("filter"))


def test_handlers_are_called_at_once_in_their_order(framework, make_spec, data):
    trainer, tape = UnifiedTrainer(framework, max_epochs=2, enable_progress_bar=False), []
    heard(trainer, tape)
    trainer.on(Event.BATCH_START, lambda run: (run.fire(MINE), tape.append("back")))
    trainer.on(Event.EPOCH_END(once=2), lambda run: run.fire(OTHER))
    trainer.fit(make_spec(), data(3))
    first = [("each", 1, 0), ("once 1, 5", 1, 0), ("filter", 1, 0), "back"]
    second = [("each", 2, 1), ("every 2", 2, 1), ("filter", 2, 1), "back"]
    assert tape[:8] == first + second
    assert [entry for entry in tape if entry[0] == "once 1, 5"] == [("once 1, 5", 1, 0), ("once 1, 5", 5, 4)]
    late = [entry for entry in tape if entry[0] == "after 4 or other"]
    assert late == [("after 4 or other", 5, 4), ("after 4 or other", 6, 5), ("after 4 or other", 6, 6)]


def test_trainer_fires_from_a_training_step(framework, make_spec, data):
    trainer, losses = UnifiedTrainer(framework, max_epochs=1, enable_progress_bar=False), []

    def step(model, batch):
        loss = (model(batch[0]) - batch[1]).square().mean()
        trainer.fire(MINE)
        return loss

    trainer.on(MINE(every=2), lambda run: losses.append(run.state.batch))
    trainer.fit(make_spec(training_step=step, loss=None), data(5))
    assert losses == [1, 3]


class Listening(Callback):
    def __init__(self):
        self.heard = []

    def on_mine(self, run):
        self.heard.append(run.state.batch)

    def on_batch_end(self, run):
        run.fire(MINE)


def test_callback_hears_it_by_name(framework, fit):
    callback = Listening()
    fit(framework, callback, max_epochs=1)
    assert callback.heard == [1, 2, 3, 4]


def test_misspelt_method_of_a_callback_is_refused(framework, fit):
    wrong = type("Wrong", (Callback,), {"on_mien": lambda self, run: None})()
    with pytest.raises(SpecError, match=r"Wrong.on_mien does not match any event[\s\S]*did you mean 'on_mine'"):
        fit(framework, wrong)


@pytest.mark.parametrize("name", ["batch_end", "fit_start", "Mine", "a b", "", "class", "1st", 3])
def test_names_that_clash_or_cannot_be_are_refused(name):
    with pytest.raises(SpecError, match="CustomEvent") as caught:
        CustomEvent(name)
    assert "\nHint: " in str(caught.value)


@pytest.mark.parametrize(
    ("fired", "says"),
    [
        ("mien", "did you mean 'mine'"),
        ("mine", "did you mean 'mine'"),
        (Event.BATCH_END, "the built-in Event.BATCH_END"),
    ],
)
def test_only_events_that_were_made_can_be_fired(framework, make_spec, data, fired, says):
    trainer = UnifiedTrainer(framework, max_epochs=1, enable_progress_bar=False)
    trainer.on(Event.FIT_START, lambda run: run.fire(fired))
    spec = make_spec()
    before = spec.model.weight.clone()
    with pytest.raises(SpecError, match=says):
        trainer.fit(spec, data())
    assert torch.equal(spec.model.weight, before)


def test_wrong_filters_and_wrong_times_are_refused(framework):
    with pytest.raises(SpecError, match=r"CustomEvent\('mine'\)\(\) got an unknown argument 'evry'"):
        MINE(evry=2)
    with pytest.raises(SpecError, match="An event filter takes one of"):
        MINE()
    trainer = UnifiedTrainer(framework, enable_progress_bar=False)
    with pytest.raises(SpecError, match="on\\(\\) got 'mine'"):
        trainer.on("mine", print)
    with pytest.raises(ConfigError, match=r"trainer.fire\(\) needs a running fit"):
        trainer.fire(MINE)


def test_two_of_one_name_are_one_event():
    assert CustomEvent("mine") is MINE is copy.deepcopy(MINE) is pickle.loads(pickle.dumps(MINE))
    assert repr(MINE) == "CustomEvent('mine')"
    assert MINE.name == MINE.value == "mine"


# --- resuming -------------------------------------------------------------------------------------------------------


def case():
    return next(one for one in cases_views.view_cases() if one.name == "custom-events")


def resumed(writer, reader, path, position):
    """Return the trace of a fit that ``writer`` began and ``reader`` resumed, and the uninterrupted one."""
    whole = case()
    saving = Case(
        name="saving",
        spec=whole.spec,
        train=whole.train,
        val=whole.val,
        options=whole.options,
        act=lambda trainer: (whole.act(trainer), trainer.on(position, lambda run: run.save_checkpoint(path))),
    )
    record(writer, saving)
    trainer = UnifiedTrainer(reader, max_epochs=3, seed=1234, enable_progress_bar=False, **whole.options)
    tape = Tape(trainer)
    whole.act(trainer)
    return tape.trace(trainer, trainer.fit(whole.spec(), whole.train(), whole.val(), ckpt_path=path))


@pytest.mark.parametrize("writer", ["reference", "lightning", "ignite"])
def test_counts_are_resumed_in_mid_epoch(framework, writer, tmp_path):
    found = resumed(writer, framework, tmp_path / "run.ckpt", Event.BATCH_END(once=8))
    expected = record("reference", case())
    for part in ("weights", "rng", "history", "outcome"):
        assert not differences(getattr(expected, part), getattr(found, part), part)


def test_lost_counts_would_be_noticed(framework, tmp_path, monkeypatch):
    from unitrain.run import hub as events

    kept = events.EventHub.state_dict

    def without(hub):
        state = kept(hub)
        return {**state, "counts": {name: count for name, count in state["counts"].items() if name in tuple(Event)}}

    monkeypatch.setattr(events.EventHub, "state_dict", without)
    found = resumed(framework, framework, tmp_path / "run.ckpt", Event.BATCH_END(once=8))
    assert differences(record("reference", case()).history, found.history)


# --- the backend's own handlers -------------------------------------------------------------------------------------


def test_ignites_own_handler_hears_a_registered_event(make_spec, data):
    trainer, tape = UnifiedTrainer("ignite", max_epochs=1, enable_progress_bar=False), []
    engine = trainer.create_trainer()
    engine.register_events("mine")
    engine.add_event_handler("mine", lambda engine: tape.append(("native", engine.state.iteration)))
    engine.add_event_handler(Events.COMPLETED, lambda: tape.append("completed"))
    trainer.on(MINE, lambda run: tape.append(("ours", run.state.batch)))
    trainer.on(Event.BATCH_START, lambda run: (run.fire(OTHER), run.fire(MINE)))
    trainer.fit(make_spec(), data(2))
    assert tape == [("ours", 0), ("native", 1), ("ours", 1), ("native", 2), "completed"]


def test_handler_of_own_event_is_refused_where_it_would_never_be_called(framework, data):
    from ignite.engine import Engine

    trainer = UnifiedTrainer(framework, enable_progress_bar=False)
    trainer.on(MINE, print)
    with pytest.raises((ConfigError, UnsupportedFeatureError), match="would never be called"):
        trainer.fit(Engine(lambda engine, batch: None), data())


def test_case_is_not_empty():
    trace = record("reference", case())
    assert trace.metrics[-1]["own/drifts"] > 18
    assert {"own/draw", "own/late"} <= trace.metrics[-1].keys()
