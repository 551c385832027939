"""The order in which a statement evaluates its parts, which a rewritten one keeps."""

from __future__ import annotations

from typing import TYPE_CHECKING

import libcst as cst

if TYPE_CHECKING:
    from collections.abc import Collection

    from unitrain.migrate.source import Source

_ACTING = (cst.Call, cst.Await, cst.Yield, cst.NamedExpr, cst.ListComp, cst.SetComp, cst.DictComp)
_READING = (cst.Attribute, cst.Subscript)


def evaluated_before(source: Source, call: cst.Call, line: cst.SimpleStatementLine) -> bool:
    """Return whether a statement does or reads something before it comes to a call in it.

    The functions that get the call's value do not count, nor what it is assigned to, which Python evaluates later.
    """
    if any(isinstance(one, cst.AugAssign) for one in line.body):
        return True
    called = {id(one.func) for one in source.ancestors(call) if isinstance(one, cst.Call)}
    declared: list[cst.Global | cst.Nonlocal] = [*source.all(cst.Global), *source.all(cst.Nonlocal)]
    rebound = {one.name.value for node in declared for one in node.names}
    top = next(one for one in source.ancestors(call) if source.parent(one) is line)
    skipped = [one.target for one in top.targets] if isinstance(top, cst.Assign) else []
    return any(
        source.end(one) <= source.start(call) and not _within(source, one, called, skipped)
        for kind in (*_ACTING, *_READING, cst.Name)
        for one in source.all(kind, line)
        if not isinstance(one, cst.Name) or one.value in rebound
    )


def _within(source: Source, node: cst.CSTNode, called: Collection[int], skipped: Collection[cst.CSTNode]) -> bool:
    """Return whether a node is part of a function that is called, or of a target."""
    if isinstance(node, _ACTING):
        return any(source.start(one) <= source.start(node) < source.end(one) for one in skipped)
    parts = {id(node), *map(id, source.ancestors(node))}
    return bool(parts & (set(called) | set(map(id, skipped))))
