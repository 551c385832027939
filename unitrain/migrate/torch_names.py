"""What torch renamed and scripts of both frameworks use."""

from __future__ import annotations

from typing import TYPE_CHECKING

import libcst as cst

from unitrain.migrate.findings import Edit, Finding, Fixer, Goal, Rule, Severity

if TYPE_CHECKING:
    from collections.abc import Iterator

    from unitrain.migrate.source import Source

RULE = Rule("torch-amp", "torch.cuda.amp.autocast and GradScaler become those of torch.amp")
_OLD = "torch.cuda.amp"
_NAMES = {"autocast", "GradScaler"}
_OLD_NAMES = {f"{_OLD}.{prefix}{name}" for name in _NAMES for prefix in ("", "autocast_mode.", "grad_scaler.")}


def find(source: Source, goal: Goal) -> Iterator[Finding]:
    """Find calls of the old names; they take the device that the old name stood for."""
    del goal
    calls = [one for one in source.all(cst.Call) if source.name(one.func) in _OLD_NAMES]
    if not calls:
        return
    imports = [one for one in source.all(cst.ImportFrom) if one.module is not None and source.code(one.module) == _OLD]
    names = {
        alias.evaluated_name for one in imports if not isinstance(one.names, cst.ImportStar) for alias in one.names
    }
    if not names <= _NAMES:
        return
    edits: list[Edit] = []
    for one in imports:
        assert one.module is not None  # noqa: S101 - for the type checker
        edits.append(Edit(source.start(one.module), source.end(one.module), "torch.amp"))
    for call in calls:
        edits += _call(source, call)
    reason = "torch.cuda.amp is deprecated since torch 2.4"
    start = source.start(calls[0])
    yield Finding(RULE.name, start, reason, 'torch.amp, with "cuda"', tuple(edits), severity=Severity.NOTE)


def _call(source: Source, call: cst.Call) -> list[Edit]:
    place = source.start(call.args[0]) if call.args else source.end(call) - 1
    edits = [Edit(place, place, '"cuda", ' if call.args else '"cuda"')]
    if isinstance(call.func, cst.Attribute):
        written = f"torch.amp.{call.func.attr.value}" if source.code(call.func).startswith("torch.") else ""
        edits += [Edit(source.start(call.func), source.end(call.func), written)] if written else []
    # its second argument was the dtype, and is so in the new one: the device came in before all
    return edits


FIXER = Fixer((RULE,), find)
