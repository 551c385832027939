"""Each side is a process of its own, and what becomes of it is told."""

import json
import pickle
import re
import signal
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch

from tests.comparison import programs
from unitrain import UnifiedTrainer
from unitrain.errors import BackendNotInstalledError, ConfigError
from unitrain.testing.comparison import launch
from unitrain.testing.comparison.bits import digest
from unitrain.testing.comparison.compare import compare
from unitrain.testing.comparison.recorder import Enough, Orders
from unitrain.testing.comparison.side import Program, peak_memory, run_side
from unitrain.utilities.rng import seed_everything

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_sides_in_processes_find_the_same_as_here(tmp_path):
    """The fault is read in a second process, which hands over its tensors in a file."""
    result = compare(programs.faulty_on_ignite, frameworks=["reference", "ignite"], bisect=tmp_path / "tensors")
    one = result.difference
    assert (one.step, one.phase, one.place, one.ulp) == (4, "gradient", "4.weight[1, 2]", 1)
    assert [side.status for side in result.sides] == ["finished", "different"]
    assert {path.name for path in (tmp_path / "tensors").iterdir()} == {
        f"{side}-step-{step}.safetensors" for side in ("reference", "ignite") for step in (3, 4, 5)
    }


def test_a_killed_side_is_told_of_and_the_other_runs(monkeypatch):
    real = launch.in_process

    def one_process(program, orders):
        if program.make is programs.killed:
            return real(program, orders)
        return run_side(program, orders, lambda _: None)

    monkeypatch.setattr(launch, "in_process", one_process)
    result = compare(programs.killed, programs.make)
    assert result.status == "failed"
    assert not result.equal
    assert result.sides[0].error.startswith("the process ended by signal 9")
    assert (result.sides[1].status, result.sides[1].error) == ("finished", None)
    assert (result.differences, result.steps) == ((), 3)
    first, second = result.sides
    assert (first.steps, first.seconds, first.loss) == (3, None, second.loss[:6])
    assert "killed could not run to the end; 3 steps are equal" in str(result)
    assert "killed failed: the process ended by signal 9" in str(result)


@pytest.mark.slow
def test_a_side_that_hangs_is_stopped_and_says_where(tmp_path):
    """The other side runs, and the steps before are compared."""
    result = compare(programs.make, programs.hanging, timeout=20)
    assert result.status == "failed"
    assert [one.status for one in result.sides] == ["finished", "failed"]
    assert (result.steps, result.sides[1].steps) == (3, 3)
    told = result.sides[1].error
    assert re.fullmatch(
        r"it had not ended after 20 seconds, and was stopped in <lambda> at \S+programs\.py:\d+\.", told
    )
    assert "backward" in result.sides[1].traceback
    result.report(tmp_path / "out.html")
    assert "hanging failed" in (tmp_path / "out.html").read_text()


def test_a_side_does_not_hear_ctrl_c(monkeypatch):
    """It is for the process that compares, which ends the side without a word of it."""
    with launch._deaf():
        code = "import signal; print(signal.getsignal(signal.SIGINT) == signal.SIG_IGN)"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "True\n"
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


STACK = """Timeout (0:00:01)!
Thread 0x00007f (most recent call first):
  File "/lib/queue.py", line 7 in get

Thread 0x00008f (most recent call first):
  File "/home/me/train.py", line 12 in step
  File "/home/me/train.py", line 30 in <module>
"""


@pytest.mark.parametrize(
    ("stack", "at"), [(STACK, " in step at /home/me/train.py:12"), ("", "")], ids=["known", "none"]
)
def test_where_a_side_hangs_is_where_its_main_thread_is(stack, at, tmp_path):
    orders = Orders(path=tmp_path / "a.record", seconds=1.5)
    if stack:
        launch._stack_file(orders).write_text(stack)
    answer = launch._hanging(orders)
    assert answer.error == f"it had not ended after 1.5 seconds, and was stopped{at}."
    assert answer.traceback == (stack or None)


SCRIPT = """
import json
import unitrain
from tests.comparison.programs import loader, spec

def make():
    return spec(), loader(), None, {"max_epochs": 1}

%s
    result = unitrain.compare(make, frameworks=["reference", "ignite"], steps=1)
    print(json.dumps([result.equal, result.steps, [one.name for one in result.sides]]))
"""


