"""A project with `run.yaml` and the module that it names, as a user has it in a folder."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from unitrain.cli import main

PROJECT = Path(__file__).parent / "project"


@pytest.fixture
def project(tmp_path, monkeypatch):
    """The project, copied to an empty folder, which is the working directory."""
    shutil.copytree(PROJECT, tmp_path, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "tiny", raising=False)
    return tmp_path


@pytest.fixture
def run(project, capsys):
    """Run a command in this process; returns its status, what it printed, and its errors."""

    def ran(*arguments):
        status = main([str(one) for one in arguments])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return ran


@pytest.fixture
def typed(project):
    """Run a command as a user types it, in a process of its own."""

    def ran(*arguments, expected=0, **environment):
        paths = [one for one in sys.path if one and one != str(project)]
        done = subprocess.run(
            [sys.executable, "-c", "import sys; from unitrain.cli import main; sys.exit(main())", *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=250,
            check=False,
            cwd=project,
            env=os.environ
            | {"PYTHONPATH": os.pathsep.join(paths), "PYTHONSAFEPATH": "1", "OMP_NUM_THREADS": "1"}
            | environment,
        )
        assert done.returncode == expected, done.stdout + done.stderr
        return done

    return ran


def everything(folder):
    """Return all files and folders below ``folder``, but what Python compiles."""
    found = {str(one.relative_to(folder)) for one in folder.rglob("*")}
    return {one for one in found if "__pycache__" not in one}
