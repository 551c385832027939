"""A way into the Trainer that 2.0 removed: resume_from_checkpoint."""

from __future__ import annotations

from typing import TYPE_CHECKING

import libcst as cst

from unitrain.migrate.arguments import arguments, dropped
from unitrain.migrate.findings import Edit, Finding, Fixer, Goal, Rule, person
from unitrain.migrate.variables import held_by, uses
from unitrain_lightning.fixers.names import TRAINER, calls

if TYPE_CHECKING:
    from collections.abc import Iterator

    from unitrain.migrate.source import Source

RESUME = Rule("lightning-resume", "resume_from_checkpoint= becomes fit(ckpt_path=)")


def find(source: Source, goal: Goal) -> Iterator[Finding]:
    """Find ``Trainer(resume_from_checkpoint=)``, and hand it to the fits of that Trainer."""
    del goal
    for call in calls(source, TRAINER):
        for given in arguments(source, call):
            if given.keyword == "resume_from_checkpoint":
                yield _resumed(source, call, given.index)


def _resumed(source: Source, call: cst.Call, index: int) -> Finding:
    given = arguments(source, call)[index]
    start, reason = source.start(given.node), "resume_from_checkpoint= was removed in 2.0"
    drop = dropped(source, call, given)
    if given.value is None:
        return Finding(RESUME.name, start, reason, "left out", (drop,), needed=True)
    fits = _fits(source, call)
    same = all(source.around(fit, cst.FunctionDef) is source.around(call, cst.FunctionDef) for fit in fits)
    named = any(one.keyword == "ckpt_path" for fit in fits for one in arguments(source, fit))
    if not fits or not same or named:
        return person(RESUME.name, start, reason, f"trainer.fit(..., ckpt_path={given.text})")
    edits = [drop]
    for fit in fits:
        place = source.end(fit.args[-1]) if fit.args else source.end(fit) - 1
        edits.append(Edit(place, place, f"{', ' if fit.args else ''}ckpt_path={given.text}"))
    return Finding(RESUME.name, start, reason, f"fit(ckpt_path={given.text})", tuple(edits), needed=True)


def _fits(source: Source, call: cst.Call) -> list[cst.Call]:
    """Return the calls of ``fit`` on the Trainer that a call makes."""
    variable = held_by(source, call)
    found = []
    for use in [call] if variable is None else uses(source, variable):
        method = source.parent(use)
        around = source.parent(method)
        if isinstance(method, cst.Attribute) and method.attr.value == "fit" and isinstance(around, cst.Call):
            found.append(around)
    return found


FIXER = Fixer((RESUME,), find)
