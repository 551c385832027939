"""Ignite's own event filters are the oracle of ours, occurrence by occurrence."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from ignite.engine import Engine, Events

from unitrain import Event, SpecError, UnitrainError
from unitrain.run.hub import EventHub

OCCURRENCES = 24
numbers = st.none() | st.integers(-2, OCCURRENCES + 2)
filters = st.fixed_dictionaries(
    {
        "every": numbers,
        "once": numbers | st.lists(st.integers(-1, OCCURRENCES), max_size=3),
        "before": numbers,
        "after": numbers,
        "event_filter": st.sampled_from([None, None, None, lambda _run, count: count % 5 == 2, 3, lambda: True]),
    }
)


def ours(arguments):
    hub, seen, fired = EventHub(), [], []
    hub.context = object()
    hub.on(Event.BATCH_END(**arguments), lambda: seen.append(len(fired)))
    while len(fired) < OCCURRENCES:
        fired.append(Event.BATCH_END)
        hub.fire(Event.BATCH_END)
    return seen


def ignites(arguments):
    engine, seen = Engine(lambda _engine, _batch: None), []
    engine.add_event_handler(
        Events.ITERATION_COMPLETED(**arguments), lambda running: seen.append(running.state.iteration)
    )
    engine.run(range(6), max_epochs=OCCURRENCES // 6)
    return seen


def outcome(of, arguments, refusals):
    try:
        return of(arguments)
    except refusals:
        return "refused"


@given(filters)
@example({"every": 2, "once": None, "before": None, "after": 4, "event_filter": None})
@example({"every": 1, "once": None, "before": 3, "after": None, "event_filter": None})
@example({"every": None, "once": [1, 24], "before": None, "after": None, "event_filter": None})
@example({"every": None, "once": None, "before": 0, "after": 0, "event_filter": None})
def test_filter_acts_as_ignites(arguments):
    assert outcome(ours, arguments, UnitrainError) == outcome(ignites, arguments, (ValueError, TypeError))


@pytest.mark.parametrize("every", [1, 2, 3, 5])
@pytest.mark.parametrize("after", [None, 0, 1, 4])
@pytest.mark.parametrize("before", [None, 0, 2, 9])
def test_every_with_a_range_acts_as_ignites(every, after, before):
    arguments = {"every": every, "after": after, "before": before}
    assert ours(arguments) == ignites(arguments)


def test_union_acts_as_ignites():
    hub, mine, theirs = EventHub(), [], []
    hub.context = object()
    hub.on(Event.BATCH_END(once=2) | Event.BATCH_END(every=5) | Event.EPOCH_END, lambda: mine.append(count))
    for count in range(1, 13):
        hub.fire(Event.BATCH_END)
        if count % 6 == 0:
            hub.fire(Event.EPOCH_END)
    engine = Engine(lambda _engine, _batch: None)
    union = Events.ITERATION_COMPLETED(once=2) | Events.ITERATION_COMPLETED(every=5) | Events.EPOCH_COMPLETED
    engine.add_event_handler(union, lambda running: theirs.append(running.state.iteration))
    engine.run(range(6), max_epochs=2)
    assert mine == theirs == [2, 5, 6, 10, 12]


def test_both_refuse_a_mixture_and_ours_says_what_is_accepted():
    with pytest.raises(ValueError, match="Only one"):
        Events.ITERATION_COMPLETED(every=2, once=3)
    with pytest.raises(SpecError, match=r"every=2, once=3[\s\S]*Hint:"):
        Event.BATCH_END(every=2, once=3)
