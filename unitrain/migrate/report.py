"""Migration reports: patch, text, JSON and table."""

from __future__ import annotations

import difflib
import json
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from unitrain.errors import UnitrainError
from unitrain.migrate.findings import Entry, Severity
from unitrain.utilities.files import failing_as, written

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

NOTHING, CHANGES, PERSON, BROKEN = range(4)
"""The exit statuses: nothing to do, changes pending or made, manual items left, a file that does not parse."""

FORMATS = (".json", ".md")
_ROOT = "/"


@dataclass
class FileReport:
    """The result for one file.

    Attributes:
        file: The given file name.
        entries: The findings.
        before: The original text.
        after: The rewritten text.
        kept: Path of the kept original, if the file was written.
        alien: Whether no framework is in it.
    """

    file: str
    entries: list[Entry] = field(default_factory=list)
    before: str = ""
    after: str = ""
    kept: str | None = None
    alien: bool = False

    @property
    def changed(self) -> bool:
        """Whether there is something to write."""
        return self.before != self.after

    @property
    def status(self) -> int:
        """The exit status of this file alone."""
        severities = {one.severity for one in self.entries}
        if Severity.ERROR in severities:
            return BROKEN
        if Severity.PERSON in severities:
            return PERSON
        return CHANGES if self.changed else NOTHING

    def patch(self) -> str:
        """Return the change as a unified diff."""
        lines = self.before.splitlines(keepends=True), self.after.splitlines(keepends=True)
        diff = difflib.unified_diff(
            *lines, fromfile=f"a/{self.file.lstrip(_ROOT)}", tofile=f"b/{self.file.lstrip(_ROOT)}"
        )
        return "".join(line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in diff)


def status(files: Sequence[FileReport]) -> int:
    """Return the exit status of a migration: that of its worst file."""
    return max((one.status for one in files), default=NOTHING)


def summary(files: Sequence[FileReport], *, written: bool) -> str:
    """Return one line about all files."""
    counts = Counter(one.status for one in files)
    changed = counts[CHANGES]
    done = "rewritten" if written else "to rewrite"
    parts = [
        f"{changed} {'file' if changed == 1 else 'files'} {done}",
        f"{counts[PERSON]} to fix by hand" if counts[PERSON] else "",
        f"{counts[BROKEN]} unreadable" if counts[BROKEN] else "",
        f"{counts[NOTHING]} unchanged",
    ]
    return ", ".join(part for part in parts if part) + "."


def write_report(path: Path, files: Sequence[FileReport]) -> None:
    """Write the report, in the form that the file's name asks for."""
    _WRITERS[path.suffix](path, files)


def _write_json(path: Path, files: Sequence[FileReport]) -> None:
    rows = [
        {
            "file": one.file,
            "status": one.status,
            "changed": one.changed,
            "original": one.kept,
            "entries": [entry.row() for entry in one.entries],
        }
        for one in files
    ]
    _write(path, json.dumps({"status": status(files), "files": rows}, indent=2) + "\n")


def _write_markdown(path: Path, files: Sequence[FileReport]) -> None:
    lines = ["# Findings of `unitrain migrate`", "", "| place | rule | severity | reason | fix |"]
    lines.append("| --- | --- | --- | --- | --- |")
    for entry in (entry for one in files for entry in one.entries):
        cell = "" if entry.cell is None else f"cell {entry.cell}:"
        shown = (f"{entry.file}:{cell}{entry.line}", entry.rule, entry.severity.value, entry.reason, entry.fix)
        lines.append("| " + " | ".join(_escaped(one) for one in shown) + " |")
    _write(path, "\n".join(lines) + "\n")


def _write(path: Path, text: str) -> None:
    with failing_as(UnitrainError, path), written(path) as file:
        file.write(text.encode())


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


_WRITERS = dict(zip(FORMATS, (_write_json, _write_markdown), strict=True))
