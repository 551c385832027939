"""Studies in Redis: ``RedisStorage`` and ``storage="redis://..."``, which Optuna 3.1 removed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import libcst as cst

from unitrain.migrate.arguments import arguments
from unitrain.migrate.findings import Edit, Finding, Fixer, Goal, Rule, person
from unitrain.migrate.rewriting import drop_imported

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from unitrain.migrate.source import Source

RULE = Rule("optuna-redis", 'RedisStorage(...) and storage="redis://..." become unitrain\'s make_storage(...)')

NAME: Final = "RedisStorage"
_PLACES: Final = frozenset(
    f"{place}.{NAME}"
    for place in ("optuna", "optuna.storages", "optuna.storages.redis", "optuna.storages._redis", "optuna.integration")
)
_STUDIES: Final = frozenset(
    f"optuna.{place}{name}"
    for place in ("", "study.")
    for name in (
        "create_study", "load_study", "delete_study", "copy_study", "get_all_study_names", "get_all_study_summaries",
    )
)  # fmt: skip
_REDIS: Final = ("redis://", "rediss://")
_NEW, _IMPORT = "make_storage", "unitrain.compat.optuna:make_storage"
_KEPT: Final = frozenset({"url", "password"})
_REASON = "Optuna 3.1 removed it; studies are in a journal now, and those in the old form are not read"


def find(source: Source, goal: Goal) -> Iterator[Finding]:
    """Find storages in Redis."""
    del goal
    nodes = [one for kind in (cst.Name, cst.Attribute) for one in source.all(kind) if _is_old(source, one)]
    calls = [one for one in map(source.parent, nodes) if isinstance(one, cst.Call) and one.func in nodes]
    if nodes:
        yield from _made(source, nodes, calls)
    for call in source.all(cst.Call):
        if source.name(call.func) in _STUDIES:
            yield from _named(source, call)


def _is_old(source: Source, node: cst.CSTNode) -> bool:
    """Return whether a node reads the old class; an import names it, and a longer name contains it."""
    if source.around(node, cst.ImportFrom, cst.Import) is not None or source.name(node) not in _PLACES:
        return False
    around = source.parent(node)
    return not isinstance(around, cst.Attribute) or around.value is node


def _made(source: Source, nodes: Sequence[cst.CSTNode], calls: Sequence[cst.Call]) -> Iterator[Finding]:
    edits: list[Edit] = []
    for call in calls:
        given = arguments(source, call)
        odd = [
            one for one in given if one.star or (one.keyword or "url") not in _KEPT or (not one.keyword and one.index)
        ]
        if odd:
            fix = f"{_NEW}(url, password=...) without {odd[0].text if odd[0].star else odd[0].keyword or odd[0].text}"
            yield person(RULE.name, source.start(call), f"{NAME} has other arguments: {_REASON}", fix)
            return
        edits.append(Edit(source.start(call.func), source.end(call.func), _NEW))
    if len(calls) < len(nodes):
        yield person(RULE.name, source.start(nodes[0]), f"{NAME} is used as a class: {_REASON}", f"{_NEW}(url)")
        return
    gone = [source.start(call.func) for call in calls]
    short = {source.code(call.func) for call in calls if isinstance(call.func, cst.Name)}
    replaced = list(_alone(source))
    edits += replaced or [edit for name in sorted(short) for edit in drop_imported(source, name, gone)]
    wanted = () if replaced and len(short) == len({source.code(call.func) for call in calls}) else (_IMPORT,)
    yield Finding(RULE.name, gone[0], f"{NAME}: {_REASON}", f"{_NEW}(url)", tuple(edits), wanted, needed=True)


def _alone(source: Source) -> Iterator[Edit]:
    """Yield the edits of statements that import nothing but the old class."""
    module, _, name = _IMPORT.partition(":")
    for node in source.all(cst.ImportFrom):
        if node.module is None or node.relative or isinstance(node.names, cst.ImportStar) or len(node.names) > 1:
            continue
        if f"{source.code(node.module)}.{node.names[0].evaluated_name}" in _PLACES:
            yield Edit(source.start(node), source.end(node), f"from {module} import {name}")


def _named(source: Source, call: cst.Call) -> Iterator[Finding]:
    for one in arguments(source, call):
        if isinstance(one.value, str) and one.value.startswith(_REDIS):
            start, end = source.start(one.node.value), source.end(one.node.value)
            edit = Edit(start, end, f"{_NEW}({one.text})")
            yield Finding(RULE.name, start, _REASON, f"{_NEW}(url)", (edit,), (_IMPORT,), needed=True)


FIXER = Fixer((RULE,), find)
