"""Trainers created from a config, whose arguments are in another file."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import libcst as cst

from unitrain.migrate.findings import Finding, Fixer, Goal, Rule, Severity, person
from unitrain.migrate.variables import held_by

if TYPE_CHECKING:
    from collections.abc import Iterator

    from unitrain.migrate.source import Source

RULE = Rule(
    "lightning-hydra",
    "hydra.utils.instantiate(cfg.trainer) creates the Trainer from a config; to fix by hand",
    Severity.PERSON,
)
_INSTANTIATE = {"hydra.utils.instantiate", "hydra.utils.call"}


def find(source: Source, goal: Goal) -> Iterator[Finding]:
    """Find calls that make a Trainer from a config, told by the word in what is given or in the name that holds it."""
    del goal
    for call in source.all(cst.Call):
        if source.name(call.func) not in _INSTANTIATE or not call.args:
            continue
        variable = held_by(source, call)
        words = source.code(call.args[0]) + (" " if variable is None else f" {variable.name}")
        if re.search("trainer", words, re.IGNORECASE):
            reason = "a config creates the Trainer, so its arguments are unknown"
            fix = "in the config: _target_: unitrain.UnifiedTrainer, framework: lightning, and native: for the rest"
            yield person(RULE.name, source.start(call), reason, fix)


FIXER = Fixer((RULE,), find)
