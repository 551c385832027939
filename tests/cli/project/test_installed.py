"""From an empty folder to a comparison, with what the wheel installs, as the README says."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from tests.release import building
from unitrain.cli.project.init import TEMPLATES

RUN = (
    "unitrain init demo --from {} && cd demo && unitrain fit --config run.yaml --framework ignite"
    " && unitrain compare --config run.yaml --trainer.max_epochs 1 && pytest -q"
)


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """Return the variables of an environment with the wheel, and beside it the packages of this one but unitrain."""
    folder = tmp_path_factory.mktemp("installed")

    def run(*command):
        subprocess.run([sys.executable, "-m", *map(str, command)], check=True, capture_output=True)

    wheel = building.build("wheel", building.ROOT, folder)
    run("venv", "--without-pip", folder / "env")
    python = folder / "env/bin/python"
    run("pip", "--python", python, "install", "--no-deps", "--no-index", wheel)
    (packages,) = (folder / "env/lib").glob("python*/site-packages")
    (packages / "others.pth").write_text(sysconfig.get_path("purelib"))
    (folder / "env/bin/pytest").write_text(f"#!{python}\nimport pytest\nraise SystemExit(pytest.console_main())\n")
    (folder / "env/bin/pytest").chmod(0o755)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PYTEST"))}
    return {**kept, "PATH": f"{folder / 'env/bin'}:{kept['PATH']}", "OMP_NUM_THREADS": "1"}


def typed(line, environment, folder):
    return subprocess.run(line, shell=True, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_the_wheel_is_what_runs(environment, tmp_path):
    done = typed('python -c "import unitrain; print(unitrain.__file__)"', environment, tmp_path)
    assert Path(done.stdout.strip()).is_relative_to(Path(environment["PATH"].partition(":")[0]).parent), done.stderr


@pytest.mark.slow
@pytest.mark.timeout(900)  # a dozen processes, one after the other
@pytest.mark.parametrize("template", TEMPLATES)
def test_a_project_runs_at_once(template, environment, tmp_path):
    done = typed(RUN.format(template), environment, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    run = tmp_path / "demo/runs/1"
    assert {one.name for one in run.iterdir()} >= {"config.yaml", "run.json", "metrics.csv", "checkpoints"}
    assert "4 passed" in done.stdout
    assert "Traceback" not in done.stderr
