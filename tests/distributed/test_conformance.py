"""On several processes each backend is the bare loop on as many, in every bit, on every rank."""

import pytest

from tests.checkpoint import test_resume as resume
from tests.distributed.sessions import conform
from unitrain.testing import cases
from unitrain.testing.conformance import ALL

REFUSED = {
    "every process should read all of it or only its share": "data without samplers: ShardedBatches or OwnBatches says which",
    "an optimizer with a closure (LBFGS)": "each process would decide by its own loss",
    "save_on_exception": "needs the state of a process that failed",
    "val_check_interval=4 is more than the 3": "an epoch of two processes has half as many batches",
}
"""What is refused on several processes, and why; anything else must be equal."""


def assert_equal(found, least):
    """Each cell on each rank is equal, or refused with a reason of the table; and there are enough of them."""
    for rank, cells in found.items():
        refused = {cell: answer for cell, answer in cells.items() if isinstance(answer, str)}
        differing = {cell: answer for cell, answer in cells.items() if answer and cell not in refused}
        assert not differing, f"{rank}: {differing}"
        assert not [answer for answer in refused.values() if not any(reason in answer for reason in REFUSED)]
        assert len(cells) - len(refused) >= least, f"{rank}: only {len(cells) - len(refused)} cells were compared"


def test_two_processes_equal_the_bare_loop_on_two(tmp_path):
    assert_equal(conform("quick", tmp_path), 50)


def test_a_run_of_two_goes_on_exactly_on_another_backend_and_from_one_process(tmp_path):
    case = resume.case_of("mid-accumulation", spec=lambda: cases.spec("cnn", "adamw", "step"))
    resume.written("ignite", case, resume.BATCHES + 4, tmp_path / "alone.ckpt")
    assert_equal(conform("resume", tmp_path), 14)


def test_two_processes_equal_a_loop_of_torch_alone_and_faults_are_noticed(tmp_path):
    assert_equal(conform("by hand", tmp_path), 6 + 2 * 5 + 1)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_every_case_of_the_suite(tmp_path):
    assert_equal(conform("everything", tmp_path, timeout=1700), len(ALL) + 140)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_whole_resume_grid(tmp_path):
    assert_equal(conform("resume-all", tmp_path, timeout=1700), 162)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_compiled_model(tmp_path):
    assert_equal(conform("compiled", tmp_path, timeout=800), 2)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_four_processes(tmp_path):
    assert_equal(conform("four", tmp_path, processes=4, timeout=800), 8)
