"""Finds the fixers of the adapters, which are there whether their framework is installed or not."""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import TYPE_CHECKING

from unitrain.migrate.findings import Rule

if TYPE_CHECKING:
    from unitrain.migrate.findings import Family

GROUP = "unitrain.fixers"
"""The entry-point group; a third party adds fixers by publishing a package with one."""

OWN_RULES = (
    Rule("parse-error", "a file that does not parse, or cannot be read"),
    Rule("no-framework", "a file that was named, and imports no framework"),
    Rule("entangled", "two changes in one place"),
)
"""What the engine tells by itself."""


def families() -> list[Family]:
    """Return the families of fixers, by name."""
    return [entry.load() for entry in sorted(entry_points(group=GROUP), key=lambda one: one.name)]


def rules(known: list[Family]) -> list[Rule]:
    """Return all rules, without repeats."""
    return list(dict.fromkeys([*OWN_RULES, *(rule for family in known for rule in family.rules)]))
