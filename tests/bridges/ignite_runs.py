"""Runs an Ignite program on its own engine and elsewhere, and writes down all that it does."""

from __future__ import annotations

import functools
import logging
import re
import sys
import warnings
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from ignite.engine import Engine, Events
from torch import nn
from torch.optim.optimizer import register_optimizer_step_post_hook
from torch.utils.data import DataLoader, TensorDataset

from unitrain import UnifiedTrainer
from unitrain.interop.ignite_programs import from_engine
from unitrain_bridges.ignite.bridge import IgniteBridge

AWAY = ("lightning", "reference")
LOOPS = {
    "lightning": ("loops/fit_loop.py", "advance"),
    "reference": ("unitrain/testing/reference.py", "run"),
    "ignite": ("ignite/engine/engine.py", "_internal_run_"),
}


@dataclass
class Log:
    """What a program did.

    Attributes:
        events: Each event with the state's own fields, and whatever a case notes.
        weights: The weights after each step of an optimizer.
        lines: What Ignite's loggers said, without times.
        errors: The exceptions that runs ended with, and the warnings.
        engines: Whose loop each step ran in.
        rng: Where torch's generator stood at the end.
    """

    events: list = field(default_factory=list)
    weights: list = field(default_factory=list)
    lines: list = field(default_factory=list)
    errors: list = field(default_factory=list)
    engines: set = field(default_factory=set)
    rng: torch.Tensor | None = None

    def note(self, *what):
        self.events.append(what)


def same(one: Log, other: Log) -> str:
    """Return where two logs part; empty if they are the same."""
    for name in ("events", "errors", "lines"):
        a, b = getattr(one, name), getattr(other, name)
        for index, pair in enumerate(zip(a, b, strict=False)):
            if repr(pair[0]) != repr(pair[1]):
                return f"{name}[{index}]:\n {pair[0]}\n {pair[1]}\n after {a[max(0, index - 3) : index]}"
        if len(a) != len(b):
            return f"{len(a)} {name} and {len(b)}; the others: {(a[len(b) :] or b[len(a) :])[:5]}"
    if len(one.weights) != len(other.weights):
        return f"{len(one.weights)} steps and {len(other.weights)}"
    for index, (a, b) in enumerate(zip(one.weights, other.weights, strict=True)):
        if not all(map(torch.equal, a, b)):
            return f"weights after step {index + 1}"
    return "" if torch.equal(one.rng, other.rng) else "the generator"


class Program:
    """A small program whose every part a case may change.

    Attributes:
        start: Runs an engine with the arguments of ``Engine.run``.
        log: What it did.
    """

    def __init__(self, start):
        torch.manual_seed(3)
        self.start = start
        self.log = Log()
        self.net = nn.Sequential(nn.Linear(4, 6), nn.Dropout(0.4), nn.Linear(6, 3))
        self.optimizer = torch.optim.Adam(self.net.parameters(), lr=0.05)
        self.data = TensorDataset(torch.randn(14, 4), torch.randint(0, 3, (14,)))
        self.loader = DataLoader(self.data, batch_size=4, shuffle=True)

    def step(self, engine, batch):
        x, y = batch
        self.optimizer.zero_grad()
        loss = nn.functional.cross_entropy(self.net(x), y) * (1 + torch.rand(()))
        loss.backward()
        self.optimizer.step()
        return loss.item()

    def engine(self, step=None, kind=Engine):
        engine = kind(step or self.step)
        self.listen(engine)
        return engine

    def listen(self, engine):
        for event in Events:
            if event is not Events.EXCEPTION_RAISED:
                engine.add_event_handler(event, functools.partial(self._heard, engine, event))

    def _heard(self, engine, event, *_, **more):
        state = engine.state
        shown = state.epoch, state.iteration, state.epoch_length, state.max_epochs, getattr(state, "max_iters", None)
        batch = None if state.batch is None else [float(part.sum()) for part in state.batch]
        flags = engine.should_terminate, engine.should_terminate_single_epoch
        self.log.note(event.name, *shown, batch, state.output, dict(state.metrics), *flags, sorted(more.items()))
        assert all(isinstance(one, float) for one in state.times.values())

    def run(self, engine, data="loader", **arguments):
        """Run the engine as the case's home or host does; what it raises is a part of the log."""
        data = self.loader if isinstance(data, str) else data
        try:
            with warnings.catch_warnings(record=True) as told:
                warnings.simplefilter("always")
                self.start(engine, data, **arguments)
        except (Exception, KeyboardInterrupt, GeneratorExit) as error:  # noqa: BLE001 - whatever it is
            self.log.errors.append((type(error).__name__, str(error)))
        self.log.errors += [str(one.message) for one in told if "iterator" in str(one.message)]
        state = engine.state
        self.log.note("after", state.epoch, state.iteration, state.output, engine.last_event_name, dict(state.metrics))
        self.log.note(
            engine.should_terminate,
            engine._dataloader_iter is None,
            sorted(getattr(one, "name", one) for one in engine._event_handlers),
        )
        self.log.note("modes", [one.training for one in self.net.modules()], torch.is_grad_enabled())
        self.log.note("grads", [one.grad is None or one.grad.sum().item() for one in self.net.parameters()])


def run_as(case, framework, start=None) -> Log:
    """Run a case; natively if ``framework`` is None."""
    program = Program(start or (natively if framework is None else away(framework)))
    with _written_down(program):
        case(program)
    program.log.rng = torch.get_rng_state()
    return program.log


def redirected(framework):
    """Run as a script does that knows nothing of unitrain."""

    def start(engine, data, **arguments):
        with IgniteBridge().redirected(framework):
            assert engine.run(data, **arguments) is engine.state

    return start


def natively(engine, data, **arguments):
    return engine.run(data, **arguments)


def away(framework, **options):
    def start(engine, data, max_epochs=None, epoch_length=None, max_iters=None):
        trainer = UnifiedTrainer(framework, max_epochs=max_epochs, **options)
        program = from_engine(engine, epoch_length=epoch_length, max_iters=max_iters)
        result = trainer.fit(program, data)
        assert result.framework == framework
        assert trainer.foreign_trainer is engine
        return result

    return start


@contextmanager
def _written_down(program):
    log = program.log

    def stepped(optimizer, *_):
        log.weights.append([one.detach().clone() for group in optimizer.param_groups for one in group["params"]])
        log.engines |= {name for name in LOOPS if name in _callers()}

    class Lines(logging.Handler):
        def emit(self, record):
            log.lines.append(re.sub(r"\d+:\d\d:\d\d\.\d+| at 0x\w+", "...", record.getMessage()))

    logger, lines = logging.getLogger("ignite"), Lines()
    level, spread = logger.level, logger.propagate
    hook = register_optimizer_step_post_hook(stepped)
    logger.addHandler(lines)
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    try:
        yield
    finally:
        hook.remove()
        logger.removeHandler(lines)
        logger.setLevel(level)
        logger.propagate = spread


def _callers():
    found, frame = set(), sys._getframe()
    while frame is not None:
        where = frame.f_code.co_filename, frame.f_code.co_name
        found |= {
            name for name, (end, function) in LOOPS.items() if where[0].endswith(end) and where[1].startswith(function)
        }
        frame = frame.f_back
    return found
