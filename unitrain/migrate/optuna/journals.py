"""Journals of studies, whose parts Optuna 4 moved to ``optuna.storages.journal``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import libcst as cst

from unitrain.migrate.findings import Edit, Finding, Fixer, Goal, Rule, person

if TYPE_CHECKING:
    from collections.abc import Iterator

    from unitrain.migrate.source import Source

RULE = Rule("optuna-journal", "JournalFileStorage, JournalRedisStorage and their locks are in optuna.storages.journal")

_OLD, _NEW = "optuna.storages", "optuna.storages.journal"
_NAMES: Final = {
    "BaseJournalLogStorage": "BaseJournalBackend",
    "JournalFileStorage": "JournalFileBackend",
    "JournalRedisStorage": "JournalRedisBackend",
    "JournalFileOpenLock": "JournalFileOpenLock",
    "JournalFileSymlinkLock": "JournalFileSymlinkLock",
}
_REASON = "deprecated since Optuna 4, and removed in Optuna 6"


def find(source: Source, goal: Goal) -> Iterator[Finding]:
    """Find the old names: where they are imported, with all their uses, and where they are written in full."""
    del goal
    for node in source.all(cst.ImportFrom):
        if node.module is not None and not node.relative and source.code(node.module) == _OLD:
            yield from _imported(source, node)
    for written in source.all(cst.Attribute):
        name = written.attr.value
        if name in _NAMES and source.name(written) == f"{_OLD}.{name}":
            edit = Edit(source.start(written.attr), source.end(written.attr), f"journal.{_NAMES[name]}")
            yield _found(name, source.start(written), (edit,))


def _imported(source: Source, node: cst.ImportFrom) -> Iterator[Finding]:
    names = () if isinstance(node.names, cst.ImportStar) else node.names
    old = [one for one in names if one.evaluated_name in _NAMES]
    if not old:
        return
    start, first = source.start(node), old[0].evaluated_name
    line = source.parent(node)
    if "#" in source.code(node) or not isinstance(line, cst.SimpleStatementLine) or len(line.body) > 1:
        yield person(RULE.name, start, f"{first} is {_REASON}", f"from {_NEW} import {_NAMES[first]}")
        return
    lines = [
        f"from {module} import {', '.join(told)}"
        for module, told in (
            (_OLD, [_code(source, one, one.evaluated_name) for one in names if one not in old]),
            (_NEW, [_code(source, one, _NAMES[one.evaluated_name]) for one in old]),
        )
        if told
    ]
    statement = Edit(start, source.end(node), f"\n{source.indent(start)}".join(lines))
    yield _found(first, start, (statement, *_uses(source, {one.evaluated_name for one in old if one.asname is None})))


def _code(source: Source, alias: cst.ImportAlias, name: str) -> str:
    """Return what is imported under its new name, with what the script calls it."""
    return name if alias.asname is None else f"{name} as {source.code(alias.asname.name)}"


def _uses(source: Source, names: set[str]) -> Iterator[Edit]:
    for node in source.all(cst.Name):
        old = node.value
        is_ours = old in names and _NAMES[old] != old and source.name(node) == f"{_OLD}.{old}"
        if is_ours and source.around(node, cst.ImportFrom) is None:
            yield Edit(source.start(node), source.end(node), _NAMES[old])


def _found(name: str, start: int, edits: tuple[Edit, ...]) -> Finding:
    return Finding(RULE.name, start, f"{name} is {_REASON}", f"{_NEW}.{_NAMES[name]}", edits)


FIXER = Fixer((RULE,), find)
