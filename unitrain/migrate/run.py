"""Migrates files: reads each, runs the fixers, and writes the result."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from unitrain.migrate.engine import PARSE, migrate_text, relevant
from unitrain.migrate.files import CONFIGS, NOTEBOOK, Text, read, with_configs, write
from unitrain.migrate.findings import Entry, Severity
from unitrain.migrate.notebooks import Notebook
from unitrain.migrate.report import FileReport

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence
    from pathlib import Path

    from unitrain.migrate.engine import Outcome
    from unitrain.migrate.findings import Family, Goal

CONFIG_RULE = "config-target"


def migrate_files(
    paths: Iterable[Path],
    families: Sequence[Family],
    goal: Goal,
    disabled: Collection[str] = (),
    *,
    write: bool = False,
) -> list[FileReport]:
    """Migrate files and folders.

    Args:
        paths: The given paths.
        families: The fixers' families.
        goal: The goal of the migration.
        disabled: The names of rules that are not to act.
        write: Whether to write; otherwise the reports hold what would be written.

    Returns:
        What became of each file that was named or has something to tell.
    """
    reports = []
    for path, named in with_configs(paths):
        one = _migrate_file(path, families, goal, disabled)
        if named and not one.entries and not one.changed and one.alien:
            one.entries.append(_unframed(one.file))
        if write and one.changed:
            _write(path, one)
        if named or one.entries or one.changed:
            reports.append(one)
    return reports


def _migrate_file(path: Path, families: Sequence[Family], goal: Goal, disabled: Collection[str]) -> FileReport:
    made = FileReport(str(path))
    try:
        text = read(path).text
        notebook = Notebook(text) if path.suffix == NOTEBOOK else None
    except (OSError, ValueError) as error:
        made.entries.append(_broken(made.file, f"it cannot be read: {error}"))
        return made
    made.before = made.after = text
    if path.suffix in CONFIGS:
        made.entries += [] if CONFIG_RULE in disabled else _targets(made.file, text, families)
        return made
    code = text if notebook is None else notebook.module
    present = relevant(code, families)
    if not present:
        made.alien = True
        return made
    outcome = migrate_text(code, present, replace(goal, folder=str(path.parent)), disabled)
    if outcome.text != code:
        made.after = outcome.text if notebook is None else notebook.rewritten(outcome.text)
    made.entries += _entries(made.file, outcome, notebook)
    return made


def _entries(file: str, outcome: Outcome, notebook: Notebook | None) -> list[Entry]:
    made = []
    for line, finding in outcome.told:
        place = None if notebook is None else notebook.place(line)
        cell, line_there = (None, line) if place is None else place
        made.append(Entry(file, line_there, finding.rule, finding.severity, finding.reason, finding.fix, cell))
    return made


def _broken(file: str, reason: str) -> Entry:
    return Entry(file, 1, PARSE, Severity.ERROR, reason, "fix it first")


def _unframed(file: str) -> Entry:
    reason, fix = "it imports no framework that can be migrated", "pass the script that creates the trainer"
    return Entry(file, 1, "no-framework", Severity.NOTE, reason, fix)


def _write(path: Path, one: FileReport) -> None:
    try:
        one.kept = str(write(path, Text(one.after, read(path).encoding)))
    except (OSError, UnicodeError) as error:
        one.entries = [_broken(one.file, f"it cannot be written: {error}")]
        one.after = one.before


def _targets(file: str, text: str, families: Sequence[Family]) -> list[Entry]:
    """Return an entry for each line of a config that makes a Trainer by its dotted name."""
    names = "|".join(re.escape(name) for family in families for name in family.packages)
    made = []
    for number, line in enumerate(text.splitlines(), 1):
        if re.match(rf"\s*(- )?_target_:\s*['\"]?({names})(\.\w+)*\.Trainer\b", line):
            reason = "a config creates the Trainer, so the code that runs it is unknown"
            fix = "_target_: unitrain.UnifiedTrainer, with framework: and with native: for other arguments"
            made.append(Entry(file, number, CONFIG_RULE, Severity.PERSON, reason, fix))
    return made
