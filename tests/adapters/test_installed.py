"""Lightning hears what packages offer to it, for each Trainer anew."""

import importlib
import sys

import pytest
import torch
from torch import nn

from unitrain import TrainSpec, UnifiedTrainer
from unitrain_lightning._compat import default_root

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
