"""What a backend other than Lightning refuses of a Lightning script, told from its source."""

from __future__ import annotations

from typing import TYPE_CHECKING

import libcst as cst

from unitrain.migrate.arguments import UNKNOWN, Argument, arguments
from unitrain.migrate.findings import Finding, Fixer, Goal, Rule, person
from unitrain_bridges.lightning.supported import ARGUMENTS, ELSEWHERE, STRATEGIES, TRAINER
from unitrain_lightning.fixers import keywords
from unitrain_lightning.fixers.attributes import trainer_attributes
from unitrain_lightning.fixers.names import PACKAGES, calls
from unitrain_lightning.fixers.names import TRAINER as TRAINER_NAMES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from unitrain.migrate.source import Source

__all__ = ("FIXER", "PACKAGES")

HOME = "lightning"
ARGUMENT = Rule("check-trainer-argument", "a Trainer argument that only works on Lightning")
ATTRIBUTE = Rule("check-trainer-attribute", "a Trainer attribute that only exists on Lightning")

_ANYWHERE = f"framework={HOME!r}"


def find(source: Source, goal: Goal) -> Iterator[Finding]:
    """Find what the backend ``goal.check`` refuses."""
    if goal.check == HOME or not any(source.imports(package) for package in PACKAGES):
        return
    for call in calls(source, TRAINER_NAMES):
        for given in arguments(source, call):
            yield from _argument(source, goal, given)
    for node in trainer_attributes(source):
        yield from _attribute(source, goal, node)


def _argument(source: Source, goal: Goal, given: Argument) -> Iterator[Finding]:
    start = source.start(given.node)
    if given.keyword in ARGUMENTS and not _is_plain(given):
        yield _refused(start, goal, f"Trainer({given.keyword}={given.text})", ARGUMENTS[given.keyword])
    elif given.keyword == "strategy" and given.value not in (*STRATEGIES, UNKNOWN):
        yield _refused(start, goal, f"Trainer(strategy={given.text})", f'strategy="auto", or {_ANYWHERE}')
    elif given.keyword == "strategy" and given.value is UNKNOWN:
        fix = f'strategy="auto", or {_ANYWHERE}; only {", ".join(STRATEGIES)} work everywhere'
        yield _refused(start, goal, f"Trainer(strategy={given.text})", fix)
    elif given.keyword == "devices" and _several(given.value):
        yield _refused(start, goal, f"Trainer(devices={given.text})", f"devices=1, or {_ANYWHERE}")
    elif given.star:
        yield from _mapping(source, goal, given)


def _is_plain(given: Argument) -> bool:
    """Return whether an argument is what it is by default: off, or one host."""
    return any(given.value is one for one in (None, False)) or (given.keyword == "num_nodes" and given.value == 1)


def _mapping(source: Source, goal: Goal, given: Argument) -> Iterator[Finding]:
    """Find what a ``**mapping`` may bring."""
    start, known = source.start(given.node), keywords.names(source, given)
    if known is None:
        reason = "its contents are unknown, so support is only checked at run time"
        yield person(ARGUMENT.name, start, f"Trainer({given.star}{given.text}): {reason}", "write the arguments out")
        return
    for name in [*ARGUMENTS, "strategy"]:
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
