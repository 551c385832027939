"""Finds the adapters' fixers, which work without their framework."""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import TYPE_CHECKING

from unitrain.migrate.findings import Rule, Severity
from unitrain.utilities.plugins import left_out_if_broken

if TYPE_CHECKING:
    from unitrain.migrate.findings import Family

GROUP = "unitrain.fixers"
"""The entry-point group with which third-party packages register fixers."""

OWN_RULES = (
    Rule("parse-error", "a file that cannot be parsed or read", Severity.ERROR),
    Rule("no-framework", "a file that imports no framework", Severity.NOTE),
    Rule("entangled", "two changes at the same place", Severity.PERSON),
    Rule("config-target", "a config that creates a Trainer by its dotted name", Severity.PERSON),
)
"""The rules of the engine itself."""


def families() -> list[Family]:
    """Return the families of fixers, by name; one that cannot be loaded is left out, with a warning."""
    found: list[Family] = []
    for entry in sorted(entry_points(group=GROUP), key=lambda one: one.name):
        with left_out_if_broken(entry):
            found.append(entry.load())
    return found


def rules(known: list[Family]) -> list[Rule]:
    """Return all rules, without repeats."""
    return list(dict.fromkeys([*OWN_RULES, *(rule for family in known for rule in family.rules)]))
