"""On Ignite, a native handler that listens to each batch changes nothing, and hears of a batch before its validation."""

from functools import partial

import pytest
import torch
from ignite.engine import Events
from torch import nn

from unitrain import Event, TrainSpec, UnifiedTrainer

SEEN = (
    Event.FIT_START,
    Event.EPOCH_START,
    Event.BATCH_END,
    Event.VAL_START,
    Event.VAL_END,
    Event.EPOCH_END,
    Event.FIT_END,
)
RUNS = {
    "validation in mid-epoch": {"max_epochs": 2, "val_check_interval": 2},
    "validation at the end": {"max_epochs": 2},
    "a stop in mid-epoch": {"max_epochs": 3, "max_steps": 7},
    "a time that is over": {"max_epochs": 3, "max_time": {"microseconds": 1}},
}


class Listening:
    """A native handler of ITERATION_COMPLETED."""

    def __init__(self, hear=lambda engine: None):
        self.hear = hear

    def attach(self, engine):
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.hear)


class Unsized:
    """Five batches, which is not said."""

    def __iter__(self):
        return iter(batches(5))


def batches(count):
    generator = torch.Generator().manual_seed(count)
    return [(torch.randn(2, 4, generator=generator), torch.randn(2, 1, generator=generator)) for _ in range(count)]


def told(data, *callbacks, **options):
    """Train, and return what unitrain's handlers see of the engine at each event, and the weights."""
    torch.manual_seed(0)
    spec = TrainSpec(model=nn.Linear(4, 1), loss=nn.MSELoss(), optimizer=partial(torch.optim.SGD, lr=0.1))
    trainer = UnifiedTrainer("ignite", callbacks=callbacks, enable_progress_bar=False, **options)
    seen = []

    def note(run, name):
        state = run.native.state
        at = run.native.last_event_name
        seen.append((name, at, state.epoch, state.iteration, state.epoch_length, run.state.batch, state.output))

    for event in SEEN:
        trainer.on(event, partial(note, name=event.value))
    trainer.fit(spec, data, batches(2))
    return seen, [*spec.model.parameters()]


@pytest.mark.parametrize("name", RUNS)
@pytest.mark.parametrize("data", [batches(5), Unsized()], ids=["sized", "unsized"])
def test_a_listener_changes_nothing(name, data):
    if isinstance(data, Unsized) and "val_check_interval" in RUNS[name]:
        data = batches(4)  # another length: an interval of batches needs one
    alone, weights = told(data, **RUNS[name])
    beside, same = told(data, Listening(), **RUNS[name])
    assert [one[:-1] for one in alone] == [one[:-1] for one in beside]
    assert all(torch.equal(one, other) for one, other in zip(weights, same, strict=True))
    for (*_, ours), (*_, theirs) in zip(alone, beside, strict=True):
        assert ours is theirs is None or torch.equal(ours, theirs)


def test_a_listener_hears_of_a_batch_before_its_validation():
    heard = []
    trainer = UnifiedTrainer("ignite", max_epochs=1, enable_progress_bar=False)
    trainer.create_trainer().add_event_handler(Events.ITERATION_COMPLETED, lambda: heard.append("batch"))
    trainer.on(Event.VAL_START, lambda: heard.append("validation"))
    spec = TrainSpec(model=nn.Linear(4, 1), loss=nn.MSELoss(), optimizer=partial(torch.optim.SGD, lr=0.1))
    trainer.fit(spec, batches(3), batches(2))
    assert heard == ["batch", "batch", "batch", "validation"]


def test_a_listener_that_comes_later_hears_of_each_batch_once():
    heard = []
    trainer = UnifiedTrainer("ignite", max_epochs=2, enable_progress_bar=False)

    def attach(run):
        if run.state.epoch == 1:
            run.native.add_event_handler(
                Events.ITERATION_COMPLETED, lambda engine: heard.append(engine.state.iteration)
            )

    trainer.on(Event.EPOCH_START, attach)
    spec = TrainSpec(model=nn.Linear(4, 1), loss=nn.MSELoss(), optimizer=partial(torch.optim.SGD, lr=0.1))
    trainer.fit(spec, batches(3))
    assert heard == [4, 5, 6]
