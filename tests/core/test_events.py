"""Filters, handlers and counting of the event hub."""

from __future__ import annotations

from functools import partial

import pytest

from unitrain import Callback, Event, SpecError
from unitrain.run.hub import EventHub


def first_and_ninth(_run, count):
    return count in (1, 9)


def named(arguments):
    """Return the id of a case: the same in every process, as xdist wants it."""
    return ", ".join(f"{name}={getattr(value, '__name__', value)!r}" for name, value in arguments.items()) or "nothing"


FILTERS = [
    ({"every": 1}, [1, 2, 3, 4, 5, 6, 7, 8, 9]),
    ({"every": 2}, [2, 4, 6, 8]),
    ({"every": 4}, [4, 8]),
    ({"once": 3}, [3]),
    ({"once": [2, 5]}, [2, 5]),
    ({"once": (7, 1)}, [1, 7]),
    ({"before": 3}, [1, 2]),
    ({"before": 0}, []),
    ({"after": 7}, [8, 9]),
    ({"after": 0}, [1, 2, 3, 4, 5, 6, 7, 8, 9]),
    ({"after": 2, "before": 5}, [3, 4]),
    ({"every": 2, "after": 4}, [5, 7, 9]),
    ({"every": 3, "before": 6}, [1, 4]),
    ({"every": 3, "after": 1, "before": 9}, [2, 5, 8]),
    ({"event_filter": first_and_ninth}, [1, 9]),
]


@pytest.fixture
def hub():
    hub = EventHub()
    hub.context = "the run"
    return hub


def occurrences(hub, trigger, event=Event.BATCH_END, count=9):
    """Return at which of ``count`` occurrences of ``event`` a handler of ``trigger`` is called."""
    seen, now = [], [0]
    hub.on(trigger, lambda: seen.append(now[0]))
    for now[0] in range(1, count + 1):
        hub.fire(event)
    return seen


@pytest.mark.parametrize(("arguments", "expected"), FILTERS, ids=[named(arguments) for arguments, _ in FILTERS])
def test_filter_lets_through_its_occurrences(hub, arguments, expected):
    assert occurrences(hub, Event.BATCH_END(**arguments)) == expected


@pytest.mark.parametrize(
    "arguments",
    ids=named,
    argvalues=[
        {},
        {"every": 0},
        {"every": -1},
        {"every": 2.0},
        {"every": True},
        {"every": "2"},
        {"once": 0},
        {"once": []},
        {"once": [1, 0]},
        {"once": [1, True]},
        {"once": "1"},
        {"before": -1},
        {"after": -1},
        {"after": 1.5},
        {"event_filter": 3},
        {"every": 2, "once": 3},
        {"once": 2, "after": 3},
        {"event_filter": first_and_ninth, "every": 2},
    ],
)
def test_filter_that_cannot_be_meant_is_refused(arguments):
    with pytest.raises(SpecError):
        Event.BATCH_END(**arguments)


def test_event_filter_that_cannot_be_called_with_run_and_count_is_refused():
    """Ignite refuses it when the event is filtered, and so before anything runs."""
    with pytest.raises(SpecError, match="event_filter"):
        Event.BATCH_END(event_filter=lambda _run: True)


def test_event_filter_gets_the_run_and_the_count(hub):
    seen = []
    hub.on(Event.BATCH_END(event_filter=lambda run, count: seen.append((run, count))), pytest.fail)
    hub.fire(Event.BATCH_END)
    hub.fire(Event.BATCH_END)
    assert seen == [("the run", 1), ("the run", 2)]


def test_once_3_is_the_epoch_with_index_2(make_trainer, make_spec, make_batches):
    trainer, epochs = make_trainer(max_epochs=5), []
    trainer.on(Event.EPOCH_END(once=3), lambda run: epochs.append(run.state.epoch))
    trainer.fit(make_spec(), make_batches())
    assert epochs == [2]


def test_union_calls_one_handler_for_each_event(hub):
    seen = []
    hub.on(Event.EPOCH_START | Event.BATCH_END(every=2) | Event.EPOCH_END, lambda: seen.append(now))
    for now in (Event.EPOCH_START, Event.BATCH_END, Event.BATCH_END, Event.BATCH_START, Event.EPOCH_END):
        hub.fire(now)
    assert seen == [Event.EPOCH_START, Event.BATCH_END, Event.EPOCH_END]


