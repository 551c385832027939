"""The report of ``unitrain doctor``; ``Report.as_dict`` is its machine-readable form."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

SCHEMA = 1
"""The version of the JSON schema; it increases if a key is removed or changes its meaning, not if one is added."""


class Level(StrEnum):
    """The severity of a finding."""

    WARNING = "warning"
    FAILURE = "failure"


@dataclass(frozen=True)
class Package:
    """A package that the window knows.

    Attributes:
        name: Name of the distribution.
        version: The installed one; None if there is none.
        standing: "supported", "best effort", "outside", "dangerous" or "missing".
        supported: Which releases are.
        best_effort: Which work through shims; empty if none do.
    """

    name: str
    version: str | None
    standing: str
    supported: str
    best_effort: str


@dataclass(frozen=True)
class Backend:
    """A backend and its status.

    Attributes:
        name: As it is given.
        ready: Whether it can be used, as far as the metadata tell.
        distribution: The distribution that registered it.
        version: The registrar's.
        told: The framework's release, or what is missing.
    """

    name: str
    ready: bool
    distribution: str
    version: str
    told: str


@dataclass(frozen=True)
class Accelerator:
    """A kind of device: ``cpu``, ``cuda`` or ``mps``."""

    kind: str
    available: bool
    told: str


@dataclass(frozen=True)
class Extra:
    """An optional part.

    Attributes:
        name: As in ``pip install 'pytorch-unitrain[NAME]'``.
        installed: Whether all that it needs is there.
        missing: Packages that are missing or too old.
        command: The command that installs it.
    """

    name: str
    installed: bool
    missing: list[str]
    command: str


@dataclass(frozen=True)
class Finding:
    """A problem and its fix.

    Attributes:
        level: "warning" or "failure".
        about: The package, or what else it is about.
        message: The problem.
        fix: The command or the argument that fixes it.
    """

    level: Level
    about: str
    message: str
    fix: str


@dataclass(frozen=True)
class Report:
    """The result of the checks."""

    unitrain: str
    packages: list[Package]
    backends: list[Backend]
    accelerators: list[Accelerator]
    extras: list[Extra]
    findings: list[Finding]

    @property
    def status(self) -> str:
        """Return "ok", or the worst level of what was found."""
        levels = {one.level for one in self.findings}
        return next((str(level) for level in (Level.FAILURE, Level.WARNING) if level in levels), "ok")

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain values."""
        return {"schema": SCHEMA, "status": self.status, **asdict(self)}
