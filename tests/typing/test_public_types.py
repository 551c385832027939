"""What an editor says of code that uses unitrain: mypy and pyright, run on real files."""

import json
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
NAMES = ("right.py", "wrong.py")


@cache
def by_mypy() -> dict[str, set[int]]:
    done = subprocess.run(
        [sys.executable, "-m", "mypy", *(f"tests/typing/{name}" for name in NAMES)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in (0, 1), done.stdout + done.stderr
    return {name: {int(line) for line in re.findall(rf"{name}:(\d+): error", done.stdout)} for name in NAMES}


@cache
def by_pyright() -> dict[str, set[int]]:
    done = subprocess.run(
        [sys.executable, "-m", "basedpyright", "--level=error", "--outputjson", "--pythonpath", sys.executable, *NAMES],
        cwd=HERE,
        capture_output=True,
        text=True,
        check=False,
    )
    told = json.loads(done.stdout)["generalDiagnostics"]
    return {
        name: {one["range"]["start"]["line"] + 1 for one in told if Path(one["file"]).name == name} for name in NAMES
    }


@pytest.mark.parametrize("checker", [by_mypy, by_pyright])
@pytest.mark.parametrize("name", NAMES)
def test_what_is_wrong_is_told_and_nothing_else(name, checker):
    lines = (HERE / name).read_text().splitlines()
    assert checker()[name] == {number for number, line in enumerate(lines, 1) if line.endswith("# refused")}
