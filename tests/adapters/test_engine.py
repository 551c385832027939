"""The engine on Ignite does no more than is listened to, and loses nothing for it."""

import gc
import logging
import pickle
import weakref
from contextlib import nullcontext
from functools import partial

import pytest
import torch
from ignite.engine import Engine, Events
from torch import nn

from unitrain import TrainSpec, UnifiedTrainer, UnsupportedFeatureError
from unitrain_ignite.engine import running

HEARD = [event for event in Events if event is not Events.EXCEPTION_RAISED]  # who listens to that swallows errors


def told(engine, around):
    """Return each event with the counters, as handlers hear them."""
    heard = []
    for event in HEARD:
        engine.add_event_handler(event, lambda *_, name=event.name, **__: heard.append((name, *counters(engine))))
    engine.add_event_handler(Events.ITERATION_COMPLETED(once=5), engine.terminate_epoch)
    with around:
        engine.run([1, 2, 3], max_epochs=2)
    return heard


def counters(engine):
    return engine.state.epoch, engine.state.iteration, engine.state.output, engine.last_event_name


def process(engine, batch):
    return 10 * batch


def test_who_listens_hears_what_ignite_tells():
    ours, stock = Engine(process), Engine(process)
    assert told(ours, running(ours)) == told(stock, nullcontext())


def test_an_event_without_a_handler_is_counted_all_the_same():
    ours, stock = Engine(process), Engine(process)
    seen = {ours: [], stock: []}
    for engine, around in ((ours, running(ours)), (stock, nullcontext())):
        engine.add_event_handler(Events.EPOCH_COMPLETED, lambda engine: seen[engine].append(counters(engine)))
        with around:
            engine.run([1, 2, 3], max_epochs=2)
        seen[engine].append(counters(engine))
    assert seen[ours] == seen[stock]


def test_its_log_is_there_for_those_who_read_it(caplog):
    engine = Engine(process)
    with caplog.at_level(logging.DEBUG, logger="ignite.engine.engine.Engine"), running(engine):
        engine.run([1, 2], max_epochs=1)
    lines = [one.getMessage() for one in caplog.records]
    assert any("Firing handlers for event Events.ITERATION_STARTED" in one for one in lines)


@pytest.mark.parametrize("held", [{}, {"interrupt_resume_enabled": True}])
def test_behind_the_run_it_is_as_it_was(held):
    engine = Engine(process)
    vars(engine).update(held)
    before = {**vars(engine)}
    engine.add_event_handler(Events.STARTED, lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError), running(engine):
        engine.run([1], max_epochs=1)
    assert vars(engine).keys() == before.keys()
    assert vars(engine).get("interrupt_resume_enabled") == held.get("interrupt_resume_enabled")


def test_a_trainer_with_its_engine_can_be_sent():
    trainer = UnifiedTrainer("ignite", max_epochs=1, enable_progress_bar=False)
    trainer.create_trainer()
    assert type(trainer.native) is Engine
    assert type(pickle.loads(pickle.dumps(trainer)).native) is Engine


def test_an_engine_that_is_done_goes_with_its_batches():
    """Without waiting for the garbage collector: a batch may be a large one on a device."""
    engine = Engine(process)
    with running(engine):
        engine.run([1], max_epochs=1)
    gone = weakref.ref(engine)
    gc.disable()
    try:
        del engine
        assert gone() is None
    finally:
        gc.enable()


class Pausing:
    """A native handler that wants to go on later."""

    def attach(self, engine):
        engine.add_event_handler(Events.ITERATION_COMPLETED(once=3), lambda engine: engine.interrupt())


def test_a_pause_is_refused_for_it_would_look_like_the_end():
    spec = TrainSpec(model=nn.Linear(4, 1), loss=nn.MSELoss(), optimizer=partial(torch.optim.SGD, lr=0.1))
    data = [(torch.randn(8, 4), torch.randn(8, 1)) for _ in range(5)]
    trainer = UnifiedTrainer("ignite", max_epochs=2, callbacks=[Pausing()], enable_progress_bar=False)
    with pytest.raises(UnsupportedFeatureError, match="which unitrain does not support"):
        trainer.fit(spec, data)
