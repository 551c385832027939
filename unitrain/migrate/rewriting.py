"""Applies edits to a text and maps new lines to original ones."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import libcst as cst

from unitrain.migrate.findings import UNITRAIN, Edit

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from unitrain.migrate.source import Source


def overlaps(edits: Iterable[Edit], taken: Iterable[Edit]) -> bool:
    """Return whether some edits cannot be made together with others."""
    others = list(taken)
    return any(_clash(edit, other) for edit in edits for other in others)


def _clash(one: Edit, other: Edit) -> bool:
    """Return whether two edits write the same bytes, or one writes into the other; insertions at an edge do not."""
    if one.start == one.end and other.start == other.end:
        return False
    if one.start == one.end or other.start == other.end:
        point, span = (one, other) if one.start == one.end else (other, one)
        return span.start < point.start < span.end
    return one.start < other.end and other.start < one.end


def apply(data: bytes, edits: Iterable[Edit], origins: Sequence[int]) -> tuple[str, list[int]]:
    """Return the text after some edits that do not overlap, and the original line of each of its lines.

    Args:
        data: The text before.
        edits: The edits; insertions at the same place are made in the given order.
        origins: The original line of each line before.
    """
    parts: list[str] = []
    lines: list[int] = [origins[0]]
    at = 0
    for edit in sorted(edits, key=lambda one: (one.start, one.end)):
        _append(parts, lines, data[at : edit.start].decode(), origins, data.count(b"\n", 0, at))
        written = _newlines(edit.text, data)
        parts.append(written)
        here = origins[data.count(b"\n", 0, edit.start)]
        lines.extend([here] * written.count("\n"))
        at = edit.end
    _append(parts, lines, data[at:].decode(), origins, data.count(b"\n", 0, at))
    return "".join(parts), lines


def _append(parts: list[str], lines: list[int], kept: str, origins: Sequence[int], first: int) -> None:
    parts.append(kept)
    lines.extend(origins[first + one] for one in range(1, kept.count("\n") + 1))


def _newlines(text: str, data: bytes) -> str:
    """Return the text with the newlines of the file it goes into."""
    return text.replace("\r\n", "\n").replace("\n", "\r\n") if b"\r\n" in data else text


# --- imports ----------------------------------------------------------------------------------------------------------


def import_edits(source: Source, wanted: Iterable[str], used: int) -> list[Edit]:
    """Return the edits that import names after the other imports, without those that are imported already.

    Args:
        source: The file.
        wanted: Names of unitrain, or ``module:name``.
        used: Position of their first use.
    """
    modules: dict[str, list[str]] = {}
    for one in sorted(set(wanted)):
        module, _, name = one.rpartition(":")
        if f"{module or UNITRAIN}.{name}" not in _imported(source):
            modules.setdefault(module or UNITRAIN, []).append(name)
    lines = [f"from {module} import {', '.join(names)}" for module, names in sorted(modules.items())]
    if not lines:
        return []
    place, prefix, suffix = _place(source, used)
    return [Edit(place, place, prefix + "\n".join(lines) + suffix)]


def clashes(source: Source, wanted: Iterable[str]) -> list[str]:
    """Return the names that the file already uses for something else."""
    scope = source.scope(source.module)
    found = []
    for one in sorted(set(wanted)):
        module, _, name = one.rpartition(":")
        if f"{module or UNITRAIN}.{name}" not in _imported(source) and scope is not None and name in scope:
            found.append(name)
    return found


def _imported(source: Source) -> set[str]:
    found: set[str] = set()
    for node in source.all(cst.ImportFrom):
        top_level = source.parent(source.parent(node)) is source.module
        if node.module is None or node.relative or isinstance(node.names, cst.ImportStar) or not top_level:
            continue
        module = source.code(node.module)
        found.update(f"{module}.{alias.evaluated_name}" for alias in node.names if alias.asname is None)
    return found


def _place(source: Source, used: int) -> tuple[int, str, str]:
    """Return the position of the next import, with the text before and after it."""
    after: cst.BaseStatement | None = None
    first: cst.BaseStatement | None = None
    for one in source.module.body:
        defines = isinstance(one, (cst.FunctionDef, cst.ClassDef))
        if source.end(one) > used or (defines and after is not None and not _is_docstring(after)):
            break
        if _is_import(source, one) or (after is None and first is None and _is_docstring(one)):
            after = one
        first = first or one
    if after is None:
        top = source.module.body[0] if source.module.body else None
        return (0 if top is None else source.line_start(source.start(top))), "", "\n"
    return source.line_end(source.end(after) - 1), "\n", ""


def _is_import(source: Source, node: cst.BaseStatement) -> bool:
    if isinstance(node, cst.SimpleStatementLine):
        return any(isinstance(one, (cst.Import, cst.ImportFrom)) for one in node.body)
    if isinstance(node, (cst.Try, cst.If)):
        return bool(source.all(cst.Import, node) or source.all(cst.ImportFrom, node)) and not _is_main(source, node)
    return False


def _is_main(source: Source, node: cst.BaseStatement) -> bool:
    return isinstance(node, cst.If) and "__main__" in source.code(node.test)


def _is_docstring(node: cst.BaseStatement | cst.BaseSmallStatement) -> bool:
    if not isinstance(node, cst.SimpleStatementLine) or not isinstance(node.body[0], cst.Expr):
        return False
    return isinstance(node.body[0].value, (cst.SimpleString, cst.ConcatenatedString))


def drop_imported(source: Source, name: str, gone: Iterable[int]) -> list[Edit]:
    """Return the edits that drop ``from ... import name``, if nothing uses the name any more.

    Args:
        source: The file.
        name: The name, as the file writes it.
        gone: Positions of removed uses.
    """
    scope, places = source.scope(source.module), set(gone)
    if scope is None:
        return []
    for one in scope[name]:
        node = getattr(one, "node", None)
        used = [access for access in one.references if source.start(access.node) not in places]
        if not isinstance(node, cst.ImportFrom) or isinstance(node.names, cst.ImportStar) or used:
            return []
        return _without(source, node, name)
    return []


def _without(source: Source, node: cst.ImportFrom, name: str) -> list[Edit]:
    assert not isinstance(node.names, cst.ImportStar)  # noqa: S101 - for the type checker
    kept = [alias for alias in node.names if (alias.evaluated_alias or alias.evaluated_name) != name]
    if kept:
        gone = next(alias for alias in node.names if alias not in kept)
        index = list(node.names).index(gone)
        if index + 1 < len(node.names):
            return _unless_comment(source, source.start(gone), source.start(node.names[index + 1]))
        return _unless_comment(source, source.end(node.names[index - 1]), source.end(gone))
    line = source.parent(node)
    if not isinstance(line, cst.SimpleStatementLine) or len(line.body) > 1 or source.parent(line) is not source.module:
        return []
    return _unless_comment(source, source.line_start(source.start(line)), source.next_line(source.end(line) - 1))


def _unless_comment(source: Source, start: int, end: int) -> list[Edit]:
    gone = source.between(start, min(end, len(source.data)))
    return [] if re.search(r"#", gone) else [Edit(start, min(end, len(source.data)), "")]
