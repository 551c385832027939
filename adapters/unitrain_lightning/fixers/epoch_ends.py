"""``training_epoch_end(self, outputs)`` and its kind, which 2.0 removed: the outputs are kept on the module."""

from __future__ import annotations

from typing import TYPE_CHECKING

import libcst as cst

from unitrain.migrate.findings import Edit, Finding, Fixer, Goal, Rule, Severity, person
from unitrain.migrate.rewriting import drop_imported
from unitrain_lightning.fixers.hooks import RENAMED, RENAMED_HOOKS
from unitrain_lightning.fixers.names import (
    called_by_hand,
    end_of,
    is_callback,
    is_module,
    method,
    methods_of,
    parameters,
    short,
    uses_of,
)
from unitrain_lightning.removed_hooks import EPOCH_ENDS, EPOCH_ENDS_OF_0, EpochEnd

if TYPE_CHECKING:
    from collections.abc import Iterator

    from unitrain.migrate.source import Source

RULE = Rule(
    "lightning-epoch-end", "training_epoch_end(self, outputs) and similar hooks become on_train_epoch_end(self)"
)
LOGGED = Rule(
    "lightning-returned-log", "values returned under 'log' are not logged since 1.0; reported only", Severity.NOTE
)
OLD = Rule(
    "lightning-old-epoch-end",
    "training_end(self, outputs) and similar hooks of 0.x, which are no longer called",
    Severity.BEHAVIOUR,
)
_HOOKS = {**EPOCH_ENDS, **EPOCH_ENDS_OF_0}
_BY_HAND = "keep the outputs on self by hand: https://lightning.ai/docs/pytorch/stable/upgrade/from_1_9.html"


def find(source: Source, goal: Goal) -> Iterator[Finding]:
    """Find the removed hooks in the classes of the file."""
    for owner in source.all(cst.ClassDef):
        if is_callback(source, owner):
            continue
        renamed = RENAMED_HOOKS & {one.name.value for one in methods_of(owner)}
        if RENAMED.name in goal.behaviour and renamed and is_module(source, owner):
            continue  # they get the names of hooks that may be added here; the next round sees them
        for function in methods_of(owner):
            if function.name.value in _HOOKS and _is_hook(source, owner, function):
                yield _finding(source, owner, function)
        yield from _returned(source, owner)


def _is_hook(source: Source, owner: cst.ClassDef, function: cst.FunctionDef) -> bool:
    return function.name.value.endswith("_epoch_end") or is_module(source, owner)


def _finding(source: Source, owner: cst.ClassDef, function: cst.FunctionDef) -> Finding:
    name, start = function.name.value, source.start(function.name)
    stage, of_0 = _HOOKS[name], name in EPOCH_ENDS_OF_0
    rule, since = (OLD, "is no longer called since 1.0") if of_0 else (RULE, "was removed in 2.0")
    reason = f"{name}(self, outputs) {since}"
    refused = _refusal(source, owner, function, stage)
    if refused:
        return person(rule.name, start, f"{reason}; {refused}", _BY_HAND)
    edits = [
        Edit(start, source.end(function.name), f"on_{stage.hook}_epoch_end"),
        *_signature(source, function),
        *_prologue(source, owner, function, stage),
    ]
    fix = f"on_{stage.hook}_epoch_end(self), with the outputs in self.{stage.outputs}"
    return Finding(rule.name, start, reason, fix, tuple(edits), needed=not of_0)


def _refusal(source: Source, owner: cst.ClassDef, function: cst.FunctionDef, stage: EpochEnd) -> str:
    """Return why the hook cannot be rewritten; empty if it can."""
    step = method(owner, {"train": "training_step"}.get(stage.hook, f"{stage.hook}_step"))
    names = [] if step is None else [one.name.value for one in parameters(step)]
    own = function.name.value
    super_calls = [one for one in source.all(cst.Attribute, function) if one.attr.value == own]
    base_hooks = {f"on_{stage.hook}_epoch_start", f"on_{stage.hook}_batch_end"}
    inherited = [one for one in _local_bases(source, owner) if any(method(one, hook) for hook in base_hooks)]
    reasons = (
        (len(parameters(function)) != 2, "its parameters are not (self, outputs)"),  # noqa: PLR2004 - self and outputs
        (method(owner, f"on_{stage.hook}_epoch_end") is not None, f"there is an on_{stage.hook}_epoch_end already"),
        ("dataloader_idx" in names, "with several loaders, its outputs were a list per loader"),
        ("optimizer_idx" in names, "with several optimizers, its outputs were a list per optimizer"),
        (bool(super_calls), "it calls the base class method"),
        (called_by_hand(source, own, function), "the file calls it by hand"),
        (bool(inherited), "a base class already has the new hooks"),
        (isinstance(function.body, cst.SimpleStatementSuite), "its body is on the same line"),
    )
    return next((reason for refused, reason in reasons if refused), "")


def _local_bases(source: Source, owner: cst.ClassDef) -> list[cst.ClassDef]:
    names = {one.value.value for one in owner.bases if isinstance(one.value, cst.Name)}
    return [one for one in source.all(cst.ClassDef) if one.name.value in names]


