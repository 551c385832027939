"""Backends are looked for once, and again where one is not known: it may have been installed meanwhile."""

import sys
from functools import partial

import pytest
import torch
from torch import nn

from unitrain import (
    BackendNotInstalledError,
    ConfigError,
    DeployError,
    TrainSpec,
    UnifiedTrainer,
    UnitrainError,
    convert_checkpoint,
    deploy,
)
from unitrain.backends import registry
from unitrain.backends.registry import adapter_names, find_adapter
from unitrain.cli import main
from unitrain.deployment.providers.registry import find_provider
from unitrain.migrate.registry import families
from unitrain.testing.reference import ReferenceAdapter

BROKEN = r"'broken' \(broken_plugin:Made\) in the group '{}' of the package broken-plugin 1.2 cannot be loaded"
GROUPS = ("adapters", "bridges", "checkpoints", "fixers", "loggers")
PLUGIN = """
class Made:
    def __init__(self):
        raise ImportError("a name that moved")
"""


def test_a_backend_that_is_installed_meanwhile_is_found(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    adapter_names()
    with pytest.raises(ConfigError, match="'meanwhile' is unknown"):
        find_adapter("meanwhile")
    info = tmp_path / "meanwhile-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: meanwhile\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[unitrain.adapters]\nmeanwhile = unitrain.testing.reference:ReferenceAdapter\n"
    )
    assert isinstance(find_adapter("meanwhile"), ReferenceAdapter)
    assert "meanwhile" in adapter_names()


def test_what_is_known_is_not_looked_for_again(monkeypatch):
    find_adapter("reference")
    monkeypatch.setattr("unitrain.utilities.plugins.entry_points", lambda **_: pytest.fail("looked for again"))
    find_adapter("reference")


@pytest.fixture(params=["raise ImportError('a name that moved')", PLUGIN], ids=["imported", "made"])
def broken(request, tmp_path, monkeypatch):
    """Install a package whose entry points fail, as of a framework's next release."""
    info = tmp_path / "broken_plugin-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: broken-plugin\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text(
        "".join(f"[unitrain.{group}]\nbroken = broken_plugin:Made\n" for group in GROUPS)
    )
    (tmp_path / "broken_plugin.py").write_text(request.param)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    yield
    sys.modules.pop("broken_plugin", None)


@pytest.mark.parametrize("framework", ["reference", "lightning", "ignite"])
def test_a_broken_plugin_is_left_out_with_a_warning(framework, broken, tmp_path, capsys):
    trainer = UnifiedTrainer(framework, max_epochs=1, enable_progress_bar=False)
    spec = TrainSpec(model=nn.Linear(2, 1), loss=nn.MSELoss(), optimizer=partial(torch.optim.SGD, lr=0.1))
    trainer.fit(spec, [(torch.ones(3, 2), torch.ones(3, 1))])
    trainer.save_checkpoint(tmp_path / "run.ckpt")
    for to in ("lightning", "ignite", "safetensors"):
        with pytest.warns(UserWarning, match=BROKEN.format("unitrain.checkpoints") + ".*left out.*a name that moved"):
            convert_checkpoint(tmp_path / "run.ckpt", tmp_path / to, to=to)
    with pytest.warns(UserWarning, match=BROKEN.format("unitrain.checkpoints")), pytest.raises(SystemExit) as ended:
        main(["convert", "--help"])
    assert ended.value.code == 0
    assert "--to" in capsys.readouterr().out
    with pytest.warns(UserWarning, match=BROKEN.format("unitrain.bridges")):
        assert len(registry.bridges()) == 2


@pytest.mark.filterwarnings("ignore:the entry point")
def test_a_broken_plugin_that_is_asked_for_is_refused(broken, tmp_path, capsys):
    (tmp_path / "run.ckpt").touch()
    with pytest.raises(UnitrainError, match=BROKEN.format("unitrain.checkpoints") + r"[\s\S]*moved[\s\S]*Hint: update"):
        convert_checkpoint(tmp_path / "run.ckpt", tmp_path / "out", to="broken")
    assert main(["convert", str(tmp_path / "run.ckpt"), str(tmp_path / "out"), "--to", "broken"]) != 0
    assert "Hint: update" in capsys.readouterr().err
    with pytest.raises(UnitrainError, match=BROKEN.format("unitrain.adapters") + r"[\s\S]*Hint: update"):
        UnifiedTrainer("broken", max_epochs=1)


@pytest.mark.parametrize("broken", ["raise ImportError('a name that moved')"], indirect=True)
def test_broken_fixers_are_left_out(broken):
    with pytest.warns(UserWarning, match=BROKEN.format("unitrain.fixers")):
        assert {one.framework for one in families()} >= {"lightning", "ignite"}


@pytest.fixture
def incomplete(tmp_path, monkeypatch):
    """Install a package whose provider and backend need another package, which is not there."""
    info = tmp_path / "incomplete_plugin-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: incomplete-plugin\nVersion: 1.0\n")
    groups = ("adapters", "providers")
    (info / "entry_points.txt").write_text(
        "".join(f"[unitrain.{group}]\nincomplete = incomplete_plugin:Made\n" for group in groups)
    )
    (tmp_path / "incomplete_plugin.py").write_text("import cloud_of_theirs")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])


def test_a_provider_that_lacks_a_package_is_named_as_one(incomplete):
    with pytest.raises(BackendNotInstalledError) as caught:
        deploy("out", provider="incomplete", name="digits")
    told = "provider='incomplete' needs the package 'cloud_of_theirs', which is not installed."
    assert str(caught.value) == f"{told}\nHint: pip install cloud_of_theirs"
    with pytest.raises(BackendNotInstalledError, match=r"^framework='incomplete' needs the package 'cloud_of_theirs'"):
        UnifiedTrainer("incomplete")


def test_what_is_no_name_is_unknown():
    for given in (3, None, ["local"]):
        with pytest.raises(DeployError, match=r"^provider=.* is unknown; available: 'aws', 'gcp', 'local'"):
            find_provider(given)
