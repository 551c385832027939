"""The mapping tables, in both directions: every event of ours is driven, every native hook is mapped or excused."""

from dataclasses import fields

import pytest
from ignite.engine import Events
from pytorch_lightning import Callback, LightningModule, Trainer

from unitrain import Event, UnifiedTrainer
from unitrain.backends.features import REQUESTS
from unitrain.backends.registry import find_adapter
from unitrain.config import TrainerConfig
from unitrain.testing.cases import spec
from unitrain.testing.models import loader
from unitrain_lightning.module import EvalShell, FitShell, Shell

ADAPTERS = ["lightning", "ignite", "reference"]
ENGINES = ["lightning", "ignite"]


def lightning_hooks() -> set[str]:
    names = {*dir(LightningModule), *dir(Callback)}
    return {name for name in names if name.startswith("on_") or name in ("setup", "teardown")} - {"on_gpu"}


NATIVE = {"lightning": lightning_hooks, "ignite": lambda: set(Events.__members__)}
STEPS = {"training_step", "validation_step", "test_step", "predict_step", "process_function", "fit", "run"}


def unexplained(framework: str, hooks: set[str]) -> set[str]:
    adapter = find_adapter(framework)
    return hooks - set(adapter.events.values()) - set(adapter.unmapped)


@pytest.mark.parametrize("framework", ADAPTERS)
def test_every_event_is_mapped(framework):
    assert set(find_adapter(framework).events) == set(Event)


@pytest.mark.parametrize("framework", ENGINES)
def test_every_native_hook_is_mapped_or_excused(framework):
    assert NATIVE[framework]()
    assert not unexplained(framework, NATIVE[framework]())


@pytest.mark.parametrize("framework", ENGINES)
def test_a_new_upstream_hook_would_fail(framework):
    assert unexplained(framework, {*NATIVE[framework](), "on_something_new"}) == {"on_something_new"}


@pytest.mark.parametrize("framework", ENGINES)
def test_every_name_in_the_tables_exists_upstream(framework):
    adapter = find_adapter(framework)
    named = {*adapter.events.values(), *adapter.unmapped} - STEPS
    assert named <= NATIVE[framework]()
    assert not set(adapter.events.values()) & set(adapter.unmapped)
    assert all(reason for reason in adapter.unmapped.values())


def test_the_shells_override_just_the_mapped_hooks():
    def overridden(shell):
        own = {name for cls in (shell, Shell) for name in vars(cls)}
        return {name for name in own if name in lightning_hooks() or name in STEPS}

    mapped = set(find_adapter("lightning").events.values()) - {"fit"}
    without_an_event = {"on_train_batch_end"}
    assert overridden(FitShell) | overridden(EvalShell) == mapped | without_an_event


@pytest.mark.parametrize("framework", ADAPTERS)
def test_every_option_is_translated_or_belongs_to_an_undeclared_feature(framework):
    adapter = find_adapter(framework)
    for field in fields(TrainerConfig):
        request = REQUESTS.get(field.name)
        refused = request is not None and request.feature not in adapter.features
        assert refused or any(adapter.options[field.name]), field.name
    assert set(adapter.options) <= {field.name for field in fields(TrainerConfig)}


def test_events_fire_on_the_hook_that_lightning_says_is_running():
    trainer = UnifiedTrainer("lightning", max_epochs=2, seed=0, enable_progress_bar=False)
    seen = {}
    for event in Event:
        trainer.on(event, lambda event=event: seen.setdefault(event, trainer.native.lightning_module._current_fx_name))
    trainer.fit(spec(), loader(), loader())
    expected = find_adapter("lightning").events
    assert {Event.FIT_START, Event.BATCH_END, Event.VAL_BATCH_END, Event.EPOCH_END, Event.FIT_END} <= set(seen)
    assert seen == {event: expected[event] for event in seen}


def test_events_fire_on_the_event_that_ignite_says_is_running():
    trainer = UnifiedTrainer("ignite", max_epochs=2, seed=0, enable_progress_bar=False)
    seen = {}
    during_step = {Event.BATCH_START, Event.BACKWARD_END, Event.OPTIMIZER_STEP, Event.BATCH_END}
    evaluator = {Event.VAL_BATCH_START, Event.VAL_BATCH_END, Event.VAL_END}
    for event in set(Event) - evaluator:
        trainer.on(event, lambda event=event: seen.setdefault(event, trainer.native.last_event_name))
    trainer.fit(spec(), loader(), loader())
    expected = find_adapter("ignite").events
    assert during_step <= set(seen)
    for event, native in seen.items():
        # the process function runs between these two events of Ignite
        name = "ITERATION_STARTED" if event in during_step else expected[event]
        assert native == Events[name]


@pytest.mark.parametrize("framework", ADAPTERS)
def test_explain_tells_of_every_option(framework, capsys):
    trainer = UnifiedTrainer(framework, max_epochs=3, gradient_clip_val=0.5)
    rows = trainer.explain(spec(), all=True)
    assert capsys.readouterr().out.strip() == str(rows).strip()
    told = {row.what: row for row in rows}
    assert {field.name for field in fields(TrainerConfig)} <= set(told)
    assert told["max_epochs"].given == "3"
    assert told["optimizer"].shared.startswith("unitrain.loop.step")
    assert all(row.native or row.shared for row in rows)
    if framework != "reference":
        assert told["max_epochs"].native == find_adapter(framework).options["max_epochs"].native


def test_owned_arguments_are_real_arguments_of_the_trainer():
    import inspect

    from unitrain_lightning.options import OWNED

    real = set(inspect.signature(Trainer.__init__).parameters)
    assert set(OWNED) - real <= {field.name for field in fields(TrainerConfig)}
    assert all(OWNED.values())
