"""Writes the page of the commands: what ``--help`` of each prints."""

from __future__ import annotations

import io
import os
from contextlib import contextmanager, redirect_stdout, suppress
from typing import TYPE_CHECKING

from docs._ext.pages import write
from unitrain.cli.commands import COMMANDS, main

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NAME = "reference/commands"
_COLUMNS = "100"
_HEAD = """# Commands

`unitrain COMMAND --help` prints the same.

"""


def copy(target: Path) -> str:
    """Write the page to ``target``, and return its name."""
    parts = [f"## `unitrain {name}`\n\n```text\n{help_of(name)}```\n" for name in COMMANDS]
    write(target / f"{NAME}.md", _HEAD + f"```text\n{help_of()}```\n\n" + "\n".join(parts))
    return NAME


def help_of(*command: str) -> str:
    """Return what a command prints if it is asked for help."""
    printed = io.StringIO()
    with _columns(_COLUMNS), redirect_stdout(printed), suppress(SystemExit):
        main([*command, "--help"])
    return printed.getvalue()


@contextmanager
def _columns(width: str) -> Iterator[None]:
    """Set how wide the text of argparse is."""
    before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = width
    try:
        yield
    finally:
        if before is None:
            del os.environ["COLUMNS"]
        else:
            os.environ["COLUMNS"] = before
