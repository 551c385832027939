"""The one table of releases: what it says, and that the requirements of the package say the same."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from unitrain.compat.blocked import BLOCKED
from unitrain.compat.windows import WINDOWS, Standing, Window, standing

PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
EXTRAS = [one for name, group in PROJECT["optional-dependencies"].items() if name != "all" for one in group]
REQUIRED = [Requirement(one) for one in [*PROJECT["dependencies"], *EXTRAS]]


def mistakes(required):
    """Return the requirements that say something else than the table."""
    known = [one for one in required if one.name in WINDOWS]
    return [str(one) for one in known if one.specifier != SpecifierSet(WINDOWS[one.name].supported)]


def test_requirements_are_what_the_table_supports():
    assert mistakes(REQUIRED) == []
    assert SpecifierSet(PROJECT["requires-python"]) == SpecifierSet(WINDOWS["python"].supported)
    assert {one.name for one in REQUIRED} >= WINDOWS.keys() - {"python"}


def test_a_requirement_that_says_something_else_is_noticed():
    assert mistakes([Requirement("torch>=2.3"), Requirement("lightning>=2.4,!=2.6.2")]) != []


def test_what_is_malicious_is_not_supported():
    for name, known in BLOCKED.items():
        assert all(release not in SpecifierSet(WINDOWS[name].supported) for release in known.releases)


@pytest.mark.parametrize(
    ("package", "version", "wanted"),
    [
        ("pytorch-lightning", "2.6.6", Standing.SUPPORTED),
        ("pytorch-lightning", "2.4.0+editable", Standing.SUPPORTED),
        ("pytorch-lightning", "2.7.0.dev3", Standing.SUPPORTED),
        ("pytorch-lightning", "2.3.3", Standing.BEST_EFFORT),
        ("pytorch-lightning", "2.0.9", Standing.BEST_EFFORT),
        ("pytorch-lightning", "1.9.5", Standing.OUTSIDE),
        ("pytorch-lightning", "2.6.2", Standing.DANGEROUS),
        ("lightning", "2.3.3", Standing.OUTSIDE),
        ("pytorch-ignite", "0.5.1", Standing.BEST_EFFORT),
        ("pytorch-ignite", "0.4.10", Standing.OUTSIDE),
        ("torch", "2.13.0+cpu", Standing.SUPPORTED),
        ("torch", "2.3.1", Standing.OUTSIDE),
        ("optuna", "3.6.2", Standing.BEST_EFFORT),
        ("torchmetrics", "0.11.4", Standing.BEST_EFFORT),
        ("mlflow", "no version", Standing.OUTSIDE),
    ],
)
def test_each_release_has_one_standing(package, version, wanted):
    assert standing(package, version) is wanted


def test_windows_do_not_overlap():
    for name, window in WINDOWS.items():
        assert isinstance(window, Window)
        for edge in ("2.0", "2.3.3", "2.4", "0.4.12", "0.5.1", "0.5.2", "0.11.4", "1.0", "3.1", "4.0"):
            both = (
                edge in SpecifierSet(window.supported)
                and window.best_effort
                and edge in SpecifierSet(window.best_effort)
            )
            assert not both, name
