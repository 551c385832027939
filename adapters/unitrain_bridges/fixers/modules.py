"""What a backend other than Lightning refuses of a Lightning script, told from its source."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import libcst as cst

from unitrain.migrate.arguments import UNKNOWN, Argument, arguments
from unitrain.migrate.findings import Finding, Fixer, Goal, Rule, Severity, person
from unitrain_bridges.fixers.variables import in_force, set_in
from unitrain_bridges.lightning.supported import ARGUMENTS, ELSEWHERE, ENVIRONMENT, PLUGINS, STRATEGIES, TRAINER
from unitrain_lightning.fixers import keywords
from unitrain_lightning.fixers.attributes import trainer_attributes
from unitrain_lightning.fixers.names import PACKAGES, calls, short
from unitrain_lightning.fixers.names import TRAINER as TRAINER_NAMES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from unitrain.migrate.source import Source

__all__ = ("FIXER", "PACKAGES")

HOME = "lightning"
ARGUMENT = Rule("check-trainer-argument", "a Trainer argument that only works on Lightning", Severity.PERSON)
ATTRIBUTE = Rule("check-trainer-attribute", "a Trainer attribute that only exists on Lightning", Severity.PERSON)

_ANYWHERE = f"framework={HOME!r}"
_REFUSED = (*ARGUMENTS, "strategy", "devices")


def find(source: Source, goal: Goal) -> Iterator[Finding]:
    """Find what the backend ``goal.check`` refuses."""
    if goal.check == HOME or not any(source.imports(package) for package in PACKAGES):
        return
    for call in calls(source, TRAINER_NAMES):
        given = arguments(source, call)
        for one in given:
            yield from _argument(source, goal, one)
        for variable, value in in_force({one.keyword for one in given}, _REFUSED):
            yield from _variable(goal, source.start(call), variable, value)
    yield from _plugins(source, goal)
    for place, variable, value in set_in(source):
        yield from _variable(goal, source.start(place), variable, value)
    for node in trainer_attributes(source):
        yield from _attribute(source, goal, node)


def _argument(source: Source, goal: Goal, given: Argument) -> Iterator[Finding]:
    start, fix = source.start(given.node), _fix(given.keyword, given.value)
    if fix:
        yield _refused(start, goal, f"Trainer({given.keyword}={given.text})", fix)
    elif given.star:
        yield from _mapping(source, goal, given)


def _plugins(source: Source, goal: Goal) -> Iterator[Finding]:
    """Find the plugins that are made for a Trainer, wherever that is."""
    for call in source.all(cst.Call):
        package, _, name = short(source.name(call.func)).rpartition(".")
        if name in PLUGINS and package.partition(".")[0] == "plugins":
            yield _refused(source.start(call), goal, f"the plugin {name}", PLUGINS[name])


def _variable(goal: Goal, start: int, variable: str, value: Any) -> Iterator[Finding]:
    """Find what a variable of the environment asks for."""
    fix = _fix(variable.removeprefix(ENVIRONMENT).lower(), value)
    if fix and value is not None:
        shown = "..." if value is UNKNOWN else value
        yield _refused(start, goal, f"the environment variable {variable}={shown}", fix)


def _fix(name: str, value: Any) -> str:
    """Return what to do about an argument that only works at home; "" if it works everywhere."""
    if name in ARGUMENTS and not _is_plain(name, value):
        return ARGUMENTS[name]
    if name == "strategy" and value is UNKNOWN:
        return f'strategy="auto", or {_ANYWHERE}; only {", ".join(STRATEGIES)} work everywhere'
    if name == "strategy" and value not in STRATEGIES:
        return f'strategy="auto", or {_ANYWHERE}'
    return f"devices=1, or {_ANYWHERE}" if name == "devices" and _several(value) else ""


def _is_plain(name: str, value: Any) -> bool:
    """Return whether an argument is what it is by default: off, or one host."""
    return any(value is one for one in (None, False)) or (name == "num_nodes" and value == 1)


def _mapping(source: Source, goal: Goal, given: Argument) -> Iterator[Finding]:
    """Find what a ``**mapping`` may bring."""
    start, known = source.start(given.node), keywords.names(source, given)
    if known is None:
        reason = "its contents are unknown, so support is only checked at run time"
        yield person(ARGUMENT.name, start, f"Trainer({given.star}{given.text}): {reason}", "write the arguments out")
        return
    for name in (*ARGUMENTS, "strategy"):
        if name in known:
            yield _refused(start, goal, f"Trainer({name}=...)", ARGUMENTS.get(name, f"remove it, or {_ANYWHERE}"))


def _several(value: object) -> bool:
    """Return whether a literal asks for more than one device."""
    if value is UNKNOWN or isinstance(value, bool):
        return False
    if isinstance(value, (list, tuple)):
        return len(value) > 1
    return str(value) == "-1" or (str(value).isdigit() and int(str(value)) > 1)


def _refused(start: int, goal: Goal, what: str, fix: str) -> Finding:
    return person(ARGUMENT.name, start, f"{what} only works on {HOME!r}, not on {goal.check!r}", fix)


def _attribute(source: Source, goal: Goal, node: cst.Attribute) -> Iterator[Finding]:
    name = node.attr.value
    written = isinstance(source.parent(node), cst.AssignTarget)
    if name in TRAINER or name.startswith("__") or written:
        return
    reason = f"trainer.{name} only exists on {HOME!r}, not on {goal.check!r}"
    fix = ELSEWHERE.get(name) or f"{_ANYWHERE}, or use attributes that every backend has"
    yield person(ATTRIBUTE.name, source.start(node), reason, fix)


FIXER = Fixer((ARGUMENT, ATTRIBUTE), find)
