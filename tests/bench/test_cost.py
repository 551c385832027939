"""What a step costs, in things that can be counted: Python calls and waits for the device. Clocks swing, these do not."""

from __future__ import annotations

import pytest

from tests.bench.counting import Calls, Waits, a_step
from tests.bench.setups import LISTENING, SETUPS, Setup
from unitrain.callbacks import Callback, progress
from unitrain_lightning import adapter

FRAMEWORKS = ("ignite", "lightning")
FAST = {
    "plain",
    "accuracy of torchmetrics",
    "callbacks, tracker, accuracy",
    "16-mixed",
    "clipping norms",
    "data without a length",
    "evaluation",
}
"""What the fast tier counts; each of the others differs from one of these in one thing."""
CELLS = [
    *(
        pytest.param(framework, setup, id=f"{name}-{framework}", marks=() if name in FAST else pytest.mark.slow)
        for name, setup in SETUPS.items()
        for framework in FRAMEWORKS
    ),
    pytest.param("lightning", LISTENING, id="a native callback-lightning"),
]

GOALS = {"ignite": 230, "lightning": 650}
"""Of the design notes; a bare loop with a loss and an accuracy makes some 130 calls."""
ROOM = 1.05
"""What a measured number may grow by until someone looks: other releases of torch have other helpers."""


@pytest.fixture(autouse=True)
def no_clock(monkeypatch):
    """A bar is drawn once: how often it is, is the clock's."""
    monkeypatch.setattr(progress, "_REFRESH_SECONDS", 1e9)


@pytest.mark.parametrize(("framework", "setup"), CELLS)
def test_python_calls_a_step_are_within_budget(framework, setup, tmp_path):
    measured = setup.calls[FRAMEWORKS.index(framework)]
    assert a_step(Calls, setup.run(framework, tmp_path)) <= ROOM * measured


@pytest.mark.parametrize(("framework", "setup"), CELLS)
def test_no_step_waits_for_the_device_unless_it_says_why(framework, setup, tmp_path):
    assert a_step(Waits, setup.run(framework, tmp_path)) == setup.waits
    assert bool(setup.why) == bool(setup.waits)


@pytest.mark.parametrize("name", ["plain", "callbacks, tracker, accuracy"])
@pytest.mark.parametrize("framework", GOALS)
def test_the_budgets_are_within_the_goals(name, framework):
    assert ROOM * SETUPS[name].calls[FRAMEWORKS.index(framework)] <= GOALS[framework]


def test_a_call_for_each_batch_is_within_the_goal_too(monkeypatch, tmp_path):
    """As where a hook of Lightning's listens, or its release is older; then a step is a call of its loop."""
    monkeypatch.setattr(adapter, "may_batch_steps", lambda *arguments: False)
    in_runs = SETUPS["plain"].calls[FRAMEWORKS.index("lightning")]
    assert ROOM * in_runs < a_step(Calls, SETUPS["plain"].run("lightning", tmp_path)) <= GOALS["lightning"]


class Seeded(Callback):
    """Does something at each batch."""

    def __init__(self, act):
        self._act = act

    def on_batch_end(self, run):
        """Do it."""
        self._act(run)


def seeded(act):
    return Setup((0, 0), lambda folder: {"callbacks": [Seeded(act)]})


def inner():
    """Do nothing."""


def outer():
    inner()


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_calls_of_a_handler_are_counted(framework, tmp_path):
    """The measure moves when the work does: by two calls where two are more."""
    one, more = (a_step(Calls, seeded(act).run(framework, tmp_path)) for act in (lambda run: None, lambda run: outer()))
    assert more - one == 2


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_handler_costs_itself_and_little_more(framework, tmp_path):
    none, one = (a_step(Calls, setup.run(framework, tmp_path)) for setup in (Setup((0, 0)), seeded(lambda run: None)))
    assert 2 <= one - none <= 6


WAITING = {
    "item": lambda run: run.state.loss.item(),
    "float": lambda run: float(run.state.loss),
    "if": lambda run: bool(run.state.loss > 0),
    "cpu": lambda run: run.state.loss.cpu(),
    "numpy": lambda run: run.state.loss.numpy(),
    "tolist": lambda run: run.state.loss.tolist(),
    "nonzero": lambda run: run.state.loss.nonzero(),
}


@pytest.mark.parametrize("wait", WAITING)
@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_wait_is_counted(framework, wait, tmp_path):
    assert a_step(Waits, seeded(WAITING[wait]).run(framework, tmp_path)) == 1
