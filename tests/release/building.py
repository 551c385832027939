"""Builds what is released: from the working tree, and from the sdist, as anyone else would."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
PACKAGES = ("unitrain", "unitrain_lightning", "unitrain_ignite", "unitrain_bridges")


def build(kind, source, folder):
    """Build a ``"wheel"`` or an ``"sdist"`` of a source tree, without an environment of its own, and return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", str(folder)]
    subprocess.run(command, cwd=source, check=True, capture_output=True, timeout=200)
    (found,) = folder.glob("*.whl" if kind == "wheel" else "*.tar.gz")
    return found


def unpacked(sdist, folder):
    """Return the folder of the source tree in an sdist."""
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    (tree,) = folder.iterdir()
    return tree


def sources():
    """Return the files that belong into the wheel, by their name there: all that is beside the code."""
    found = {}
    for package in PACKAGES:
        home = ROOT / package if package == "unitrain" else ROOT / "adapters" / package
        every = (one for one in home.rglob("*") if one.is_file() and "__pycache__" not in one.parts)
        found |= {f"{package}/{one.relative_to(home).as_posix()}": one.read_bytes() for one in every}
    return found


def copied_tree(folder):
    """Return a copy of what a build reads, to be changed by a test."""
    for name in ("unitrain", "adapters"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder / name)
    return folder
