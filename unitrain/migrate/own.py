"""Scripts that already use unitrain: the backend argument and moved names."""

from __future__ import annotations

from typing import TYPE_CHECKING

import libcst as cst

from unitrain.migrate.arguments import UNKNOWN, arguments
from unitrain.migrate.findings import UNITRAIN, Edit, Family, Finding, Fixer, Goal, Rule, person
from unitrain.migrate.own_names import FIXERS, TRAINERS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from unitrain.migrate.source import Source

RULE = Rule("unitrain-framework", "UnifiedTrainer(framework=...) selects the backend given by --to")


def find(source: Source, goal: Goal) -> Iterator[Finding]:
    """Find trainers that name another backend than the one asked for."""
    if goal.to == UNITRAIN:
        return
    for call in source.all(cst.Call):
        if source.name(call.func) in TRAINERS:
            yield from _named(source, call, goal)


def _named(source: Source, call: cst.Call, goal: Goal) -> Iterator[Finding]:
    given = arguments(source, call)
    word = next((one for one in given if one.keyword == "framework"), given[0] if given else None)
    start = source.start(call)
    if word is None or word.star or (not word.keyword and word.index):
        yield person(RULE.name, start, "the backend is unknown", f'framework="{goal.to}"')
    elif word.value is UNKNOWN:
        yield person(RULE.name, start, f"the backend is the value of {word.text}", f'framework="{goal.to}"')
    elif word.value != goal.to:
        edit = Edit(source.start(word.node.value), source.end(word.node.value), f'"{goal.to}"')
        yield Finding(RULE.name, start, f"it runs on {word.value}", f'framework="{goal.to}"', (edit,))


FAMILY = Family("", (UNITRAIN,), upgrades=FIXERS, conversions=(Fixer((RULE,), find),))
