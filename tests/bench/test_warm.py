"""What a second trainer and its fit of one step cost: Python calls, and no look at what is installed."""

import importlib.metadata
import traceback

import pytest
from lightning_fabric.utilities import registry

from tests.bench.counting import Calls, batches, spec, trainer

BUILD = {"ignite": 2380, "lightning": 6360}
"""Python calls of ours and of the framework's, measured, without Lightning's own look at entry points."""
ROOM = 1.05
"""What other tests of the same process add, as by imports and filters of warnings, and other releases of torch."""


def fit(framework):
    trainer(framework).fit(spec(), batches(1))


@pytest.fixture
def looks(monkeypatch):
    """Return who looks at installed packages, as stacks of file names."""
    seen = []

    def noted(name):
        look = getattr(importlib.metadata.Distribution, name)

        def found(*arguments, **options):
            seen.append([frame.filename for frame in traceback.extract_stack()])
            return look(*arguments, **options)

        return found

    monkeypatch.setattr(importlib.metadata.Distribution, "discover", noted("discover"))
    return seen


def ours(looks):
    """Return the looks that are not Lightning's own, for its callbacks of other packages."""
    return [stack for stack in looks if not any("lightning_fabric" in name for name in stack)]


@pytest.mark.parametrize("framework", BUILD)
def test_a_second_fit_reads_no_metadata(framework, looks):
    fit(framework)
    looks.clear()
    fit(framework)
    assert not ours(looks)


def test_a_look_is_noticed(looks):
    importlib.metadata.version("torch")
    assert ours(looks)


@pytest.mark.parametrize("framework", BUILD)
def test_python_calls_of_a_warm_fit(framework, monkeypatch):
    # how many packages are installed is the machine's
    monkeypatch.setattr(registry, "entry_points", lambda **group: importlib.metadata.EntryPoints())
    fit(framework)
    counts = Calls()
    with counts.counted():
        fit(framework)
    assert counts.count <= ROOM * BUILD[framework]
