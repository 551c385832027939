"""The matrix can fail: a cell is red where something in it does not pass, is skipped, or is refused in vain."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.matrix import cells, install, run, table

CELL = "newest"
PASSES = "def test_one():\n    pass\n"
REFUSES = "from unitrain import VersionError\n\ndef test_one():\n    raise VersionError('too old')\n"
REFUSED = """
from tests.matrix import refusals
from unitrain import VersionError
refusals.REFUSALS.clear()
refusals.REFUSALS["newest", "test_one"] = refusals.Refusal(VersionError, "too old", "the release is too old")
"""
CASES = {
    # what is in the cell, what is declared, and the exit status and counts that follow
    "passed": (PASSES, "", 0, {"passed": 1, "failed": 0}),
    "failed": ("def test_one():\n    assert 0\n", "", 1, {"passed": 0, "failed": 1}),
    "skipped": ("import pytest\n\ndef test_one():\n    pytest.skip('no')\n", "", 1, {"passed": 0, "failed": 1}),
    "refused": (REFUSES, REFUSED, 0, {"passed": 0, "failed": 0}),
    "refused, undeclared": (REFUSES, "", 1, {"passed": 0, "failed": 1}),
    "declared, but it passes": (PASSES, REFUSED, 1, {"failed": 2}),
    "refused otherwise": (REFUSES.replace("too old", "other"), REFUSED, 1, {"failed": 2}),
    "declared of no case": (PASSES.replace("one", "other"), REFUSED, 1, {"passed": 1, "failed": 1}),
    "broken": ("import nothing_of_this_name\n", "", 2, {"passed": 0}),
}


def in_cell(folder: Path, test: str, declared: str):
    (folder / "test_it.py").write_text(test)
    (folder / "declared.py").write_text(declared)
    environment = {
        **os.environ,
        "MATRIX_CELL": CELL,
        "MATRIX_REPORT": str(folder / "report.json"),
        "PYTHONPATH": f"{folder}:{cells.ROOT}",
    }
    plugins = ["-p", "tests.matrix.conftest", "-p", "declared", "-p", "no:cacheprovider"]
    command = [sys.executable, "-m", "pytest", "-q", "-n", "0", *plugins, str(folder)]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert (folder / "report.json").exists(), done.stdout + done.stderr
    return done.returncode, json.loads((folder / "report.json").read_text())


@pytest.mark.parametrize("name", CASES)
def test_a_cell_is_green_only_if_all_in_it_passed_or_was_refused_as_declared(name, tmp_path):
    test, declared, status, counts = CASES[name]
    got, report = in_cell(tmp_path, test, declared or "from tests.matrix import refusals\nrefusals.REFUSALS.clear()\n")
    assert got == status
    assert {key: report[key] for key in counts} == counts
    assert bool(report["failed"]) == bool(status)
    assert list(report["refused"].values()) == (["the release is too old"] if name == "refused" else [])


def test_each_cell_pins_what_it_is_about():
    declared = cells.cells()
    assert set(declared) == {
        "newest",
        "middle",
        "oldest",
        "mixed",
        "legacy",
        "lightning-only",
        "ignite-only",
        "neither",
    }
    assert all(declared.values())
    frameworks = {"pytorch-lightning", "lightning", "pytorch-ignite"}
    assert frameworks & declared["lightning-only"].keys() == {"pytorch-lightning"}
    assert frameworks & declared["ignite-only"].keys() == {"pytorch-ignite"}
    assert not frameworks & declared["neither"].keys()
    assert declared["mixed"]["lightning"] != declared["mixed"]["pytorch-lightning"]


def test_a_cell_keeps_the_constraints_on_what_it_does_not_pin():
    assert (
        install.remaining("fsspec==2026.9\ntorch==2.13.0\nPyYAML==6\n", ["fsspec<2026", "pyyaml==5"])
        == "torch==2.13.0\n"
    )


def test_a_cell_without_a_base_is_not_built(tmp_path):
    with pytest.raises(SystemExit, match="tox run -e base"):
        install.see_base(tmp_path, tmp_path / "nothing")


def test_an_unknown_cell_is_refused():
    with pytest.raises(SystemExit, match=r"no such cell: newst; there are newest"):
        run.main(["newst"])


def test_the_results_are_of_all_cells_as_they_are_declared_and_green():
    told = json.loads(run.RESULTS.read_text())["cells"]
    assert {name: one["releases"] for name, one in told.items()} == {
        name: {one: pins[one] for one in cells.DISTRIBUTIONS if one in pins} for name, pins in cells.cells().items()
    }
    assert {one["result"] for one in told.values()} == {"green"}
    assert len({len(line) for line in table.plain(told).splitlines()}) == 1
