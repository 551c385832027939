"""A framework that nobody here knows, as a package outside: its checkpoints, metrics and callbacks work everywhere."""

from __future__ import annotations

import re
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from unitrain import CheckpointError, ConfigError, SpecError, TrainSpec, UnifiedTrainer, convert_checkpoint
from unitrain.cli import main
from unitrain.testing.trace import differences

PAGE = (Path(__file__).parents[2] / "docs" / "backends.md").read_text()
PACKAGE = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)[2]
TABLES = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)[1]
FRAMEWORK = """
class Hits:
    def __init__(self):
        self.reset()

    def reset(self):
        self.hits = self.count = 0

    def add(self, output, target):
        self.hits += int((output.argmax(1) == target).sum())
        self.count += len(target)

    def value(self):
        return self.hits / self.count

    def state_dict(self):
        return dict(vars(self))

    def load_state_dict(self, state):
        vars(self).update(state)


class Hook:
    def __init__(self):
        self.seen = []

    def after_batch(self, step):
        self.seen.append(step)
"""
BACKENDS = ["lightning", "ignite", "reference"]


def entry_points():
    """Return the page's tables as an installer writes them down."""
    tables = re.sub(r"\[project\.entry-points\.\"(.*?)\"\].*", r"[\1]", TABLES)
    return tables.replace('= "', "= ").replace('"', "")


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """The framework, which is installed; what teaches it to unitrain is not yet."""
    site = tmp_path / "site"
    site.mkdir()
    (site / "tinyframe.py").write_text(FRAMEWORK)
    (site / "my_package.py").write_text(PACKAGE)
    monkeypatch.syspath_prepend(site)
    monkeypatch.chdir(tmp_path)
    import tinyframe

    yield tinyframe
    for name in ("tinyframe", "my_package"):
        sys.modules.pop(name, None)


@pytest.fixture
def taught(tiny, tmp_path, monkeypatch):
    """The framework, with the package of the page."""
    info = tmp_path / "taught" / "my_package-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-package\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(entry_points())
    monkeypatch.syspath_prepend(info.parent)
    return tiny


def spec(**more):
    torch.manual_seed(3)
    adam, schedule = (
        partial(torch.optim.Adam, lr=0.05),
        partial(torch.optim.lr_scheduler.StepLR, step_size=1, gamma=0.5),
    )
    loss = nn.CrossEntropyLoss()
    return TrainSpec(model=nn.Linear(4, 3), loss=loss, optimizer=adam, lr_scheduler=schedule, **more)


def data():
    torch.manual_seed(5)
    return DataLoader(TensorDataset(torch.randn(12, 4), torch.randint(0, 3, (12,))), batch_size=4)


def trainer(framework, epochs, **more):
    return UnifiedTrainer(framework, max_epochs=epochs, seed=0, enable_progress_bar=False, **more)


@pytest.mark.parametrize("framework", BACKENDS)
def test_a_run_goes_through_its_form_and_is_resumed_to_the_same_bits(framework, taught, capsys):
    whole, half, rest = spec(), spec(), spec()
    trainer(framework, 4).fit(whole, data())
    begun = trainer(framework, 2)
    begun.fit(half, data())
    begun.save_checkpoint("run.ckpt")
    assert main(["convert", "run.ckpt", "run.tiny", "--to", "tiny"]) == 0
    assert main(["convert", "run.tiny", "--inspect"]) == 0
    assert "Tiny's, {'tiny': ...}\n  epochs done: 2; batches: 6; steps: 6" in capsys.readouterr().out
    assert main(["convert", "run.tiny", "back.ckpt", "--to", "portable"]) == 0
    trainer(framework, 4).fit(rest, data(), ckpt_path="back.ckpt")
    assert not differences(whole.model.state_dict(), rest.model.state_dict())
    assert differences(half.model.state_dict(), rest.model.state_dict())


def test_its_weights_alone_go_there_and_back(taught):
    model = nn.Linear(4, 3)
    torch.save(model.state_dict(), "w.pt")
    convert_checkpoint("w.pt", "w.tiny", to="tiny")
    convert_checkpoint("w.tiny", "back.pt", to="ignite")
    assert not differences(dict(model.state_dict()), torch.load("back.pt", weights_only=True))


@pytest.mark.parametrize("framework", BACKENDS)
def test_its_metrics_and_callbacks_work(framework, taught):
    hook = taught.Hook()
    measured = spec(metrics={"hits": taught.Hits(), "share": lambda out, y: (out.argmax(1) == y).float().mean()})
    result = trainer(framework, 2, callbacks=[hook]).fit(measured, data(), data())
    assert hook.seen == [1, 2, 3, 4, 5, 6]
    for stage in ("train", "val"):
        ours, theirs = result.metrics[f"{stage}/hits"], result.metrics[f"{stage}/share"]
        assert torch.tensor(ours) == torch.tensor(theirs)
        assert 0 < ours <= 1


def test_without_the_package_each_is_refused_with_a_hint(tiny):
    torch.save({"tiny": {"weights": nn.Linear(4, 3).state_dict()}}, "w.tiny")
    with pytest.raises(CheckpointError, match=r"unrecognised checkpoint format[\s\S]*Hint: .*'unitrain\.checkpoints'"):
        convert_checkpoint("w.tiny", "back.pt", to="ignite")
    torch.save(nn.Linear(4, 3).state_dict(), "w.pt")
    with pytest.raises(ConfigError, match=r"to='tiny'\): unknown format[\s\S]*Hint: "):
        convert_checkpoint("w.pt", "w.tiny2", to="tiny")
    for framework in BACKENDS:
        with pytest.raises(SpecError, match=r"a callback must be[\s\S]*Hint: "):
            trainer(framework, 1, callbacks=[tiny.Hook()]).fit(spec(), data())
        with pytest.raises(SpecError, match=r"the metric 'hits' must be[\s\S]*Hint: .*'unitrain\.metrics'"):
            trainer(framework, 1).fit(spec(metrics={"hits": tiny.Hits()}), data())
