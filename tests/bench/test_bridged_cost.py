"""What a step of the other framework's code costs, in Python calls, and that it is less than at home where it can be."""

from __future__ import annotations

import pytest
from ignite.engine import Engine

from tests.bench.bridged import Module
from tests.bench.counting import Calls, a_step, batches, trainer
from tests.bench.work import fully_connected
from unitrain import from_engine
from unitrain_bridges.lightning.trainer import StandInTrainer

ROOM = 1.05
"""What a measured number may grow by until someone looks: other releases have other helpers."""


def a_module(framework, folder):
    def prepared(count):
        one, data = trainer(framework, loggers=[], default_root_dir=folder / str(count)), batches(count)
        return lambda: one.fit(Module(fully_connected(64, 32, 10)), data)

    return prepared


def an_engine(framework, folder):
    """Return what prepares an Ignite program with an empty step."""

    def prepared(count):
        one, data = trainer(framework), batches(count)
        return lambda: one.fit(from_engine(Engine(lambda engine, batch: None)), data)

    return prepared


CALLS = {
    ("module", "ignite"): 243,
    ("module", "reference"): 221,
    ("engine", "lightning"): 86,
    ("engine", "reference"): 60,
}
PROGRAMS = {"module": a_module, "engine": an_engine}


@pytest.mark.parametrize(("program", "framework"), CALLS)
def test_calls_of_bridged_code_are_within_budget(program, framework, tmp_path):
    found = a_step(Calls, PROGRAMS[program](framework, tmp_path))
    assert found <= ROOM * CALLS[program, framework], found


def test_a_module_costs_elsewhere_an_eighth_of_what_it_costs_at_home(monkeypatch, tmp_path):
    at_home = a_step(Calls, a_module("lightning", tmp_path / "home"))
    assert a_step(Calls, a_module("ignite", tmp_path / "short")) <= 0.125 * at_home
    monkeypatch.setattr(StandInTrainer, "short_way", False)
    assert a_step(Calls, a_module("ignite", tmp_path / "long")) > 0.75 * at_home
