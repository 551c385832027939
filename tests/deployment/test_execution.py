"""The steps of a plan: what is done, waited for and taken back, and what is told. The provider is a list."""

import pytest

from unitrain.deployment.execution import Execution, nothing
from unitrain.deployment.steps import Plan, Step, Verb
from unitrain.errors import DeployError

HOW = "do this to go on."


class World:
    """What there is, and the steps that change it."""

    def __init__(self):
        self.there, self.lines = [], []

    def make(self, name, *, looks=0, fails=None, stubborn=False, is_cleanup=False):
        """Return a step that makes ``name``; it is there after so many looks."""
        left = [looks]

        def do():
            self.there.append(name)
            if fails is not None:
                raise fails

        def ready():
            left[0] -= 1
            return "Creating" if left[0] >= 0 else None

        def undo():
            if stubborn:
                raise DeployError("it does not go.", hint="push.")
            self.there.remove(name)

        back = Step(Verb.DELETE, "thing", name, do=undo)
        return Step(Verb.CREATE, "thing", name, do=do, ready=ready, undo=(back,), is_cleanup=is_cleanup)

    def run(self, *steps, wait=True, timeout=60, tell=None):
        execution = Execution(Plan("deploy x on y", steps), HOW, timeout, tell or self.lines.append)
        execution.run(wait=wait)
        return execution


@pytest.fixture
def world():
    return World()


def test_steps_are_done_in_order_and_waited_for(world):
    execution = world.run(world.make("a"), world.make("b", looks=2), world.make("c"))
    assert world.there == ["a", "b", "c"]
    assert execution.is_complete
    assert [line for line in world.lines if "Creating" in line] == ["  thing b is Creating (0 s)"]


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_failed_step_takes_everything_back(world, number):
    names = ["a", "b", "c"]
    fails = DeployError("no quota", hint="ask for more")
    steps = [world.make(name, fails=fails if index + 1 == number else None) for index, name in enumerate(names)]
    with pytest.raises(DeployError) as told:
        world.run(*steps)
    assert world.there == []
    made = ", ".join(f"thing {name}" for name in reversed(names[:number]))
    failed = f"failed at step {number} of 3, create thing {names[number - 1]}: no quota."
    assert str(told.value) == f"deploy x on y {failed} Taken back: {made}.\nHint: ask for more"


def test_what_cannot_be_taken_back_is_told_and_the_rest_is(world):
    with pytest.raises(DeployError, match=r"Taken back: thing c, thing a\. It remains: thing b \(it does not go\)\."):
        world.run(world.make("a"), world.make("b", stubborn=True), world.make("c", fails=OSError("down")))
    assert world.there == ["b"]


def test_a_clean_up_that_fails_warns_and_the_deployment_stays(world):
    with pytest.warns(UserWarning, match=r"could not create thing old: throttled\. The next deploy tries again"):
        world.run(world.make("a"), world.make("old", fails=DeployError("throttled.", hint="wait."), is_cleanup=True))
    assert world.there == ["a", "old"]


def test_a_clean_up_that_takes_too_long_warns(world):
    with pytest.warns(UserWarning, match="thing old is Creating after 0 s"):
        world.run(world.make("old", looks=100, is_cleanup=True), world.make("b"), timeout=0.2)
    assert world.there == ["old", "b"]


def test_a_wait_that_takes_too_long_leaves_everything(world):
    with pytest.raises(
        DeployError, match=r"thing a is Creating after 0 s; it is left as it is\.\nHint: do this to go on"
    ):
        world.run(world.make("a", looks=100), timeout=0.2)
    assert world.there == ["a"]


def test_ctrl_c_leaves_everything_and_tells_how_to_go_on(world):
    with pytest.raises(KeyboardInterrupt) as stop:
        world.run(world.make("a"), world.make("b", fails=KeyboardInterrupt()))
    assert world.there == ["a", "b"]
    assert stop.value.__notes__ == [f"Stopped at thing b; nothing is taken back. {HOW}"]
    assert world.lines[-1] == stop.value.__notes__[0]


def test_without_waiting_it_stops_at_the_first_wait_and_continues_later(world):
    execution = world.run(world.make("a"), world.make("b", looks=2), world.make("c"), wait=False)
    assert world.there == ["a", "b"]
    assert not execution.is_complete
    execution.run(wait=True)
    assert world.there == ["a", "b", "c"]
    assert execution.is_complete
    execution.run(wait=True)
    assert world.there == ["a", "b", "c"]


def test_a_step_that_fails_after_a_pause_takes_the_earlier_ones_back(world):
    execution = world.run(world.make("a", looks=1), world.make("b", fails=OSError("down")), wait=False)
    assert world.there == ["a"]
    with pytest.raises(DeployError, match="step 2 of 2"):
        execution.run(wait=True)
    assert world.there == []


def test_what_failed_once_has_failed(world):
    execution = Execution(Plan("deploy x on y", (world.make("a", fails=OSError("down")),)), HOW, 60, nothing)
    for _ in range(2):
        with pytest.raises(DeployError, match="down"):
            execution.run(wait=True)
        assert not execution.is_complete


def test_a_call_that_times_out_has_failed(world):
    with pytest.raises(DeployError, match=r"step 2 of 2, create thing b: timed out\. Taken back: thing b, thing a"):
        world.run(world.make("a"), world.make("b", fails=TimeoutError("timed out")))
    assert world.there == []


def test_silence(world, capfd):
    world.run(world.make("a", looks=1), tell=nothing)
    assert capfd.readouterr() == ("", "")


def test_negative_control_without_taking_back(world, monkeypatch):
    monkeypatch.setattr(Execution, "_take_back", lambda _: ([], []))
    with pytest.raises(AssertionError):
        test_a_failed_step_takes_everything_back(world, 2)


def test_negative_control_in_the_wrong_order(world, monkeypatch):
    monkeypatch.setattr("unitrain.deployment.execution.reversed", list, raising=False)
    with pytest.raises(AssertionError):
        test_a_failed_step_takes_everything_back(world, 3)
