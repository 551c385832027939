"""Engines that train within a handler of another one; what a StopIteration of a handler is."""

import pytest
import torch
from ignite.engine import Engine, Events

from tests.bridges.running import SCRIPTS, natively, redirected
from tests.bridges.trace import unproved
from unitrain import UnifiedTrainer, from_engine
from unitrain_bridges.ignite import bridge

SCRIPT = SCRIPTS / "ignite" / "teacher_student.py"


def training():
    weight = torch.nn.Parameter(torch.ones(2))
    optimizer = torch.optim.SGD([weight], lr=0.1)

    def step(engine, batch):
        optimizer.zero_grad()
        (weight * batch).sum().backward()
        optimizer.step()
        return weight.sum().item()

    return Engine(step)


def test_a_nested_trainer_that_stays_behind_is_noticed(monkeypatch):
    # the fault: only an engine that runs alone trains
    alone = []

    def trains(engine):
        alone.append(engine)
        return engine is alone[0]

    monkeypatch.setattr(bridge, "trains", trains)
    assert "ignite" in unproved(redirected(SCRIPT, "lightning"), "lightning", natively(SCRIPT))


PLACES = (Events.STARTED, Events.EPOCH_STARTED, Events.EPOCH_COMPLETED, Events.COMPLETED)


@pytest.mark.parametrize("place", PLACES, ids=str)
@pytest.mark.parametrize("framework", ["lightning", "reference"])
def test_handlers_of_errors_see_a_stop_iteration_as_it_is(place, framework):
    def run(name):
        engine, seen = training(), []

        def stop(_):
            raise StopIteration("no more")

        engine.add_event_handler(place, stop)
        engine.add_event_handler(Events.EXCEPTION_RAISED, lambda _, error: seen.append(repr(error)))
        UnifiedTrainer(name, max_epochs=2).fit(from_engine(engine), [torch.ones(2)] * 3)
        return seen, engine.state.epoch, engine.state.iteration

    wanted = run("ignite")
    assert wanted[0] == ["StopIteration('no more')"]
    assert run(framework) == wanted


@pytest.mark.parametrize("framework", ["ignite", "lightning", "reference"])
def test_a_stop_iteration_that_nobody_takes_is_an_error(framework):
    engine = training()

    def stop(_):
        raise StopIteration

    engine.add_event_handler(Events.EPOCH_STARTED, stop)
    with pytest.raises(RuntimeError, match="generator raised StopIteration"):
        UnifiedTrainer(framework, max_epochs=1).fit(from_engine(engine), [torch.ones(2)])


class Workflow(Engine):
    """An engine that holds its data, as those of some libraries do."""

    def __init__(self, process, data):
        super().__init__(process)
        self.held = data

    def run(self):
        return super().run(self.held, max_epochs=2)


def test_an_engine_that_holds_its_data_is_redirected():
    engine = Workflow(training()._process_function, [torch.ones(2)] * 3)
    with bridge.IgniteBridge().redirected("reference"):
        state = engine.run()
    assert (state.epoch, state.iteration) == (2, 6)
