"""Hooks whose name or parameters newer releases of Lightning changed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import libcst as cst

from unitrain.migrate.findings import Edit, Finding, Fixer, Goal, Rule, Severity, person
from unitrain_lightning.fixers.names import (
    called_by_hand,
    end_of,
    is_callback,
    is_data,
    is_module,
    method,
    methods_of,
    parameters,
    short,
    uses_of,
)
from unitrain_lightning.removed_hooks import BY_HAND, GONE, RENAMES
from unitrain_lightning.removed_hooks import PARAMETERS as PARAMETERS_OF

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from unitrain.migrate.source import Source

RENAMED = Rule(
    "lightning-hooks",
    "on_epoch_end, on_batch_end and other removed hooks become the on_train_... ones",
    Severity.BEHAVIOUR,
)
PARAMETERS = Rule("lightning-hook-parameters", "parameters that hooks no longer receive are dropped")
OPTIMIZER_STEP = Rule(
    "lightning-optimizer-step", "optimizer_step gets (epoch, batch_idx, optimizer, optimizer_closure)"
)
OPTIMIZER_IDX = Rule(
    "lightning-optimizer-idx", "optimizer_idx was removed; to fix by hand with manual optimization", Severity.PERSON
)
DECORATOR = Rule("lightning-data-loader", "@pl.data_loader goes")

RENAMED_HOOKS = frozenset(RENAMES)
_MORE = {
    "on_batch_start": ("batch", "batch_idx"),
    "on_batch_end": ("outputs", "batch", "batch_idx"),
}
_STEP_PARAMETERS, _IDX = 5, 4
"""The current parameters of optimizer_step (self, epoch, batch_idx, optimizer, optimizer_closure), and where
``optimizer_idx`` was."""


def find(source: Source, goal: Goal) -> Iterator[Finding]:
    """Find the old hooks of modules and callbacks."""
    del goal
    for owner in source.all(cst.ClassDef):
        callback, module = is_callback(source, owner), is_module(source, owner)
        if not (callback or module or is_data(source, owner)):
            continue
        for function in methods_of(owner):
            yield from _decorated(source, function)
            yield from _renamed(source, owner, function, callback=callback)
            yield from _parameters(source, function, callback=callback)
            if module:
                yield from _optimizer_idx(source, function)
                yield from _optimizer_step(source, function)


def _decorated(source: Source, function: cst.FunctionDef) -> Iterator[Finding]:
    for one in function.decorators:
        if short(source.name(one.decorator)).rpartition(".")[2] == "data_loader":
            start = source.start(one)
            edit = Edit(source.line_start(start), source.next_line(source.end(one) - 1), "")
            yield Finding(DECORATOR.name, start, "data_loader was removed in 1.0", "left out", (edit,), needed=True)


def _renamed(source: Source, owner: cst.ClassDef, function: cst.FunctionDef, *, callback: bool) -> Iterator[Finding]:
    old = function.name.value
    new = RENAMES.get(old)
    if new is None:
        return
    start, reason = source.start(function.name), f"Lightning 2 no longer calls the hook {old}"
    if old in BY_HAND or method(owner, new) is not None or called_by_hand(source, old, function):
        yield person(RENAMED.name, start, reason, f"put it into {new} by hand")
        return
    inside = [one.attr for one in source.all(cst.Attribute, function) if one.attr.value == old]
    edits = [Edit(source.start(one), source.end(one), new) for one in (function.name, *inside)]
    had, more = len(parameters(function)) - 1 - 2 * callback, _MORE.get(old, ())
    if had == 0 and more:
        place = end_of(source, parameters(function)[-1])
        edits.append(Edit(place, place, "".join(f", {name}" for name in more)))
    elif old == "on_batch_end" and had:
        yield person(RENAMED.name, start, reason, f"{new}(self, outputs, batch, batch_idx)")
        return
    yield Finding(RENAMED.name, start, reason, f"{new}, which then runs", tuple(edits))


def _parameters(source: Source, function: cst.FunctionDef, *, callback: bool) -> Iterator[Finding]:
    name = function.name.value
    kept = PARAMETERS_OF.get(name)
    given = parameters(function)
    if kept is None or function.params.star_kwarg is not None:
        return
    own = 1 + 2 * callback + kept
    for one in [one for one in given[own:] if one.default is None]:
        reason = f"{name} no longer receives {one.name.value}"
        used = uses_of(source, function, one.name.value)
        if called_by_hand(source, name, function):
            yield person(PARAMETERS.name, source.start(one), f"{reason}, but the file calls it", "drop it by hand")
        elif used and one.name.value == "dataloader_idx":
            place = end_of(source, one)
            edits = (Edit(place, place, " = 0" if one.annotation is not None else "=0"),)
            yield Finding(PARAMETERS.name, source.start(one), reason, "dataloader_idx=0", edits, needed=True)
        elif used:
            yield person(PARAMETERS.name, source.start(one), reason, "keep it on self by hand")
        else:
            before = given[given.index(one) - 1]
            edits = (Edit(end_of(source, before), end_of(source, one), ""),)
            yield Finding(PARAMETERS.name, source.start(one), reason, "left out", edits, needed=True)


def _optimizer_idx(source: Source, function: cst.FunctionDef) -> Iterator[Finding]:
    given = {one.name.value: one for one in parameters(function)}
    if function.name.value in ("training_step", "training_step_end") and "optimizer_idx" in given:
        reason = "training_step is no longer called once per optimizer since 2.0"
        fix = "self.automatic_optimization = False, and step each optimizer of self.optimizers() by hand"
        yield person(OPTIMIZER_IDX.name, source.start(given["optimizer_idx"]), reason, fix)


def _optimizer_step(source: Source, function: cst.FunctionDef) -> Iterator[Finding]:
    given = parameters(function)
    gone = [
        (index, one)
        for index, one in enumerate(given)
        if one.name.value in GONE
        or (len(given) > _STEP_PARAMETERS and index == _IDX and "closure" not in one.name.value)
    ]
    if function.name.value != "optimizer_step" or not gone:
        return
    start, reason = source.start(function.name), f"optimizer_step no longer receives {gone[0][1].name.value}"
    names = {one.name.value for _, one in gone}
    handed_on = _handed_on(source, function, names)
    inside = {source.start(one) for arguments in handed_on for one in arguments}
    for name in sorted(names):
        if any(source.start(source.parent(one)) not in inside for one in uses_of(source, function, name)):
            yield person(OPTIMIZER_STEP.name, start, f"{reason}, and its value is used", f"rewrite it without {name}")
            return
    edits = [_cut(source, given, index) for index, _ in gone]
    edits += [edit for arguments in handed_on for edit in _cut_arguments(source, arguments)]
    fix = "(self, epoch, batch_idx, optimizer, optimizer_closure)"
    yield Finding(OPTIMIZER_STEP.name, start, reason, fix, tuple(edits), needed=True)


def _handed_on(source: Source, function: cst.FunctionDef, names: set[str]) -> list[list[cst.Arg]]:
    """Return the arguments that the calls of the base's optimizer_step hand on and that go."""
    calls = [
        call
        for call in source.all(cst.Call, function.body)
        if isinstance(call.func, cst.Attribute) and call.func.attr.value == "optimizer_step"
    ]
    return [[one for one in call.args if _names(one, names)] for call in calls]


def _names(given: cst.Arg, names: set[str]) -> bool:
    word = given.keyword is not None and given.keyword.value in GONE
    return word or (isinstance(given.value, cst.Name) and given.value.value in names)


def _cut(source: Source, given: Sequence[cst.CSTNode], index: int) -> Edit:
    return Edit(end_of(source, given[index - 1]), end_of(source, given[index]), "")


def _cut_arguments(source: Source, gone: Sequence[cst.Arg]) -> list[Edit]:
    edits = []
    for one in gone:
        call = source.parent(one)
        assert isinstance(call, cst.Call)  # noqa: S101 - for the type checker
        index = list(call.args).index(one)
        if index:
            edits.append(_cut(source, call.args, index))
        elif len(call.args) > 1:
            edits.append(Edit(source.start(one), source.start(call.args[1]), ""))
    return edits


FIXER = Fixer((RENAMED, PARAMETERS, OPTIMIZER_STEP, OPTIMIZER_IDX, DECORATOR), find)
