"""What a program's functions refer to, which engines train, and scripts that run elsewhere as they are."""

from __future__ import annotations

import functools
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from ignite.engine import Engine, Events, create_supervised_evaluator, create_supervised_trainer
from ignite.handlers import Checkpoint, DiskSaver, EMAHandler, LRScheduler
from torch import nn
from torch.nn.functional import mse_loss

from tests.bridges.ignite_runs import Program
from unitrain.interop.ignite_programs import from_engine
from unitrain_bridges.ignite.bridge import IgniteBridge
from unitrain_bridges.ignite.discovery import discover, wrap_modules
from unitrain_bridges.ignite.roles import trains

NET = nn.Linear(2, 2)
OPTIMIZER = torch.optim.SGD(NET.parameters(), lr=0.1)
OTHER = nn.Linear(3, 3)
HELD = SimpleNamespace(net=OTHER, optimizer=torch.optim.SGD(OTHER.parameters(), lr=0.1))


def by_globals(engine, batch):
    loss = NET(batch).sum()
    loss.backward()
    OPTIMIZER.step()


def by_a_function(engine, batch):
    return by_globals(engine, batch)


def by_a_namespace(engine, batch):
    HELD.net(batch).sum().backward()
    HELD.optimizer.step()


def by_argument(engine, batch, *, net=NET, optimizer=OPTIMIZER):
    optimizer.step()


class Learner:
    def __init__(self):
        self.net, self.optimizer, self.loss = NET, OPTIMIZER, nn.MSELoss()
        self.later = {"schedule": torch.optim.lr_scheduler.StepLR(OPTIMIZER, 1)}

    def step(self, engine, batch):
        self.update(batch)

    def update(self, batch):
        self.loss(self.net(batch), batch).backward()
        self.optimizer.step()

    def evaluate(self, engine, batch):
        with torch.no_grad():
            return self.net(batch)

    def __call__(self, engine, batch):
        self.update(batch)


def by_closure():
    net, optimizer = NET, OPTIMIZER

    def step(engine, batch):
        def closure():
            loss = net(batch).sum()
            loss.backward()
            return loss

        optimizer.step(closure)

    return step


def by_another_object():
    learner = Learner()
    return lambda engine, batch: learner.update(batch)


TRAIN = {
    "globals": by_globals,
    "function": by_a_function,
    "argument": by_argument,
    "method": Learner().step,
    "call": Learner(),
    "closure": by_closure(),
    "object": by_another_object(),
    "partial": functools.partial(by_argument, net=NET),
}


@pytest.mark.parametrize("name", TRAIN)
def test_modules_and_optimizers_are_found(name):
    found = discover(Engine(TRAIN[name]))
    assert list(map(id, found.modules.values())) == [id(NET)]
    assert list(map(id, found.optimizers.values())) == [id(OPTIMIZER)]
    assert trains(Engine(TRAIN[name]))


def test_a_namespace_is_looked_into():
    assert discover(Engine(by_a_namespace)).modules == {"net": OTHER}
    assert trains(Engine(by_a_namespace))


def test_supervised_engines_tell_their_role():
    trainer = create_supervised_trainer(NET, OPTIMIZER, mse_loss)
    assert discover(trainer).modules == {"model": NET}
    assert trains(trainer)
    assert not trains(create_supervised_evaluator(NET))


EVALUATE = {
    "method": Learner().evaluate,
    "lambda": lambda engine, batch: NET(batch),
    "nothing": lambda engine, batch: None,
}


@pytest.mark.parametrize("name", EVALUATE)
def test_evaluators_do_not_train(name):
    engine = Engine(EVALUATE[name])
    engine.add_event_handler(
        Events.COMPLETED, Checkpoint({"optimizer": OPTIMIZER}, DiskSaver(".", require_empty=False))
    )
    engine.add_event_handler(Events.COMPLETED, LRScheduler(torch.optim.lr_scheduler.StepLR(OPTIMIZER, 1)))
    assert not trains(engine)


