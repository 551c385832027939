"""Names of Ignite that moved out of ``ignite.contrib``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import libcst as cst

from unitrain.migrate.findings import Edit, Finding, Fixer, Goal, Rule, Severity, person

if TYPE_CHECKING:
    from collections.abc import Iterator

    from unitrain.migrate.source import Source

CONTRIB = Rule(
    "ignite-contrib", "ignite.contrib.handlers and ignite.contrib.metrics moved to ignite.handlers and .metrics"
)
GONE = Rule("ignite-gone", "names that Ignite removed are reported", Severity.PERSON)

UTILS = Rule("ignite-utils", "ignite._utils became ignite.utils")

_PRIVATE = "ignite._utils"
_PUBLIC = frozenset({"convert_tensor", "apply_to_tensor", "apply_to_type", "to_onehot"})
_CONTRIB = "ignite.contrib."
_MOVED = ("handlers", "metrics")
"""The parts of ``ignite.contrib`` that moved; ``ignite.contrib.engines`` did not."""

_GONE = {
    "handlers.custom_events.CustomPeriodicEvent": "Events.ITERATION_COMPLETED(every=n)",
    "handlers.CustomPeriodicEvent": "Events.ITERATION_COMPLETED(every=n)",
    "handlers.trains_logger": "ignite.handlers.clearml_logger",
    "handlers.TrainsLogger": "ignite.handlers.ClearMLLogger",
}
_NEVER = {
    "ignite.metrics.F1": "Fbeta(beta=1)",
    "ignite.metrics.F1Score": "Fbeta(beta=1)",
    "ignite.metrics.BinaryAccuracy": "Accuracy()",
    "ignite.metrics.CategoricalAccuracy": "Accuracy()",
    "ignite.metrics.EpochMetricWarning": "remove it",
    "ignite._utils.to_variable": "remove it: tensors are variables",
}


def find(source: Source, goal: Goal) -> Iterator[Finding]:
    """Find old names where they are imported, and where they are written in full."""
    del goal
    for node in source.all(cst.ImportFrom):
        yield from _from(source, node)
    for one in source.all(cst.Import):
        for alias in one.names:
            if alias.asname is not None:
                yield from _module(source, alias.name)
    for written in source.all(cst.Attribute):
        yield from _gone(source, written)
        yield from _written(source, written)
    yield from _passed_on(source)


def _from(source: Source, node: cst.ImportFrom) -> Iterator[Finding]:
    if node.module is None or node.relative:
        return
    module = source.code(node.module)
    if isinstance(node.names, cst.ImportStar):
        yield from _starred(source, node, module)
        return
    names = [one.evaluated_name for one in node.names]
    for name in names:
        fix = _NEVER.get(f"{module}.{name}") or _GONE.get(f"{module}.{name}".removeprefix(_CONTRIB))
        if fix:
            yield person(GONE.name, source.start(node), f"{module}.{name} is not in Ignite", fix)
            return
    if module == _CONTRIB[:-1]:
        yield from _from_contrib(source, node, names)
        return
    yield from _module(source, node.module, names)


def _starred(source: Source, node: cst.ImportFrom, module: str) -> Iterator[Finding]:
    """Find ``from ignite.contrib.handlers import *``; from its new place, it would bind more names."""
    if module.startswith(_CONTRIB) and module.removeprefix(_CONTRIB).partition(".")[0] in _MOVED:
        reason = f"{module} will be removed in 0.6, but * brings more names from its new place"
        fix = "left as it is; import what is used by its name"
        yield Finding(CONTRIB.name, source.start(node), reason, fix, severity=Severity.NOTE)


def _from_contrib(source: Source, node: cst.ImportFrom, names: list[str]) -> Iterator[Finding]:
    """Find ``from ignite.contrib import handlers``."""
    assert node.module is not None  # noqa: S101 - for the type checker
    reason = "ignite.contrib will be removed in 0.6"
    if names and set(names) <= set(_MOVED):
        edit = Edit(source.start(node.module), source.end(node.module), "ignite")
        yield Finding(CONTRIB.name, source.start(node), reason, "from ignite import ...", (edit,))
    elif set(names) & set(_MOVED):
        yield person(CONTRIB.name, source.start(node), reason, "import handlers and metrics from ignite")


def _module(source: Source, node: cst.BaseExpression, names: list[str] | None = None) -> Iterator[Finding]:
    """Find a module of ``ignite.contrib`` where it is imported."""
    full = source.code(node)
    if full == _PRIVATE and names and set(names) <= _PUBLIC:
        edit = Edit(source.start(node), source.end(node), "ignite.utils")
        reason = f"{_PRIVATE} is private, and its names are in ignite.utils since 0.3"
        yield Finding(UTILS.name, source.start(node), reason, edit.text, (edit,))
    inner = full.removeprefix(_CONTRIB)
    if inner == full or inner.partition(".")[0] not in _MOVED:
        return
    start = source.start(node)
    if inner in _GONE:
        yield person(GONE.name, start, f"{full} is not in Ignite", _GONE[inner])
        return
    new = f"ignite.{inner}"
    if inner == "handlers.base_logger" and "global_step_from_engine" in (names or ()):
        new = "ignite.handlers"
    edit = Edit(start, source.end(node), new)
    yield Finding(CONTRIB.name, start, "ignite.contrib will be removed in 0.6", new, (edit,))


# --- what is written in full ------------------------------------------------------------------------------------------


def _gone(source: Source, node: cst.Attribute) -> Iterator[Finding]:
    """Find a removed name that is read off its module."""
    name = source.name(node)
    fix = _NEVER.get(name) or _GONE.get(name.removeprefix(_CONTRIB).removeprefix("ignite."))
    if fix and source.around(node, cst.Import, cst.ImportFrom) is None:
        yield person(GONE.name, source.start(node), f"{name} is not in Ignite", fix)


def _written(source: Source, node: cst.Attribute) -> Iterator[Finding]:
    """Find ``ignite.contrib.handlers`` in an expression, whatever ``ignite`` and ``contrib`` are called in the file."""
    full = source.name(node)
    part = full.removeprefix(_CONTRIB)
    if full == part or part not in _MOVED or source.around(node, cst.ImportFrom) is not None:
        return
    start, reason = source.start(node), "ignite.contrib will be removed in 0.6"
    if isinstance(node.value, cst.Attribute):
        edit = Edit(start, source.end(node), f"{source.code(node.value.value)}.{part}")
        yield Finding(CONTRIB.name, start, reason, edit.text, (edit,))
        return
    if _is_hidden(source, node, part):
        fix = f"rename it, then: from ignite import {part}"
        yield person(CONTRIB.name, start, f"{reason}, and a function uses the name {part!r} for something else", fix)
        return
    edit = Edit(start, source.end(node), part)
    yield Finding(CONTRIB.name, start, reason, f"from ignite import {part}", (edit,), (f"ignite:{part}",))


def _is_hidden(source: Source, node: cst.CSTNode, name: str) -> bool:
    """Return whether a name of the module's means something else where a node is."""
    scope, top = source.scope(node), source.scope(source.module)
    return scope is not None and any(one.scope is not top for one in scope[name])


def _passed_on(source: Source) -> Iterator[Finding]:
    """Find ``ignite.contrib`` as a value: its parts may be read off it, which no import loads any more."""
    for node in [*source.all(cst.Attribute), *source.all(cst.Name)]:
        around = source.parent(node)
        read = isinstance(around, cst.Attribute)
        if not read and source.name(node) == _CONTRIB[:-1] and source.around(node, cst.Import, cst.ImportFrom) is None:
            reason = "ignite.contrib is passed on, and its handlers and metrics moved to ignite"
            yield person(CONTRIB.name, source.start(node), reason, "pass on ignite.handlers or ignite.metrics")
    for one in source.all(cst.Attribute) if any(source.starred(("ignite",))) else ():
        if source.code(one) in {f"contrib.{part}" for part in _MOVED} and not source.name(one):
            reason = "contrib may be one of *, and its handlers and metrics moved to ignite"
            yield person(CONTRIB.name, source.start(one), reason, f"from ignite import {one.attr.value}")


FIXER = Fixer((CONTRIB, UTILS, GONE), find)
