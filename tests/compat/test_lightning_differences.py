"""Each shim for Lightning by itself, with the newest Lightning told to be an old one; on real old ones: tests/matrix."""

import importlib.util
import inspect
import sys
from types import SimpleNamespace

import pytest
import pytorch_lightning as pl
import torch
from packaging.version import Version
from torch import nn

from tests.compat.planted import plant, python, ran
from unitrain import UnifiedTrainer, UnsupportedFeatureError, VersionError
from unitrain.testing.cases import spec
from unitrain.testing.models import loader
from unitrain_bridges.lightning import versions
from unitrain_bridges.lightning.namespace import Parts
from unitrain_lightning import _compat
from unitrain_lightning.module import EvalShell
from unitrain_lightning.namespace import namespace
from unitrain_lightning.precision import precision_plugin

ROOT = "pytorch_lightning"
CPU = torch.device("cpu")


@pytest.fixture
def told(monkeypatch):
    """Return what lets the installed release be taken for another."""
    return lambda release: monkeypatch.setattr(_compat, "release", lambda root: Version(release))


def functions(module):
    return {name for name, one in inspect.getmembers(module, inspect.isfunction) if hasattr(one, "__difference__")}


def test_each_difference_is_tested_here():
    text = inspect.getsource(sys.modules[__name__])
    assert functions(_compat)
    for module in (_compat, versions):
        assert {name for name in functions(module) if name not in text} == set()


# --- pkg_resources ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("release", "there"), [("2.3.3", True), ("2.4", False)])
def test_importing_an_old_release_finds_pkg_resources(told, release, there):
    told(release)
    assert importlib.util.find_spec("pkg_resources") is None  # else there is nothing to fix
    with _compat.importing(ROOT):
        assert ("pkg_resources" in sys.modules) is there
        if there:
            resources = sys.modules["pkg_resources"]
            resources.declare_namespace("anything")
            assert resources.get_distribution("packaging").version
            with pytest.raises(resources.DistributionNotFound):
                resources.get_distribution("nothing-of-this-name")
    assert "pkg_resources" not in sys.modules


# --- names and precision ----------------------------------------------------------------------------------------------


def test_place_before_2_1_has_the_old_names(told):
    places = ["plugins:Precision", "plugins:MixedPrecision", "plugins:DoublePrecision", "callbacks:Callback"]
    assert [_compat.place_before_2_1(ROOT, one) for one in places] == places
    told("2.0.9")
    old = [
        "plugins:PrecisionPlugin",
        "plugins:MixedPrecisionPlugin",
        "plugins:DoublePrecisionPlugin",
        "callbacks:Callback",
    ]
    assert [_compat.place_before_2_1(ROOT, one) for one in places] == old


def test_half_precision_is_refused_before_2_1(told):
    assert precision_plugin(namespace(ROOT), "bf16-true", CPU).precision == "bf16-true"
    told("2.0.9")
    with pytest.raises(
        VersionError, match=r"require pytorch-lightning 2\.1; installed: 2\.0\.9[\s\S]*Hint: pip install"
    ):
        _compat.place_before_2_1(ROOT, "plugins:HalfPrecision")


class Caches(pl.plugins.MixedPrecision):
    """As it was before 2.5.5."""

    def autocast_context_manager(self):
        return torch.autocast(self.device, dtype=torch.bfloat16)


@pytest.mark.parametrize(("release", "kept"), [("2.5.3", False), ("2.5.5", True)])
def test_keep_no_casts(told, release, kept):
    told(release)
    plugin = Caches("bf16-mixed", "cpu")
    _compat.keep_no_casts(plugin, ROOT)
    with plugin.forward_context():
        assert torch.is_autocast_enabled("cpu")
        assert torch.get_autocast_dtype("cpu") == torch.bfloat16
        assert torch.is_autocast_cache_enabled() is kept


# --- the shell --------------------------------------------------------------------------------------------------------


class Evaluates:
    evaluating = True


def shell_of():
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    model[1].eval()
    made = namespace(ROOT).made(EvalShell)(SimpleNamespace(model=model))
    made._trainer = Evaluates()
    return made