def test_union_of_filters_of_one_event_keeps_both(hub):
    assert occurrences(hub, Event.BATCH_END(once=1) | Event.BATCH_END(every=4)) == [1, 4, 8]


def test_union_of_unions_is_flat(hub):
    union = (Event.FIT_START | Event.FIT_END) | (Event.BATCH_END(once=2) | Event.EPOCH_END)
    assert [trigger.event for trigger in union] == [
        Event.FIT_START,
        Event.FIT_END,
        Event.BATCH_END,
        Event.EPOCH_END,
    ]


@pytest.mark.parametrize("other", ["epoch_end", 3, None, int])
def test_union_with_anything_else_is_refused(other):
    with pytest.raises(SpecError, match="on\\(\\) got"):
        Event.EPOCH_END | other


def test_decorator_and_method_register_the_same(make_trainer, make_spec, make_batches):
    trainer, seen = make_trainer(max_epochs=1), []

    @trainer.on(Event.EPOCH_END)
    def decorated(run):
        seen.append(("decorator", run.state.epoch))

    def given(run):
        seen.append(("method", run.state.epoch))

    assert trainer.on(Event.EPOCH_END, given) is given
    assert callable(decorated)
    trainer.fit(make_spec(), make_batches())
    assert seen == [("decorator", 0), ("method", 0)]


class _Bound:
    def __init__(self):
        self.seen = []

    def with_run(self, run):
        self.seen.append(run)

    def without(self):
        self.seen.append(None)


@pytest.mark.parametrize(
    ("handler_of", "expected"),
    [
        pytest.param(lambda seen: lambda run: seen.extend([run]), "the run", id="run"),
        pytest.param(lambda seen: lambda: seen.append(None), None, id="nothing"),
        pytest.param(lambda seen: lambda name=None: seen.append(name), None, id="bound by default"),
        pytest.param(lambda seen: lambda *args: seen.extend(args), "the run", id="any"),
        pytest.param(lambda seen: seen.append, "the run", id="builtin"),
        pytest.param(lambda seen: partial(lambda extra, run: seen.append(run), "extra"), "the run", id="partial"),
        pytest.param(lambda seen: partial(seen.append, None), None, id="partial of all"),
    ],
)
def test_handler_is_called_with_the_run_or_with_nothing(hub, handler_of, expected):
    seen = []
    hub.on(Event.BATCH_END, handler_of(seen))
    hub.fire(Event.BATCH_END)
    assert seen == [expected]


@pytest.mark.parametrize(("method", "expected"), [("with_run", "the run"), ("without", None)])
def test_bound_method_is_a_handler(hub, method, expected):
    bound = _Bound()
    hub.on(Event.BATCH_END, getattr(bound, method))
    hub.fire(Event.BATCH_END)
    assert bound.seen == [expected]


async def _coroutine(run):
    """Would never be awaited."""


@pytest.mark.parametrize(
    "handler",
    [None, 3, "print", lambda a, b: None, lambda *, run: None, _coroutine],
    ids=["none", "number", "name", "two arguments", "keyword only", "coroutine"],
)
def test_handler_that_cannot_be_called_is_refused(hub, handler):
    with pytest.raises(SpecError, match="handler"):
        hub.on(Event.BATCH_END, handler)
    assert not hub.handlers


def test_filter_that_is_misspelt_is_refused_with_the_nearest():
    with pytest.raises(SpecError, match=r"'evry'[\s\S]*did you mean 'every'"):
        Event.BATCH_END(evry=2)


@pytest.mark.parametrize("event", ["epoch_end", None, 3, Event, [Event.EPOCH_END]])
def test_on_refuses_what_is_no_event(make_trainer, event):
    with pytest.raises(SpecError, match=r"on\(\) got[\s\S]*Hint:"):
        make_trainer().on(event, lambda: None)


def test_handlers_are_called_in_the_order_of_registration(hub):
    seen = []
    for name in "abc":
        hub.on(Event.BATCH_END, partial(seen.append, name))
    hub.fire(Event.BATCH_END)
    assert seen == ["a", "b", "c"]


