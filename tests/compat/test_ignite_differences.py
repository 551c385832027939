"""Each shim for Ignite by itself, with the newest Ignite told to be an old one; on real old ones: tests/matrix."""

import inspect
import sys
import warnings

import pytest
from ignite.engine import Engine
from packaging.version import Version

from unitrain import VersionError
from unitrain_ignite import _compat, loggers


@pytest.fixture
def told(monkeypatch):
    """Return what lets the installed release be taken for another."""
    return lambda release: monkeypatch.setattr(_compat, "release", lambda: Version(release))


def test_each_difference_is_tested_here():
    text = inspect.getsource(sys.modules[__name__])
    found = {name for name, one in inspect.getmembers(_compat, inspect.isfunction) if hasattr(one, "__difference__")}
    assert {name for name in found if name not in text} == set()
    assert found


def test_logger_is_looked_up_where_the_release_has_it(told, monkeypatch):
    asked = []
    original = _compat.import_module
    monkeypatch.setattr(_compat, "import_module", lambda name: asked.append(name) or original(name))
    assert _compat.logger("tqdm_logger:ProgressBar") is _compat.ProgressBar
    told("0.4.13")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is still there, and says that it will go
        _compat.logger("base_logger:BaseLogger")
    assert asked == ["ignite.handlers.tqdm_logger", "ignite.contrib.handlers.base_logger"]


def test_refuse_mlflow_before_it_fails_at_the_first_row(told):
    made = object.__new__(_compat.MLflowLogger)
    assert loggers.tracker(made) is not None
    told("0.5.1")
    with pytest.raises(VersionError, match=r"MLflowLogger of pytorch-ignite 0\.5\.1[\s\S]*Hint: use unitrain\.loggers"):
        loggers.tracker(made)


@pytest.mark.parametrize(("release", "first"), [("0.5.2", True), ("0.5.3", False)])
def test_clears_output_first_up_to_0_5_2(told, release, first):
    told(release)
    assert _compat.clears_output_first() is first


def test_takes_max_iters_is_asked_of_the_engine(monkeypatch):
    assert _compat.takes_max_iters()

    def run(self, data=None, max_epochs=None, epoch_length=None):
        """As it was up to 0.5.4."""

    monkeypatch.setattr(Engine, "run", run)
    assert not _compat.takes_max_iters()
