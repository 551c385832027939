"""Runs what a page shows of a shell: blocks of ``console``, with the output that is expected below each command.

The first command of a walk is ``cd FOLDER``, with a folder of this repository; a copy of it is used. ``...`` stands for
any text, as in a doctest. Only what is printed to the standard output counts.
"""

from __future__ import annotations

import doctest
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
SECTION = re.compile(r"^(#{2,3}) (.*)$", re.MULTILINE)
BLOCK = re.compile(r"```console\n(.*?)```", re.DOTALL)
_FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


class Command(NamedTuple):
    """A command of a walk, and what it prints."""

    line: str
    expected: str


def walks(page: str) -> dict[str, list[Command]]:
    """Return the commands of each section of ``page`` that has any."""
    text = (ROOT / page).read_text()
    marks = [*SECTION.finditer(text)]
    ends = [*(mark.start() for mark in marks[1:]), len(text)]
    found = {mark[2]: "".join(BLOCK.findall(text[mark.end() : end])) for mark, end in zip(marks, ends, strict=True)}
    return {title: _commands(block) for title, block in found.items() if block}


def _commands(block: str) -> list[Command]:
    parts = re.split(r"^\$ ", block.replace("\\\n", ""), flags=re.MULTILINE)
    assert not parts[0].strip(), f"output without a command: {parts[0]}"
    return [Command(*part.partition("\n")[::2]) for part in parts[1:]]


def walk(commands: list[Command], folder: Path) -> None:
    """Run the commands one after the other in a copy of the walk's folder.

    Raises:
        AssertionError: If a command prints something else than the page says.
    """
    where, *rest = commands
    assert where.line.startswith("cd "), "a walk begins with `cd FOLDER`"
    here = folder / "walk"
    shutil.copytree(ROOT / where.line.removeprefix("cd "), here, ignore=shutil.ignore_patterns("__pycache__"))
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "COLUMNS": "120", "PYTHONWARNINGS": "ignore", "OMP_NUM_THREADS": "1"}
    for line, expected in rest:
        done = subprocess.run(
            line, shell=True, cwd=here, env=environment, capture_output=True, text=True, timeout=200, check=False
        )
        printed = done.stdout
        assert doctest.OutputChecker().check_output(expected, printed, _FLAGS), (
            f"$ {line}\nexpected:\n{expected}\nprinted:\n{printed}\n{done.stderr}"
        )
