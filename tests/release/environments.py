"""Environments with nothing in them but what is asked for."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import venv
from pathlib import Path

TORCH = "torch==2.13.0"
"""Always by its exact version: a looser one may take a build with gigabytes of CUDA."""

_KEPT = ("PATH", "HOME", "LANG", "TMPDIR", "LD_LIBRARY_PATH")


def clean():
    """Return the variables of an environment of its own: how pip reaches its index, and nothing of the tests."""
    kept = {name: value for name, value in os.environ.items() if name in _KEPT or name.startswith(("PIP_", "SSL_"))}
    off = {"AWS_EC2_METADATA_DISABLED": "true", "NO_GCE_CHECK": "true", "WANDB_MODE": "offline"}
    return kept | off | {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore", "MLFLOW_DISABLE_TELEMETRY": "true"}


def run(*command, cwd=None, check=True, timeout=900):
    """Run a command and return what it prints, standard error too."""
    done = subprocess.run(
        list(map(str, command)),
        cwd=cwd,
        env=clean(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert not check or done.returncode == 0, f"{shlex.join(map(str, command))}\n{done.stdout[-5000:]}"
    return done.stdout


class Environment:
    """A virtual environment.

    Args:
        folder: Where to make it.
        base: The environment whose packages it sees, as if they were its own; None for none.
    """

    def __init__(self, folder, base=None):
        self.folder = Path(folder)
        venv.create(self.folder, with_pip=base is None, symlinks=True)
        (self.packages,) = self.folder.glob("lib/python*/site-packages")
        self.python = self.folder / "bin" / "python"
        if base is not None:
            (self.packages / "base.pth").write_text(f"{base.packages}\n")

    def install(self, *what):
        """Install by pip."""
        return run(self.python, "-m", "pip", "install", "--quiet", *what)

    def program(self, name):
        return self.folder / "bin" / name


def uv_options():
    """Return how uv reaches what pip reaches: it reads no configuration of pip."""
    told = run(sys.executable, "-m", "pip", "config", "list").splitlines()
    found = {}
    for line in told:  # the last one counts
        name, _, value = line.partition("=")
        found[name.rpartition(".")[2]] = value.strip("'\"").split()
    options = [f"--find-links={one}" for one in found.get("find-links", [])]
    options += [f"--index={one}" for one in found.get("extra-index-url", [])]
    return options + [f"--default-index={one}" for one in found.get("index-url", [])]