@pytest.mark.parametrize(("release", "kept"), [("2.1.4", True), ("2.2", False)])
def test_keep_modes_through_an_evaluation(told, release, kept):
    told(release)
    shell = shell_of()
    shell.train()  # as Lightning did when a fit began
    assert (not shell.model[1].training) is kept
    shell.model[1].eval()
    shell.eval()
    assert not shell.model[0].training
    shell.train()
    assert (shell.training, shell.model[0].training) == (True, True)
    assert (not shell.model[1].training) is kept
    shell.eval()
    shell.on_predict_end()
    assert shell.model[0].training is kept


@pytest.mark.parametrize(("release", "can"), [("2.3.3", False), ("2.4", True)])
def test_fetches_by_itself_since_2_4(told, release, can):
    told(release)
    assert _compat.fetches_by_itself(ROOT) is can


# --- what is raised ---------------------------------------------------------------------------------------------------


class Interrupted:
    def __init__(self, interrupted):
        self.interrupted = interrupted


def test_raise_interrupt_where_lightning_swallowed_it(told):
    _compat.raise_interrupt(Interrupted(True), ROOT)  # since 2.4 it is an exit, which is raised by itself
    told("2.3.3")
    _compat.raise_interrupt(Interrupted(False), ROOT)
    with pytest.raises(KeyboardInterrupt):
        _compat.raise_interrupt(Interrupted(True), ROOT)


def test_refuse_rich_bar_that_fails_in_its_second_epoch(told, monkeypatch):
    bar = pl.callbacks.RichProgressBar()
    _compat.refuse_rich_bar(bar, ROOT)
    told("2.5.2")
    _compat.refuse_rich_bar(pl.callbacks.Timer(), ROOT)
    trainer = UnifiedTrainer("lightning", callbacks=[bar])
    with pytest.raises(
        VersionError, match=r"RichProgressBar of pytorch-lightning 2\.5\.2[\s\S]*Hint: use enable_progress_bar"
    ):
        trainer.fit(spec(), loader())
    monkeypatch.setattr(_compat, "installed", lambda name: ["14.0.0"])
    _compat.refuse_rich_bar(bar, ROOT)


def test_refuse_elsewhere_what_is_older_than_what_is_followed():
    parts = Parts(ROOT)
    versions.refuse_elsewhere(parts, "ignite")
    parts.version = "2.3.3"
    with pytest.raises(VersionError, match=r"'ignite' requires Lightning >= 2\.4; installed: 2\.3\.3\.\nHint: pip"):
        versions.refuse_elsewhere(parts, "ignite")


def test_refuse_resuming_where_the_first_batches_are_read_twice():
    parts = Parts(ROOT)
    versions.refuse_resuming(parts, "ignite")
    parts.version = "2.4.0"
    with pytest.raises(UnsupportedFeatureError, match=r"requires Lightning >= 2\.5\.6; installed: 2\.4\.0"):
        versions.refuse_resuming(parts, "ignite")


def test_steps_schedules_when_cut_since_2_6():
    parts = Parts(ROOT)
    parts.version = "2.5.6"
    assert not versions.steps_schedules_when_cut(parts)
    parts.version = "2.6.0"
    assert versions.steps_schedules_when_cut(parts)


@pytest.mark.parametrize(("distribution", "release"), [("pytorch-lightning", "1.9.5"), ("pytorch-ignite", "0.4.11")])
def test_a_release_below_the_window_is_refused_before_anything_of_it_is_imported(distribution, release, tmp_path):
    plant(tmp_path, distribution, release)
    framework = {"pytorch-lightning": "lightning", "pytorch-ignite": "ignite"}[distribution]
    done = python("-c", f"import unitrain; unitrain.UnifiedTrainer({framework!r})", front=[tmp_path])
    assert done.returncode == 1
    assert f"VersionError: {distribution} {release} is installed; supported: >=" in done.stderr
    assert f"Hint: pip install --upgrade '{distribution}>=" in done.stderr
    assert not ran(tmp_path)
