"""Torch names that were renamed and that scripts of both frameworks use."""

from __future__ import annotations

from typing import TYPE_CHECKING

import libcst as cst

from unitrain.migrate.findings import Edit, Finding, Fixer, Goal, Rule

if TYPE_CHECKING:
    from collections.abc import Iterator

    from unitrain.migrate.source import Source

RULE = Rule("torch-amp", "torch.cuda.amp.autocast and GradScaler become those of torch.amp")
_OLD = "torch.cuda.amp"
_NAMES = {"autocast", "GradScaler"}
_OLD_NAMES = {f"{_OLD}.{prefix}{name}" for name in _NAMES for prefix in ("", "autocast_mode.", "grad_scaler.")}


_AUTOCAST = ("enabled", "dtype", "cache_enabled")
"""The parameters of the old autocast, in order."""


def find(source: Source, goal: Goal) -> Iterator[Finding]:
    """Find calls of the old names; they take the device that the old name stood for."""
    del goal
    imports = [one for one in source.all(cst.ImportFrom) if one.module is not None and source.code(one.module) == _OLD]
    plain = [one.names for one in imports if not isinstance(one.names, cst.ImportStar)]
    names = {alias.evaluated_name for aliases in plain for alias in aliases}
    calls = [one for one in source.all(cst.Call) if source.name(one.func) in _OLD_NAMES]
    calls = [one for one in calls if isinstance(one.func, cst.Name) or source.code(one.func).startswith(_OLD)]
    by_name = sum(isinstance(one.func, cst.Name) for one in calls)
    starred = any(one.star for call in calls for one in call.args)
    if not calls or not names <= _NAMES or starred or _otherwise_used(source, calls):
        return
    edits = [edit for call in calls for edit in _call(source, call)]
    for one in imports if by_name else ():
        assert one.module is not None  # noqa: S101 - for the type checker
        edits.append(Edit(source.start(one.module), source.end(one.module), "torch.amp"))
    reason = "torch.cuda.amp is deprecated since torch 2.4"
    start = source.start(calls[0])
    yield Finding(RULE.name, start, reason, 'torch.amp, with "cuda"', tuple(edits))


def _otherwise_used(source: Source, calls: list[cst.Call]) -> bool:
    """Return whether an old name is also asked for or passed on: there the new one is another object."""
    called = {source.start(call.func) for call in calls}
    attributes = source.all(cst.Attribute)
    last_parts = {id(one.attr) for one in attributes}  # an import may give the same name a meaning of its own
    uses: list[cst.CSTNode] = [*attributes, *(one for one in source.all(cst.Name) if id(one) not in last_parts)]
    return any(
        source.name(one) in _OLD_NAMES
        and source.start(one) not in called
        and source.around(one, cst.Import, cst.ImportFrom) is None
        for one in uses
    )


def _call(source: Source, call: cst.Call) -> list[Edit]:
    place = source.start(call.args[0]) if call.args else source.end(call) - 1
    edits = [Edit(place, place, '"cuda", ' if call.args else '"cuda"')]
    last = source.name(call.func).rpartition(".")[2]
    if isinstance(call.func, cst.Attribute):
        edits.append(Edit(source.start(call.func), source.end(call.func), f"torch.amp.{last}"))
    # the new autocast takes the dtype before all else, the new GradScaler has the old order
    for name, given in zip(_AUTOCAST if last == "autocast" else (), call.args, strict=False):
        if given.keyword is None:
            edits.append(Edit(source.start(given), source.start(given), f"{name}="))
    return edits


FIXER = Fixer((RULE,), find)
