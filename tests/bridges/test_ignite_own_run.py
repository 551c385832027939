"""Engines whose class has a run() of its own, as MONAI's trainers have: UnifiedTrainer calls it, on each backend."""

from __future__ import annotations

import pytest
import torch
from ignite.engine import Engine, Events
from ignite.metrics import Average
from torch import nn

from unitrain import ConfigError, UnifiedTrainer, UnsupportedFeatureError, from_engine
from unitrain_bridges.ignite import session

BACKENDS = ("ignite", "lightning", "reference")
pytestmark = pytest.mark.filterwarnings("ignore")


class Holding(Engine):
    """Holds its data and its epochs."""

    held, epochs = None, 2

    def run(self):
        return super().run(self.held, max_epochs=self.epochs)


class Taking(Engine):
    def run(self, data, max_epochs=3):
        return super().run(data=data, max_epochs=max_epochs)


class Handing(Engine):
    def run(self, *given, **options):
        return super().run(*given, **options)


class Twice(Holding):
    """Warms up on a part of its data."""

    def run(self):
        self.state.max_epochs = None
        super(Holding, self).run(self.held[:2], max_epochs=1)
        self.state.max_epochs = None
        return super().run()


class Heir(Holding):
    """Its own run() calls that of its base, which calls Ignite's."""

    def run(self):
        self.calls = getattr(self, "calls", 0) + 1
        return super().run()


class Looping(Engine):
    def run(self, data):
        for batch in data:
            self._process_function(self, batch)


class Written:
    """A program with an engine of a class, what it trains, and the weights after each iteration."""

    def __init__(self, kind):
        torch.manual_seed(4)
        self.net = nn.Linear(3, 1)
        self.optimizer = torch.optim.SGD(self.net.parameters(), lr=0.1, momentum=0.9)
        self.engine, self.seen, self.fired = kind(self.step), [], []
        self.data = self.engine.held = [torch.randn(2, 3) for _ in range(4)]
        Average().attach(self.engine, "mean")
        self.engine.add_event_handler(Events.ITERATION_COMPLETED, self.look)
        for event in Events:
            if event is not Events.EXCEPTION_RAISED:
                self.engine.add_event_handler(event, self.fire)

    def step(self, engine, batch):
        self.optimizer.zero_grad()
        loss = (self.net(batch + torch.rand(1)) - 1).square().mean()
        loss.backward()
        self.optimizer.step()
        return loss.item()

    def fire(self, engine, **_):
        self.fired.append(engine.last_event_name.name)

    def look(self):
        self.seen += [one.detach().clone() for one in self.net.parameters()]

    @property
    def trace(self):
        state = self.engine.state
        return self.fired, state.epoch, state.iteration, dict(state.metrics), torch.get_rng_state().tolist()


def same(one, other):
    return one.trace == other.trace and len(one.seen) == len(other.seen) and all(map(torch.equal, one.seen, other.seen))


WAYS = {
    "holding": (Holding, False, {}),
    "an heir": (Heir, False, {}),
    "twice": (Twice, False, {}),
    "taking": (Taking, True, {}),
    "taking, epochs": (Taking, True, {"max_epochs": 2}),
    "handing on": (Handing, True, {"max_epochs": 2}),
}


def natively(kind, data, options):
    written = Written(kind)
    written.engine.run(*([written.data] if data else []), **options)
    return written


@pytest.mark.parametrize("framework", BACKENDS)
@pytest.mark.parametrize("way", WAYS)
def test_it_does_what_it_does_without_unitrain(way, framework):
    kind, data, options = WAYS[way]
    wanted, written = natively(kind, data, options), Written(kind)
    trainer = UnifiedTrainer(framework, **options)
    result = trainer.fit(written.engine, *([written.data] if data else []))
    assert same(written, wanted)
    assert getattr(written.engine, "calls", None) == getattr(wanted.engine, "calls", None)
    assert result.step == len(wanted.seen) // 2
    assert (trainer.native is written.engine) == (framework == "ignite")


