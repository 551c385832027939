"""Suggestions that Optuna 3 deprecated, and Optuna 6 removes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import libcst as cst

from unitrain.migrate.arguments import Layout, Piece, arguments, renamed
from unitrain.migrate.findings import Edit, Finding, Fixer, Goal, Rule, person

if TYPE_CHECKING:
    from collections.abc import Iterator

    from unitrain.migrate.arguments import Argument
    from unitrain.migrate.source import Source

RULE = Rule("optuna-suggest", "suggest_uniform, suggest_loguniform and suggest_discrete_uniform become suggest_float")

_NEW: Final = "suggest_float"
_MORE: Final = {"suggest_uniform": "", "suggest_loguniform": ", log=True", "suggest_discrete_uniform": ", step=q"}
"""What the new method is told besides, by the old one."""
_STEP_AT = 3
"""Where the old method took its step."""


def find(source: Source, goal: Goal) -> Iterator[Finding]:
    """Find the old methods of a trial: any object's, unless the file defines or imports the name itself."""
    del goal
    for node in source.all(cst.Attribute):
        old = node.attr.value
        if old in _MORE and not source.functions(old) and not source.name(node):
            yield _found(source, node, old)


def _found(source: Source, node: cst.Attribute, old: str) -> Finding:
    call, start = source.parent(node), source.start(node)
    reason = f"{old} is deprecated since Optuna 3 and goes in Optuna 6"
    fix = f"{_NEW}(name, low, high{_MORE[old]})"
    edits = _edits(source, call, old) if isinstance(call, cst.Call) and call.func is node else None
    if edits is None:
        return person(RULE.name, start, reason, fix)
    name = Edit(source.start(node.attr), source.end(node.attr), _NEW)
    return Finding(RULE.name, start, reason, fix, (name, *edits))


def _edits(source: Source, call: cst.Call, old: str) -> list[Edit] | None:
    """Return the edits of the arguments; None if the step cannot be found."""
    if old == "suggest_loguniform":
        layout = Layout(source, call)
        return [layout.edit([*layout.pieces, Piece("log=True")])]
    if old == "suggest_discrete_uniform":
        step = _step(arguments(source, call))
        return None if step is None else [renamed(source, step, "step")]
    return []


def _step(given: list[Argument]) -> Argument | None:
    named = next((one for one in given if one.keyword == "q"), None)
    if named is not None or any(one.star for one in given):
        return named
    return next((one for one in given if one.index == _STEP_AT and not one.keyword), None)


FIXER = Fixer((RULE,), find)