@pytest.mark.parametrize("where", ["handler", "filter"])
def test_stop_iteration_becomes_a_runtime_error(hub, where):
    def stop(*_):
        raise StopIteration

    if where == "handler":
        hub.on(Event.BATCH_END, stop)
    else:
        hub.on(Event.BATCH_END(event_filter=stop), lambda: None)
    with pytest.raises(RuntimeError, match="StopIteration") as caught:
        hub.fire(Event.BATCH_END)
    assert isinstance(caught.value.__cause__, StopIteration)


def test_stop_iteration_of_a_handler_breaks_the_run(make_trainer, make_spec, make_batches):
    trainer = make_trainer()
    trainer.on(Event.BATCH_END(once=2), lambda: next(iter(())))
    with pytest.raises(RuntimeError, match="StopIteration"):
        trainer.fit(make_spec(), make_batches())
    assert trainer.state.batch == 2


def test_off_forgets_a_handler_everywhere_and_only_it(hub):
    bound, other = _Bound(), _Bound()
    hub.on(Event.BATCH_END | Event.EPOCH_END(every=2), bound.with_run)
    hub.on(Event.BATCH_END, other.with_run)
    hub.off(bound.with_run)
    hub.fire(Event.BATCH_END)
    hub.fire(Event.EPOCH_END)
    hub.fire(Event.EPOCH_END)
    assert (bound.seen, other.seen) == ([], ["the run"])
    hub.off(other.with_run)
    assert not hub.handlers


def test_off_within_a_handler_does_not_disturb_the_others(hub):
    seen = []

    def once():
        seen.append("once")
        hub.off(once)

    hub.on(Event.BATCH_END, once)
    hub.on(Event.BATCH_END, partial(seen.append, "always"))
    hub.fire(Event.BATCH_END)
    hub.fire(Event.BATCH_END)
    assert seen == ["once", "always", "always"]


def test_every_occurrence_counts_whether_anyone_listens_or_not(hub):
    hub.fire(Event.BATCH_END)
    hub.fire(Event.BATCH_END)
    assert occurrences(hub, Event.BATCH_END(once=3), count=2) == [1]


@pytest.mark.parametrize("stage", ["VAL", "TEST", "PREDICT"])
def test_batches_of_an_evaluation_are_counted_within_it(hub, stage):
    seen = []
    hub.on(Event[f"{stage}_BATCH_END"](once=2), lambda: seen.append("batch"))
    hub.on(Event[f"{stage}_START"](once=2), lambda: seen.append("second"))
    for _ in range(2):
        hub.fire(Event[f"{stage}_START"])
        for _ in range(3):
            hub.fire(Event[f"{stage}_BATCH_END"])
    assert seen == ["batch", "second", "batch"]


def test_training_batches_are_counted_over_the_whole_run(make_trainer, make_spec, make_batches):
    trainer, seen = make_trainer(max_epochs=3), []
    trainer.on(Event.BATCH_START(every=4), lambda run: seen.append((run.state.epoch, run.state.batch)))
    trainer.fit(make_spec(), make_batches(3))
    assert seen == [(1, 3), (2, 7)]


def test_each_run_counts_from_1_with_the_same_handlers(make_trainer, make_spec, make_batches):
    trainer, seen = make_trainer(), []
    trainer.on(Event.EPOCH_END(once=1), lambda run: seen.append(run.state.epoch))
    trainer.fit(make_spec(), make_batches())
    trainer.fit(make_spec(), make_batches())
    assert seen == [0, 0]


def test_callback_hears_exactly_what_it_overrides(make_trainer, make_spec, make_batches):
    class Count(Callback):
        seen: tuple = ()

        def on_epoch_end(self, run):
            self.seen += (run.state.epoch,)

    callback = Count()
    trainer = make_trainer(callbacks=[callback])
    trainer.fit(make_spec(), make_batches())
    trainer.fit(make_spec(), make_batches())
    assert callback.seen == (0, 1, 0, 1)
    assert not trainer._hub.handlers  # its handlers are taken off after each run


def test_callback_with_a_handler_of_no_event_is_refused(make_trainer, make_spec, make_batches):
    class Typo(Callback):
        def on_epoch_ended(self, run):
            pytest.fail("there is no such event")

    with pytest.raises(SpecError, match=r"on_epoch_ended[\s\S]*did you mean 'on_epoch_end'"):
        make_trainer(callbacks=[Typo()]).fit(make_spec(), make_batches())


def test_callback_has_a_method_for_every_event():
    assert {f"on_{event}" for event in Event} == {name for name in vars(Callback) if name.startswith("on_")}