def _signature(source: Source, function: cst.FunctionDef) -> list[Edit]:
    """Return the edits that drop ``outputs``, and the import of its type if that was its only use."""
    this, outputs = parameters(function)
    edits = [Edit(end_of(source, this), end_of(source, outputs), "")]
    if outputs.annotation is not None:
        named = outputs.annotation.annotation
        if short(source.name(named)).endswith("EPOCH_OUTPUT") and isinstance(named, cst.Name):
            gone = [
                source.start(one)
                for one in source.all(cst.Name)
                if one.value == named.value and _annotates(source, one)
            ]
            edits += drop_imported(source, named.value, gone)
    return edits


def _annotates(source: Source, node: cst.Name) -> bool:
    around = source.parent(node)
    function = source.around(node, cst.FunctionDef)
    return isinstance(around, cst.Annotation) and function is not None and function.name.value in _HOOKS


def _prologue(source: Source, owner: cst.ClassDef, function: cst.FunctionDef, stage: EpochEnd) -> list[Edit]:
    """Return the edits that keep the outputs, and bring them back into the hook."""
    outputs = parameters(function)[1].name.value
    edits = []
    if uses_of(source, function, outputs):
        edits.append(_first(source, function, f"{outputs} = self.{stage.outputs}"))
    start = method(owner, f"on_{stage.hook}_epoch_start")
    end = method(owner, f"on_{stage.hook}_batch_end")
    added: list[tuple[str, tuple[str, ...]]] = []
    empty = f"self.{stage.outputs} = []"
    if start is not None:
        edits.append(_first(source, start, empty))
    else:
        added.append((f"def on_{stage.hook}_epoch_start(self):", (empty,)))
    if end is not None:
        given = parameters(end)[1].name.value
        body = (_kept(stage, given), f"{source.step}self.{stage.outputs}.append({given})")
        edits.append(_first(source, end, *body))
    else:
        body = (_kept(stage, "outputs"), f"{source.step}self.{stage.outputs}.append(outputs)")
        added.append((f"def on_{stage.hook}_batch_end(self, outputs, batch, batch_idx):", body))
    first: cst.CSTNode = function.decorators[0] if function.decorators else function
    place = source.start(first)
    edits += _handed_up(source, owner, stage, [head for head, _ in added])
    indent, deeper = source.indent(place), _inner(source, function)
    text = "".join(f"{head}\n" + "".join(f"{deeper}{line}\n" for line in body) + f"\n{indent}" for head, body in added)
    return [*edits, *([Edit(place, place, text)] if text else [])]


def _kept(stage: EpochEnd, output: str) -> str:
    """Return the line that asks whether an output was handed on."""
    return f"if {output} is not None:" if stage.keeps_empty else f"if {output}:"


def _handed_up(source: Source, owner: cst.ClassDef, stage: EpochEnd, added: list[str]) -> list[Edit]:
    """Return the edits by which the classes of the file that extend ``owner`` call the hooks that are added to it."""
    edits = []
    for heir in _local_heirs(source, owner):
        for name in (f"on_{stage.hook}_epoch_start", f"on_{stage.hook}_batch_end"):
            hook = method(heir, name)
            if hook is None or not any(name in head for head in added):
                continue
            given = ", ".join(one.name.value for one in parameters(hook)[1:])
            if not any(source.code(one.func) == f"super().{name}" for one in source.all(cst.Call, hook)):
                edits.append(_first(source, hook, f"super().{name}({given})"))
    return edits


def _local_heirs(source: Source, owner: cst.ClassDef) -> list[cst.ClassDef]:
    """Return the classes of the file that extend a class, at first or at further hand."""
    return [one for one in source.all(cst.ClassDef) if one is not owner and owner in _ancestors(source, one)]


def _ancestors(source: Source, owner: cst.ClassDef) -> list[cst.ClassDef]:
    found = [owner]
    for one in found:
        found += [base for base in _local_bases(source, one) if base not in found]
    return found[1:]


def _inner(source: Source, function: cst.FunctionDef) -> str:
    return source.indent(source.start(function.body.body[0]))


def _first(source: Source, function: cst.FunctionDef, *lines: str) -> Edit:
    """Return the edit that puts lines at the beginning of a function, after its docstring."""
    body = list(function.body.body)
    documented = function.get_docstring() is not None
    indent = _inner(source, function)
    if documented and len(body) == 1:
        place = source.line_end(source.end(body[0]) - 1)
        return Edit(place, place, "".join(f"\n{indent}{line}" for line in lines))
    place = source.start(body[1 if documented else 0])
    return Edit(place, place, "".join(f"{line}\n{indent}" for line in lines))


def _returned(source: Source, owner: cst.ClassDef) -> Iterator[Finding]:
    """Find returned dicts with the keys that 0.x logged from."""
    if not is_module(source, owner):
        return
    hooks = {*_HOOKS, "training_step", "validation_step", "test_step"}
    for one in source.all(cst.Return, owner):
        function = source.around(one, cst.FunctionDef)
        if function is None or function.name.value not in hooks or not isinstance(one.value, cst.Dict):
            continue
        keys = {_key(element) for element in one.value.elements}
        old = sorted(keys & {"log", "progress_bar"})
        if old:
            reason = f"{function.name.value} returns {old[0]!r}, which Lightning ignores since 1.0"
            yield Finding(LOGGED.name, source.start(one), reason, "self.log_dict(...)", severity=Severity.NOTE)


def _key(element: cst.BaseDictElement) -> str:
    """Return the key of an element if it is written out, else nothing."""
    key = element.key if isinstance(element, cst.DictElement) else None
    return str(key.raw_value) if isinstance(key, cst.SimpleString) else ""


FIXER = Fixer((RULE, OLD, LOGGED), find)
