"""What the cell is that the tests run in: its declared packages, from pyproject.toml, and what they bring."""

import os
import tomllib
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

ROOT = Path(__file__).parents[2]
CELL = os.environ.get("MATRIX_CELL")
"""The name of the cell, set by tox; None in any other environment."""

DISTRIBUTIONS = ("pytorch-lightning", "lightning", "pytorch-ignite", "torchmetrics", "optuna")
FRAMEWORKS = {"lightning": ("pytorch-lightning", "lightning"), "ignite": ("pytorch-ignite",), "reference": ()}
NAMESPACES = {"pytorch_lightning": "pytorch-lightning", "lightning.pytorch": "lightning"}


def cells() -> dict[str, dict[str, str]]:
    """Return the exact releases that each cell declares."""
    tables = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["tox"]
    declared = {name: tables["env"][name]["deps"] for name in tables["env_list"] if name != "base"}
    return {name: dict(one.split("==") for one in deps if "==" in one) for name, deps in declared.items()}


def installed(distribution: str) -> str | None:
    """Return the release that is there, or None."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def has(framework: str) -> bool:
    """Return whether the cell has the packages of a backend."""
    names = FRAMEWORKS[framework]
    return not names or any(installed(name) for name in names)


def imported(namespace: str):
    """Return one of Lightning's packages; an old one imports what a script cannot give it, but unitrain can."""
    from unitrain_lightning._compat import importing

    with importing(namespace):
        return import_module(namespace)
