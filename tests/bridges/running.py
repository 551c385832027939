"""Runs a script in a fresh folder, natively or through ``unitrain run``, and returns its trace."""

from __future__ import annotations

import gc
import hashlib
import os
import pickle
import random
import runpy
import sys
import tempfile
import warnings
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

from tests.bridges.trace import Recorder, Trace
from tests.bridges.written import everything
from unitrain import cli

SCRIPTS = Path(__file__).parent / "scripts"
HOMES = ("lightning", "ignite")
BACKENDS = ("lightning", "ignite", "reference")
OTHER = {"lightning": "ignite", "ignite": "lightning"}
PATHS = sorted(path for home in HOMES for path in (SCRIPTS / home).glob("*.py"))


def home_of(script: Path) -> str:
    return script.parent.name


def natively(script: Path) -> Trace:
    """Run a script as ``python SCRIPT`` does."""
    return run(script, lambda: runpy.run_path(str(script), run_name="__main__"))


def redirected(script: Path, framework: str) -> Trace:
    """Run a script as ``unitrain run SCRIPT --framework NAME`` does."""
    return run(script, lambda: _refused_otherwise(cli.main(["run", str(script), "--framework", framework])))


class NotRun(Exception):
    """``unitrain run`` ended with a status of its own."""


def _refused_otherwise(status: int) -> None:
    if status:
        raise NotRun(f"exit status {status}")


def run(script: Path, start) -> Trace:
    """Write down what a script does when ``start`` runs it."""
    recorder = Recorder(script)
    with tempfile.TemporaryDirectory() as folder, _by_itself(script, Path(folder)):
        with recorder.recording() as trace:
            try:
                start()
            except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever ends a script is a part of its trace
                trace.error = _told(error, folder)
        trace.rng = _generators()
        gc.collect()  # files that only a logger held are closed
        trace.files = everything(Path(folder))
    return trace


def _told(error: BaseException, folder: str) -> tuple[str, str]:
    return type(error).__name__, str(error).replace(folder, ".")


@contextmanager
def _by_itself(script: Path, folder: Path):
    """Give a script what a fresh process would have, and take back what it changes in this one."""
    kept = os.environ.copy(), Path.cwd(), sys.argv, sys.path[:], torch.get_default_dtype(), torch.is_grad_enabled()
    os.chdir(folder)
    sys.argv, sys.path = [str(script)], [str(script.parent), *sys.path]
    torch.manual_seed(0)
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002 - the generator that scripts use
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        environment, where, sys.argv, sys.path[:], dtype, grads = kept
        os.environ.clear()
        os.environ.update(environment)
        os.chdir(where)
        torch.set_default_dtype(dtype)
        torch.set_grad_enabled(grads)


def _generators() -> str:
    state = np.random.get_state()  # noqa: NPY002
    held = torch.get_rng_state().numpy().tobytes(), random.getstate(), state[1].tobytes(), state[2:]
    return hashlib.sha256(pickle.dumps(held)).hexdigest()
