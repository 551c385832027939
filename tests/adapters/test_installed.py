"""Lightning hears what packages offer to it, and unitrain does not read all of them for each Trainer."""

import importlib
import sys
from importlib import metadata

import pytest
import torch
from torch import nn

from unitrain import TrainSpec, UnifiedTrainer
from unitrain_lightning import entry_point_cache as installed
from unitrain_lightning._compat import default_root, part

FACTORY = """
from {root}.callbacks import Callback

class Offered(Callback):
    pass

def callbacks():
    return [Offered()]
"""


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A folder of packages, and a package to put there."""
    monkeypatch.syspath_prepend(tmp_path)
    name = f"offering_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(FACTORY.format(root=default_root()))
    importlib.invalidate_caches()

    def install():
        info = tmp_path / f"{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        line = f"here = {name}:callbacks\n"
        # the group has had both names
        groups = ("lightning.pytorch.callbacks_factory", "pytorch_lightning.callbacks_factory")
        (info / "entry_points.txt").write_text("".join(f"[{group}]\n{line}" for group in groups))
        return info

    yield install
    sys.modules.pop(name, None)


def offered():
    """Return how many callbacks of a new Trainer come from packages."""
    spec = TrainSpec(model=nn.Linear(2, 1), loss=nn.MSELoss(), optimizer=torch.optim.SGD)
    trainer = UnifiedTrainer("lightning", max_epochs=1, seed=0, enable_progress_bar=False)
    trainer.fit(spec, [(torch.ones(3, 2), torch.ones(3, 1))])
    return sum(type(callback).__name__ == "Offered" for callback in trainer.native.callbacks)


def test_a_package_that_comes_or_goes_is_heard(site):
    assert offered() == 0
    info = site()
    assert offered() == 1
    assert offered() == 1
    for file in info.iterdir():
        file.unlink()
    info.rmdir()
    assert offered() == 0


def test_a_second_trainer_opens_no_file_of_a_package(monkeypatch):
    registry = part(default_root(), "fabric.utilities.registry:")
    opened = []
    read = metadata.PathDistribution.read_text
    offered()
    monkeypatch.setattr(
        metadata.PathDistribution, "read_text", lambda self, name: opened.append(name) or read(self, name)
    )
    offered()
    assert "entry_points.txt" not in opened
    assert registry.entry_points is metadata.entry_points, "left changed behind the Trainer"


def test_what_only_another_finder_knows_is_asked_for_each_time(site, tmp_path, monkeypatch):
    found = []

    class Finder(metadata.DistributionFinder):
        def find_spec(self, *_):
            return None

        def find_distributions(self, context=None):
            return iter(found)

    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path, Finder()])
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    info = site()
    moved = info.rename(elsewhere / info.name)
    assert offered() == 0
    found.append(metadata.PathDistribution(moved))
    assert offered() == 1


def test_a_replaced_question_is_left_as_it_is(monkeypatch):
    registry = part(default_root(), "fabric.utilities.registry:")
    asked = []
    monkeypatch.setattr(registry, "entry_points", lambda group: asked.append(group) or [], raising=False)
    with installed.remembered(default_root()):
        assert registry.entry_points(group="x") == []
    assert asked == ["x"]


def test_a_folder_that_is_gone_is_no_error(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(tmp_path / "never")
    assert offered() == 0
