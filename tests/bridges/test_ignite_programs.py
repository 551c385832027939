"""What an Ignite program does, it does alike on any engine: the oracle is the program on Ignite itself."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from tests.bridges.ignite_cases import CASES
from tests.bridges.ignite_runs import away, redirected, run_as, same
from unitrain_bridges.ignite import engine_run as program
from unitrain_bridges.ignite import foreign_program
from unitrain_lightning.module import Shell

VARIANTS = ("terminate_", "end_epoch_", "interrupt_", "error_", "resume_", "deterministic_", "lengths_", "unsized_")
KEPT = {
    *("terminate_iteration_completed", "end_epoch_get_batch_completed", "interrupt_iteration_completed"),
    *("error_iteration_started", "error_taken_iteration_completed", "error_in_the_step_stop"),
    *("resume_iteration", "deterministic_iteration", "lengths_shorter", "lengths_longer", "unsized_more"),
    *("end_epoch_quietly_iteration_completed", "error_in_the_step_interrupt", "error_in_the_step_closed"),
    *("error_of_the_loader_error", "error_closed_epoch_started"),
    *("error_at_the_end_of_the_data_handler", "error_at_the_end_of_the_data_loader"),
}
TIERS = [
    pytest.param(name, marks=[pytest.mark.slow] if name.startswith(VARIANTS) and name not in KEPT else [])
    for name in CASES
]
STARTS = {
    "lightning": away("lightning"),
    "reference": redirected("reference"),
    "lightning, redirected": redirected("lightning"),
    "reference, fit": away("reference"),
    "ignite": away("ignite"),
}


def compare(name, *ways):
    wanted = run_as(CASES[name], None)
    for way in ways:
        got = run_as(CASES[name], way, STARTS[way])
        assert not (parted := same(wanted, got)), f"{way}: {parted}"
        assert got.engines == ({way.partition(",")[0]} if wanted.weights else set())
    return wanted


@pytest.mark.parametrize("name", TIERS)
def test_a_program_is_the_same_everywhere(name):
    compare(name, "lightning", "reference")


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_a_program_is_the_same_however_it_is_started(name):
    compare(name, *[way for way in STARTS if way not in ("lightning", "reference")])


def test_the_cases_train():
    still = [name for name, case in CASES.items() if name in KEPT and not run_as(case, None).weights]
    assert not still


WRONG = {
    "epochs": {"max_epochs": 0},
    "both": {"max_epochs": 2, "max_iters": 3},
    "length": {"max_epochs": 2, "epoch_length": 0},
}


@pytest.mark.parametrize("name", WRONG)
def test_what_ignite_refuses_is_refused_in_its_words(name):
    def case(program):
        program.run(program.engine(), **WRONG[name])

    assert not same(run_as(case, None), run_as(case, "reference", redirected("reference")))


FAULTS = {
    # what is changed in the program: a case that has to notice
    "            engine.state.epoch += 1\n": "lengths_plain",
    "taken = _unstopped(self._timed, Events.EPOCH_STARTED)": "lengths_plain",
    "            yield from self._heed()\n            if engine._dataloader_iter": "terminate_epoch_started",
    "_unstopped(engine._setup_engine)": "deterministic_iteration",
    "engine._init_iter or 0": "resume_iteration",
    "engine._setup_dataloader_iter()  # noqa: SLF001\n        except Terminated": "end_epoch_iteration_completed",
    "Events.TERMINATE_SINGLE_EPOCH, iter_counter=self._counter": "end_epoch_iteration_completed",
    'if engine.should_terminate_single_epoch != "skip_epoch_completed":': "end_epoch_quietly_iteration_started",
    'if engine.should_terminate != "skip_completed":': "terminate_quietly_iteration_started",
    "                self._state.output = None\n                self._ann": "lengths_plain",
    "            self._state.batch = None\n": "lengths_plain",
    "if engine.last_event_name != Events.DATALOADER_STOP_ITERATION:": "lengths_longer",
    "if self._state.dataloader is not None:": "no_data",
    "if restarted and not self._engine._is_done(state):": "one_iterator_without_a_length",
    "            self._engine.should_terminate = True\n": "lengths_iterations",
    "            engine._handle_exception(error)  # noqa: SLF001\n        return": "error_taken_iteration_completed",
    "            engine.should_interrupt = False\n": "interrupt_iteration_completed",
    "            engine.should_terminate_single_epoch = False": "end_epoch_epoch_completed",
    "            engine._fire_event(Events.INTERRUPT)": "interrupt_iteration_completed",
    "_unstopped(self._announce, Events.DATALOADER_STOP_ITERATION)": "error_at_the_end_of_the_data_handler",
    "_unstopped(engine._setup_dataloader_iter)": "error_at_the_end_of_the_data_loader",
    "_is_closed(raised) and": "error_in_the_step_closed",
}
MENDS = {
    "_unstopped(self._announce, Events.DATALOADER_STOP_ITERATION)": "self._announce(Events.DATALOADER_STOP_ITERATION)",
    "_unstopped(engine._setup_dataloader_iter)": "engine._setup_dataloader_iter()",
    "_is_closed(raised) and": "isinstance(raised, GeneratorExit) and",
    "                self._state.output = None\n                self._ann": "                self._ann",
    "taken = _unstopped(self._timed, Events.EPOCH_STARTED)": "taken = 0.0",
    "_unstopped(engine._setup_engine)": "engine._setup_dataloader_iter()",
    "engine._init_iter or 0": "0",
    "Events.TERMINATE_SINGLE_EPOCH, iter_counter=self._counter": "Events.TERMINATE_SINGLE_EPOCH, iter_counter=0",
    "engine._setup_dataloader_iter()  # noqa: SLF001\n        except Terminated": "pass\n        except Terminated",
    "            yield from self._heed()\n            if engine._dataloader_iter": "            if engine._dataloader_iter",
    "            engine._handle_exception(error)  # noqa: SLF001\n        return": "            raise\n        return",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_seeded_fault_is_noticed(fault, monkeypatch, tmp_path):
    source = Path(program.__file__).read_text()
    assert source.count(fault) >= 1, "the fault is not in the source any more"
    instead = MENDS.get(fault, "if True:\n" if fault.startswith("if ") else "")
    if fault.endswith(":"):
        instead = f"{fault.split('if ')[0]}if True:"
    broken = tmp_path / "broken.py"
    broken.write_text(source.replace(fault, instead))
    spec = importlib.util.spec_from_file_location("broken_program", broken)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for name in ("EngineRun", "Pause", "Terminated"):
        monkeypatch.setattr(foreign_program, name, getattr(module, name))
    case = CASES[FAULTS[fault]]
    assert same(run_as(case, None), run_as(case, "reference"))


def test_gradients_that_lightning_would_drop_are_noticed(monkeypatch):
    case = CASES["gradients_from_before"]
    monkeypatch.delattr(Shell, "zero_grad")
    assert same(run_as(case, None), run_as(case, "lightning"))