def test_the_backend_runs_it(monkeypatch):
    """A fault of the bridge: where nobody calls the class's run(), what it sets is missing, and it is noticed."""
    monkeypatch.setattr(session, "has_own_run", lambda engine: False)
    with pytest.raises(ValueError, match="epoch_length should be provided if data is None"):
        UnifiedTrainer("reference").fit(Written(Holding).engine)
    written = Written(Taking)
    UnifiedTrainer("reference").fit(written.engine, written.data)
    assert not same(written, natively(Taking, True, {}))


REFUSED = {
    "a loader": (Holding, True, {}, r"the loader given to the trainer cannot act: Holding\.run\(\) does not take data"),
    "epochs": (
        Holding,
        False,
        {"max_epochs": 1},
        r"max_epochs=1 cannot act: Holding\.run\(\) does not take max_epochs",
    ),
    "no loader": (Taking, False, {}, r"Taking\.run\(data, max_epochs=3\) cannot be called with no arguments: missing"),
}


@pytest.mark.parametrize("framework", BACKENDS)
@pytest.mark.parametrize("case", REFUSED)
def test_what_its_run_does_not_take_is_refused_before_training(case, framework):
    kind, data, options, says = REFUSED[case]
    written = Written(kind)
    with pytest.raises(ConfigError, match=rf"(?s){says}.*Hint: "):
        UnifiedTrainer(framework, **options).fit(written.engine, *([written.data] if data else []))
    assert not written.seen
    assert not written.fired


@pytest.mark.parametrize("framework", BACKENDS)
def test_options_of_a_program_are_arguments_of_run(framework):
    written = Written(Holding)
    with pytest.raises(ConfigError, match="epoch_length=2 cannot act"):
        UnifiedTrainer(framework).fit(from_engine(written.engine, epoch_length=2))


def test_a_run_that_is_a_loop_is_told():
    written = Written(Looping)
    with pytest.raises(UnsupportedFeatureError, match=r"Looping.run\(\) did not call Engine.run\(\)"):
        UnifiedTrainer("lightning").fit(written.engine, written.data)
    UnifiedTrainer("ignite").fit(Written(Looping).engine, written.data)


class Evaluator(Engine):
    """As MONAI's: it takes the epoch of the trainer, and nothing else."""

    held = (torch.ones(2, 3), torch.zeros(1, 3))

    def run(self, global_epoch=1):
        self.state.max_epochs, self.state.epoch, self.state.iteration = global_epoch, global_epoch - 1, 0
        return super().run(data=self.held)


@pytest.mark.parametrize("framework", BACKENDS)
def test_an_evaluator_of_its_own_kind(framework):
    def made():
        engine = Evaluator(lambda engine, batch: float(batch.sum()))
        Average().attach(engine, "mean")
        return engine

    trainer = UnifiedTrainer(framework)
    assert trainer.validate(made(), verbose=False) == {"mean": 3.0}
    assert trainer.predict(made()) == [6.0, 0.0]
    with pytest.raises(ConfigError, match=r"Evaluator.run\(global_epoch=1\) does not take data"):
        trainer.validate(made(), [torch.ones(1, 3)])


@pytest.mark.parametrize("framework", BACKENDS)
def test_a_trainer_that_runs_such_an_evaluator_in_a_handler(framework):
    def made():
        written = Written(Holding)
        evaluator = Evaluator(lambda engine, batch: float(written.net(batch).sum()))
        Average().attach(evaluator, "mean")
        found = []

        @written.engine.on(Events.EPOCH_COMPLETED)
        def validate(engine):
            evaluator.run(engine.state.epoch)
            found.append(evaluator.state.metrics["mean"])

        return written, found

    (wanted, values), (written, found) = made(), made()
    torch.manual_seed(1)
    wanted.engine.run()
    torch.manual_seed(1)
    UnifiedTrainer(framework).fit(written.engine)
    assert found == values
    assert len(found) == 2
    assert same(written, wanted)
