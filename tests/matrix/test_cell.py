"""The cell is what it says to be; what it lacks is refused with the command that adds it."""

import json
import subprocess
import sys

import pytest
import torch

from tests.matrix import cells
from unitrain import BackendNotInstalledError, UnifiedTrainer
from unitrain.compat.blocked import mismatch
from unitrain.metrics.metric import metric
from unitrain.testing.cases import spec
from unitrain.testing.models import loader

NAMED = ("accuracy", "f1", "auroc", "specificity")


def test_the_cell_has_the_releases_that_it_declares_and_no_others():
    declared = cells.cells()[cells.CELL]
    assert {name: cells.installed(name) for name in cells.DISTRIBUTIONS} == {
        name: declared.get(name) for name in cells.DISTRIBUTIONS
    }


@pytest.mark.parametrize("absent", ["lightning", "ignite"])
def test_a_backend_that_is_not_there_is_refused_with_the_command_that_adds_it(absent):
    with pytest.raises(BackendNotInstalledError, match=rf"not installed[\s\S]*Hint: pip install .*\[{absent}\]"):
        UnifiedTrainer(framework=absent)


def measured(framework):
    trainer = UnifiedTrainer(framework, max_epochs=1, seed=0, enable_progress_bar=False)
    made = spec(metrics={name: metric(name, num_classes=5) for name in NAMED})
    return trainer.fit(made, loader(), loader()).metrics


@pytest.mark.parametrize("framework", ["lightning", "ignite"])
def test_metrics_by_name(framework):
    torch.manual_seed(0)
    expected = measured("reference")
    torch.manual_seed(0)
    assert measured(framework) == expected
    assert {f"val/{name}" for name in NAMED} < expected.keys()


def python(*arguments):
    command = [sys.executable, "-W", "always", *arguments]
    return subprocess.run(command, cwd=cells.ROOT, capture_output=True, text=True, timeout=120, check=False)


def test_only_the_mixed_cell_is_warned_of_two_releases_of_lightning():
    assert (mismatch() is not None) == (cells.CELL == "mixed")
    done = python("-c", "import unitrain; print(unitrain.UnifiedTrainer('lightning'))")
    assert ("are both installed" in done.stderr) == (cells.CELL == "mixed")
    assert done.returncode == (not cells.has("lightning"))


def test_doctor_tells_how_the_releases_of_the_cell_are_held():
    done = python("-m", "unitrain", "doctor", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    told = {one["name"]: one for one in json.loads(done.stdout)["packages"]}
    for name in cells.DISTRIBUTIONS:
        found = cells.installed(name)
        assert told[name]["version"] == found
        if found:
            assert told[name]["standing"] == ("best effort" if cells.CELL == "legacy" else "supported")
