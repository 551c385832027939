"""The engine on Ignite does no more than is listened to, and loses nothing for it."""

import logging
from functools import partial

import ignite.engine
import pytest
import torch
from ignite.engine import Events
from torch import nn

from unitrain import TrainSpec, UnifiedTrainer, UnsupportedFeatureError
from unitrain_ignite.engine import lean_engine

HEARD = [event for event in Events if event is not Events.EXCEPTION_RAISED]  # who listens to that swallows errors


def told(engine, epochs=2):
    """Return each event with the counters, as handlers hear them."""
    heard = []
    for event in HEARD:
        engine.add_event_handler(event, lambda *_, name=event.name, **__: heard.append((name, *counters(engine))))
    engine.add_event_handler(Events.ITERATION_COMPLETED(once=5), engine.terminate_epoch)
    engine.run([1, 2, 3], max_epochs=epochs)
    return heard


def counters(engine):
    return engine.state.epoch, engine.state.iteration, engine.state.output, engine.last_event_name


def process(engine, batch):
    return 10 * batch


def test_who_listens_hears_what_ignite_tells():
    assert told(lean_engine(process)) == told(ignite.engine.Engine(process))


def test_an_event_without_a_handler_is_counted_all_the_same():
    engines = lean_engine(process), ignite.engine.Engine(process)
    seen = [[], []]
    for engine, own in zip(engines, seen, strict=True):
        engine.add_event_handler(Events.EPOCH_COMPLETED, lambda engine, own: own.append(counters(engine)), own)
        engine.run([1, 2, 3], max_epochs=2)
        own.append(counters(engine))
    assert seen[0] == seen[1]


def test_it_is_ignites_own_class():
    assert type(lean_engine(process)) is ignite.engine.Engine


def test_its_log_is_there_for_those_who_read_it(caplog):
    with caplog.at_level(logging.DEBUG, logger="ignite.engine.engine.Engine"):
        lean_engine(process).run([1, 2], max_epochs=1)
    lines = [one.getMessage() for one in caplog.records]
    assert any("Firing handlers for event Events.ITERATION_STARTED" in one for one in lines)


class Pausing:
    """A native handler that wants to go on later."""

    def attach(self, engine):
        engine.add_event_handler(Events.ITERATION_COMPLETED(once=3), lambda engine: engine.interrupt())


def test_a_pause_is_refused_for_it_would_look_like_the_end():
    spec = TrainSpec(model=nn.Linear(4, 1), loss=nn.MSELoss(), optimizer=partial(torch.optim.SGD, lr=0.1))
    data = [(torch.randn(8, 4), torch.randn(8, 1)) for _ in range(5)]
    trainer = UnifiedTrainer("ignite", max_epochs=2, callbacks=[Pausing()], enable_progress_bar=False)
    with pytest.raises(UnsupportedFeatureError, match="one run"):
        trainer.fit(spec, data)
