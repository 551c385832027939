"""Backends are looked for once, and again where one is not known: it may have been installed meanwhile."""

import sys

import pytest

from unitrain import ConfigError
from unitrain.backends.registry import adapter_names, find_adapter
from unitrain.testing.reference import ReferenceAdapter


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