def script(tmp_path, guard):
    (tmp_path / "train.py").write_text(SCRIPT % guard)
    command = [sys.executable, str(tmp_path / "train.py")]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=200)


@pytest.mark.slow
def test_the_program_may_be_in_the_script_itself(tmp_path):
    done = script(tmp_path, 'if __name__ == "__main__":')
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == [True, 1, ["reference", "ignite"]]


@pytest.mark.slow
def test_a_script_without_a_guard_is_told_so(tmp_path):
    done = script(tmp_path, "if True:")
    assert done.returncode == 1
    assert "each side imports this script" in done.stderr
    assert 'guard the code of the script with: if __name__ == "__main__":' in done.stderr


@pytest.mark.usefixtures("here")
class TestHere:
    """What needs no process of its own."""

    def test_an_error_on_one_side_is_told_with_its_traceback(self):
        result = compare(programs.crash_on_ignite, frameworks=["reference", "ignite"])
        assert result.status == "failed"
        bad = result.sides[1]
        assert (bad.status, bad.steps) == ("failed", 3)
        assert re.fullmatch(r"RuntimeError: no such luck \(at \S+programs\.py:\d+\)", bad.error)
        assert "_crash" in bad.traceback
        assert result.steps == 3
        assert result.differences == ()

    def test_a_difference_before_an_error_is_told(self):
        result = compare(programs.crashes_later, programs.faulty_gradient)
        assert result.status == "failed"
        assert (result.difference.step, result.difference.phase) == (4, "gradient")

    @pytest.mark.parametrize("make", [programs.not_a_program, programs.a_pair_of_numbers])
    def test_a_program_that_returns_something_else_is_told_what_to_return(self, make):
        result = compare(make)
        assert "must return (spec, train)" in result.sides[0].error

    def test_each_run_has_a_folder_of_its_own(self):
        """The second run of a side, which reads the tensors, does not find the files of the first."""
        result = compare(programs.marking, programs.marking_faulty)
        assert (result.difference.step, result.difference.phase, result.notes) == (4, "gradient", ())

    def test_several_processes_are_refused(self):
        result = compare(programs.make, frameworks=["reference", "ignite"], trainer={"devices": 2})
        assert "each side of a comparison is one process; got devices=2" in result.sides[0].error

    @pytest.mark.parametrize("framework", ["lightning", "ignite", "reference"])
    def test_observing_changes_no_bit(self, framework):
        """The observed fit ends with the weights, the optimizer's state and the random state of the plain one."""
        seed_everything(0)
        spec, train, val, options = programs.make()
        trainer = UnifiedTrainer(framework, enable_progress_bar=False, **options)
        result = trainer.fit(spec, train, val)
        expected = (result.metrics, result.history, torch.get_rng_state().tolist())
        weights = {name: value.clone() for name, value in spec.model.state_dict().items()}
        made = []

        def observed():
            made.append(programs.make())
            return made[-1]

        found = compare(observed, frameworks=[framework, "ignite" if framework == "reference" else "reference"])
        assert found.equal
        first = made[0][0].model.state_dict()
        assert all(torch.equal(value, first[name]) for name, value in weights.items())
        assert [dict(one) for one in found.sides[0].history] == expected[1]
        assert torch.get_rng_state().tolist() == expected[2]


def test_kept_values_travel_in_a_file(tmp_path):
    orders = Orders(path=tmp_path / "a.record", keep=range(1, 2))
    answer = run_side(sent(programs.make), orders, lambda _: None)
    kept = {number: list(some) for number, some in answer.findings.kept.items()}
    modules = dict(answer.findings.modules)
    light = launch._lightened(answer, orders)
    assert (light.findings.kept, light.findings.modules) == ({}, {})
    found = launch.with_kept(pickle.loads(pickle.dumps(light.findings)), orders)
    assert [one.kind for one in found.kept[1]] == [one.kind for one in kept[1]]
    for one, other in zip(kept[1], found.kept[1], strict=True):
        assert digest(one.leaves) == digest(other.leaves) == one.digest == other.digest
    assert [name for name, _ in found.modules[1]] == [name for name, _ in modules[1]]