def test_a_handler_may_be_what_trains():
    engine = Engine(EVALUATE["nothing"])

    @engine.on(Events.EPOCH_COMPLETED(every=2))
    def learn():
        NET(torch.ones(2)).sum().backward()
        OPTIMIZER.step()

    assert trains(engine)
    assert discover(engine).optimizers == {"OPTIMIZER": OPTIMIZER}


def test_handlers_are_looked_into():
    engine = Engine(EVALUATE["nothing"])
    engine.add_event_handler(Events.COMPLETED, Checkpoint({"net": NET}, DiskSaver(".", require_empty=False)))
    EMAHandler(OTHER).attach(engine)
    engine.add_event_handler(Events.COMPLETED, lambda engine, held: None, [OPTIMIZER])
    found = discover(engine)
    assert {id(NET), id(OTHER)} <= set(map(id, found.modules.values()))
    assert list(found.optimizers.values()) == [OPTIMIZER]


def test_parts_and_losses_are_no_modules_of_their_own():
    whole = nn.Sequential(NET, nn.ReLU())
    loss = nn.MSELoss()
    found = discover(Engine(lambda engine, batch: loss(whole(batch), NET(batch))))
    assert found.modules == {"whole": whole}


def test_what_the_user_names_holds():
    program = from_engine(Engine(by_globals), modules=[OTHER, NET], optimizers=[HELD.optimizer])
    found = discover(program.engine, program)
    assert found.modules == {"model_0": OTHER, "model_1": NET}
    assert found.optimizers == {"optimizer": HELD.optimizer}


def test_a_holder_takes_any_name():
    held = wrap_modules({"train": NET, "a.b": OTHER})
    assert set(map(id, held.children())) == {id(NET), id(OTHER)}
    assert callable(held.train)


def test_only_engines_that_train_are_redirected():
    ran = []

    def start(engine, data, **arguments):
        with IgniteBridge().redirected("reference"):
            evaluator.run(data)
            engine.run(data, **arguments)
            evaluator.run(data)

    program = Program(start)
    evaluator = create_supervised_evaluator(program.net)
    evaluator.add_event_handler(Events.ITERATION_STARTED, lambda: ran.append(_loops()))
    engine = program.engine()
    engine.add_event_handler(Events.EPOCH_COMPLETED, lambda: evaluator.run(program.loader))
    engine.add_event_handler(Events.ITERATION_STARTED, lambda: ran.append(_loops()))
    program.run(engine, max_epochs=1)
    assert program.log.errors == []
    alone, hosted, within = {"_internal_run_as_gen"}, {"ReferenceRun.run"}, {"ReferenceRun.run", "_internal_run_as_gen"}
    assert ran == [alone] * 4 + [hosted] * 4 + [within] * 4 + [alone] * 4


def test_redirection_ends_with_its_block():
    original = Engine.run
    with pytest.raises(LookupError):
        _fail_within(original)
    assert Engine.run is original
    with IgniteBridge().redirected("ignite"):
        assert Engine.run is original


def _fail_within(original):
    with IgniteBridge().redirected("lightning"):
        assert Engine.run is not original
        raise LookupError


def _loops():
    found, frame = set(), sys._getframe()
    while frame is not None:
        found |= {frame.f_code.co_name, frame.f_code.co_qualname}
        frame = frame.f_back
    return found & {"ReferenceRun.run", "_internal_run_as_gen", "advance"}


SCRIPT = """
import torch
from torch import nn
from ignite.engine import Engine, Events
net = nn.Linear(2, 1)
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
def step(engine, batch):
    optimizer.zero_grad()
    net(batch).sum().backward()
    optimizer.step()
engine = Engine(step)
print(engine.run([torch.ones(2)] * 3, max_epochs=2).iteration)
"""


@pytest.mark.slow
def test_a_script_runs_elsewhere_as_it_is(tmp_path):
    script = tmp_path / "train.py"
    script.write_text(SCRIPT)
    command = [sys.executable, "-m", "unitrain", "run", str(script), "--framework", "lightning"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "6\n"), done.stderr
