"""An installed wheel is typed: mypy and pyright check a project that uses it, and an editor completes its arguments."""

import json
import re
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from tests.release.language_server import LanguageServer

RIGHT = """\
from functools import partial

import torch
from torch import nn

from unitrain import DataSpec, FitResult, TrainSpec, UnifiedTrainer

batches = [(torch.randn(8, 4), torch.randn(8, 1))]
spec = TrainSpec(model=nn.Linear(4, 1), loss=nn.MSELoss(), optimizer=partial(torch.optim.SGD, lr=0.1))
trainer = UnifiedTrainer("ignite", max_epochs=2, precision="bf16-mixed", seed=0)
result: FitResult = trainer.fit(spec, DataSpec(train=batches))
epoch: int = result.epoch
"""
WRONG = """\
from unitrain import TrainSpec, UnifiedTrainer

trainer = UnifiedTrainer("ignite", max_epoch=2)
UnifiedTrainer("ignite", max_epochs="2")
TrainSpec(model=3)
epoch: str = trainer.fit(TrainSpec()).epoch
"""
WRONG_LINES = {3, 4, 5, 6}


pytestmark = pytest.mark.slow  # mypy reads torch; tests/typing has the quick part


@pytest.fixture(scope="module")
def project(wheel, tmp_path_factory):
    """Return a project and its environment: the wheel, and torch from that of the tests; nothing of the repository."""
    folder = tmp_path_factory.mktemp("downstream")
    environment = folder / ".venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    (packages,) = environment.glob("lib/python*/site-packages")
    (packages / "rest.pth").write_text(sysconfig.get_path("purelib"))
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(packages)
    (folder / "right.py").write_text(RIGHT)
    (folder / "wrong.py").write_text(WRONG)
    (folder / "pyrightconfig.json").write_text(
        json.dumps({"typeCheckingMode": "standard", "venvPath": ".", "venv": ".venv"})
    )
    return folder


def by_mypy(project):
    command = [
        sys.executable,
        "-m",
        "mypy",
        "--strict",
        "--python-executable",
        ".venv/bin/python",
        "right.py",
        "wrong.py",
    ]
    done = subprocess.run(
        command, cwd=project, capture_output=True, text=True, check=False, env={"PATH": "/usr/bin:/bin"}
    )
    assert done.returncode == 1, done.stdout + done.stderr
    return [(name, int(line)) for name, line in re.findall(r"^(\w+\.py):(\d+): error", done.stdout, re.MULTILINE)]


def by_pyright(project):
    command = [sys.executable, "-m", "basedpyright", "--level=error", "--outputjson", "right.py", "wrong.py"]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)
    told = json.loads(done.stdout)["generalDiagnostics"]
    return [(Path(one["file"]).name, one["range"]["start"]["line"] + 1) for one in told]


CHECKERS = {"mypy": by_mypy, "pyright": by_pyright}


@pytest.mark.parametrize("checker", CHECKERS)
def test_what_is_wrong_is_an_error_and_nothing_else(project, checker):
    assert set(CHECKERS[checker](project)) == {("wrong.py", line) for line in WRONG_LINES}


def test_without_the_marker_mypy_finds_nothing(project):
    """The marker is what the test above proves."""
    (marker,) = project.glob(".venv/lib/python*/site-packages/unitrain/py.typed")
    kept = marker.with_name("kept")
    shutil.move(marker, kept)
    try:
        found = set(by_mypy(project))
    finally:
        shutil.move(kept, marker)
    assert ("right.py", 6) in found  # the import itself: there are no types
    assert ("wrong.py", 3) not in found


def test_an_editor_completes_the_arguments(project):
    with LanguageServer(project) as server:
        trainer = server.completions('from unitrain import UnifiedTrainer\nUnifiedTrainer("ignite", ')
        assert {"max_epochs=", "accumulate_grad_batches=", "gradient_clip_val=", "callbacks="} <= trainer
        served = server.completions('import unitrain\nunitrain.serve("model.onnx", ')
        assert {"port=", "workers=", "allowed_hosts="} <= served
        names = server.completions("import unitrain\nunitrain.")
        assert {"UnifiedTrainer", "TrainSpec", "tune", "EarlyStopping"} <= names
