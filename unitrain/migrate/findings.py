"""Findings of fixers, and their reports."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from unitrain.migrate.source import Source

UNITRAIN = "unitrain"
"""The target that keeps the script's own framework as the backend."""


class Severity(StrEnum):
    """The severity of a finding.

    A change leaves alone what the script does under the installed release, or repairs what fails there. What would do
    something else is of severity behaviour, and is only written if the user chooses its rule.
    """

    NOTE = "note"
    CHANGE = "change"
    BEHAVIOUR = "behaviour"
    PERSON = "person"
    ERROR = "error"


class Edit(NamedTuple):
    """The bytes from ``start`` to ``end`` become ``text``; what is put in has ``start == end``."""

    start: int
    end: int
    text: str


class Rule(NamedTuple):
    """A named rule, for ``--list-rules``, ``--disable`` and ``--behaviour``.

    Attributes:
        name: The name.
        summary: One line on what it does.
        severity: That of its findings, unless one is left for a person.
    """

    name: str
    summary: str
    severity: Severity = Severity.CHANGE


@dataclass(frozen=True)
class Finding:
    """Something in a file.

    Attributes:
        rule: The name of the rule.
        start: Offset in bytes.
        reason: Why it is found.
        fix: The replacement, or instructions for the user.
        edits: The edits, applied together or not at all.
        imports: Names of unitrain, or ``module:name``, that the new text uses.
        severity: How much it weighs; by default a change.
        needed: Whether the script does not run if this alone is left out: an upgrade repairs what fails today.
    """

    rule: str
    start: int
    reason: str
    fix: str
    edits: tuple[Edit, ...] = ()
    imports: tuple[str, ...] = ()
    severity: Severity = Severity.CHANGE
    needed: bool = False


def person(rule: str, start: int, reason: str, fix: str) -> Finding:
    """Return a finding that must be fixed by hand."""
    return Finding(rule, start, reason, fix, severity=Severity.PERSON)


@dataclass(frozen=True)
class Goal:
    """The requested target.

    Attributes:
        to: ``"unitrain"``, or the backend that the script is to name.
        check: The backend whose refusals are to be told, if any.
        folder: The folder of the file, in which a config may lie; None if there is none.
        behaviour: The rules of severity behaviour that are to act.
    """

    to: str = UNITRAIN
    check: str | None = None
    folder: str | None = None
    behaviour: frozenset[str] = frozenset()

    def word(self, own: str) -> str:
        """Return the backend that a script of the framework ``own`` is to name."""
        return own if self.to == UNITRAIN else self.to


Find: TypeAlias = Callable[["Source", Goal], Iterable[Finding]]


@dataclass(frozen=True)
class Fixer:
    """One fixer: its rules, and the function that finds."""

    rules: tuple[Rule, ...]
    find: Find


@dataclass(frozen=True)
class Family:
    """The fixers of one framework.

    Attributes:
        framework: The backend that runs the framework's code unchanged.
        packages: Its top-level packages; files that contain none of these words are skipped.
        upgrades: Fixers for what newer releases renamed or removed; run until nothing changes.
        conversions: Fixers that put unitrain around the script; all of a file's, or none.
        checks: Fixers that tell what a backend refuses, for ``--check-backend``.
    """

    framework: str
    packages: tuple[str, ...]
    upgrades: tuple[Fixer, ...] = ()
    conversions: tuple[Fixer, ...] = ()
    checks: tuple[Fixer, ...] = ()

    @property
    def rules(self) -> tuple[Rule, ...]:
        """All rules, in the order of the fixers."""
        return tuple(rule for fixer in (*self.upgrades, *self.conversions, *self.checks) for rule in fixer.rules)


@dataclass(frozen=True)
class Entry:
    """A line of the report.

    Attributes:
        file: The file.
        line: The line in it, or in the cell.
        rule: The name of the rule.
        severity: How much it weighs.
        reason: Why.
        fix: The replacement, or instructions for the user.
        cell: The number of a notebook's cell, from 1; None in a script.
    """

    file: str
    line: int
    rule: str
    severity: Severity
    reason: str
    fix: str
    cell: int | None = None

    def __str__(self) -> str:
        """Return ``file:line RULE severity reason fix``."""
        place = self.file if self.cell is None else f"{self.file}:cell {self.cell}"
        return f"{place}:{self.line} {self.rule} {self.severity}: {self.reason} -> {self.fix}"

    def row(self) -> dict[str, Any]:
        """Return the fields, for a report in JSON."""
        return asdict(self)
