"""Packages that are not what they seem, put in front of the path of a process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

CANARY = "it_ran"
PACKAGES = {"pytorch-lightning": "pytorch_lightning", "lightning": "lightning"}
ROOT = Path(__file__).parents[2]


def plant(folder, distribution, version, *, package=True):
    """Put a release of ``distribution`` into ``folder``: its metadata, and a package that writes a file when imported."""
    name = distribution.replace("-", "_")
    info = folder / f"{name}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n")
    if package:
        home = folder / PACKAGES.get(distribution, name)
        home.mkdir(exist_ok=True)
        (home / "__init__.py").write_text(
            f"open({str(folder / CANARY)!r}, 'w').write(__name__)\nraise SystemExit(77)\n"
        )


def ran(folder):
    """Return whether a planted package was imported."""
    return (folder / CANARY).exists()


def python(*arguments, front=(), cwd=None, isolated=False, timeout=200):
    """Run Python with ``front`` in front of its path; ``isolated``: with nothing else but what is given."""
    here = [] if isolated else [str(ROOT), str(ROOT / "adapters")]
    path = os.pathsep.join([*map(str, front), *here])
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    flags = ["-S"] if isolated else []
    return subprocess.run(
        [sys.executable, *flags, *map(str, arguments)],
        cwd=cwd, env=environment, capture_output=True, text=True, timeout=timeout, check=False,
    )  # fmt: skip