def test_nothing_that_catches_errors_ends_the_end():
    assert not issubclass(Enough, Exception)


def sent(make):
    return Program(make=make, framework="reference", trainer={}, seed=0, threads=1, folder=Path())


@pytest.mark.parametrize("make", [lambda: None, partial(lambda: None)])
def test_what_cannot_be_sent_is_refused(make):
    with pytest.raises(ConfigError, match="each side is a process of its own"):
        launch.packed(sent(make))


def test_a_function_of_a_prompt_is_refused(monkeypatch):
    monkeypatch.delattr(sys.modules["__main__"], "__file__", raising=False)
    prompted = replace(sent(programs.make))
    assert launch.packed(prompted)
    function = type(programs.make)(programs.make.__code__, {"__name__": "__main__"}, "prompted")
    function.__module__ = "__main__"
    monkeypatch.setattr(sys.modules["__main__"], "prompted", function, raising=False)
    function.__qualname__ = "prompted"
    with pytest.raises(ConfigError, match="cannot import from a notebook"):
        launch.packed(sent(function))


REFUSED = {
    "one framework": (lambda: compare(programs.make, frameworks=["ignite"]), "there is one side only: ignite"),
    "a tracker": (lambda: compare(programs.make, trainer={"loggers": ()}), "a side writes no logs"),
    "no framework": (lambda: compare(programs.make, frameworks=[]), "frameworks is empty"),
    "an unknown framework": (lambda: compare(programs.make, frameworks=["ignit", "reference"]), "framework='ignit'"),
    "an unknown option": (lambda: compare(programs.make, trainer={"max_epoch": 1}), "unknown argument 'max_epoch'"),
    "no time": (lambda: compare(programs.make, timeout=0), "timeout must be a number of seconds, more than 0"),
    "an endless time": (lambda: compare(programs.make, timeout=float("inf")), "at most 1000000; got inf"),
    "a time that is true": (lambda: compare(programs.make, timeout=True), "got True"),
    "no steps": (lambda: compare(programs.make, steps=0), "steps must be a positive integer"),
    "a number": (lambda: compare(3), "one or two functions, or two checkpoints"),
    "a function and a number": (lambda: compare(programs.make, 3), "two programs or two checkpoints"),
    "one checkpoint": (lambda: compare("a.ckpt"), "one or two functions, or two checkpoints"),
    "a file for a folder": (lambda: compare(programs.make, bisect=__file__), "could not be written"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_bad_arguments_are_refused_before_anything_runs(name, monkeypatch):
    monkeypatch.setattr(launch, "in_process", lambda *_: pytest.fail("a side was started"))
    act, text = REFUSED[name]
    with pytest.raises(ConfigError, match=text):
        act()


def test_a_missing_framework_is_left_out_unless_it_is_asked_for(monkeypatch):
    module = sys.modules["unitrain.testing.comparison.compare"]
    real = module.find_adapter

    def without_lightning(name):
        if name == "lightning":
            raise BackendNotInstalledError("there is none.")
        return real(name)

    monkeypatch.setattr(module, "find_adapter", without_lightning)
    assert module._installed() == ["reference", "ignite"]
    with pytest.raises(BackendNotInstalledError):
        compare(programs.make, frameworks=["lightning", "ignite"])


def test_the_peak_memory_is_that_of_the_process():
    before = peak_memory()
    block = bytearray(b"x") * (64 << 20)
    assert peak_memory() >= before + (32 << 20) or len(block) == 0


def test_the_second_run_stops_after_the_step(tmp_path):
    orders = Orders(path=tmp_path / "a.record", keep=range(2, 3))
    answer = run_side(sent(programs.make), orders, lambda _: None)
    assert (answer.status, answer.findings.steps) == ("kept", 2)
    assert list(answer.findings.kept) == [2]
    kinds = [one.kind for one in answer.findings.kept[2]]
    assert kinds.count("gradient") == 1
    assert kinds.index("loss") < kinds.index("gradient") < kinds.index("parameters")
