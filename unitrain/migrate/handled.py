"""Errors that a file itself handles: what is repaired there does not fail today."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import libcst as cst

if TYPE_CHECKING:
    from collections.abc import Iterator

    from unitrain.migrate.source import Source

_OTHER = frozenset(
    {
        "ArithmeticError",
        "AssertionError",
        "ConnectionError",
        "EOFError",
        "FileExistsError",
        "FileNotFoundError",
        "GeneratorExit",
        "IOError",
        "IndexError",
        "KeyError",
        "KeyboardInterrupt",
        "LookupError",
        "MemoryError",
        "OSError",
        "PermissionError",
        "StopIteration",
        "SystemExit",
        "TimeoutError",
        "ZeroDivisionError",
    }
)
"""Exceptions that no removed name, argument or hook raises."""

_Trying: TypeAlias = cst.Try | cst.TryStar


def is_handled(source: Source, place: int) -> bool:
    """Return whether the file handles an error that the code at a place raises as it runs."""
    spans = [*_tried(source), *_suppressed(source)]
    return any(start <= place < end and not _defined(source, start, place) for start, end in spans)


def in_import(source: Source, place: int) -> bool:
    """Return whether a place is within an import statement."""
    nodes = [*source.all(cst.Import), *source.all(cst.ImportFrom)]
    return any(source.start(one) <= place < source.end(one) for one in nodes)


def _tried(source: Source) -> Iterator[tuple[int, int]]:
    nodes: list[_Trying] = [*source.all(cst.Try), *source.all(cst.TryStar)]
    for one in nodes:
        if any(_catches(source, handler.type) for handler in one.handlers):
            yield source.start(one.body), source.start(one.handlers[0])


def _suppressed(source: Source) -> Iterator[tuple[int, int]]:
    for one in source.all(cst.With):
        for item in one.items:
            call = item.item
            named = isinstance(call, cst.Call) and source.name(call.func) == "contextlib.suppress"
            if isinstance(call, cst.Call) and named and any(_catches(source, given.value) for given in call.args):
                yield source.start(one.body), source.end(one)


def _catches(source: Source, named: cst.BaseExpression | None) -> bool:
    if isinstance(named, cst.Tuple):
        return any(_catches(source, one.value) for one in named.elements)
    return named is None or source.code(named) not in _OTHER


def _defined(source: Source, start: int, place: int) -> bool:
    """Return whether a place is within a function or a class that is only defined after ``start``."""
    nodes: list[cst.CSTNode] = [*source.all(cst.FunctionDef), *source.all(cst.ClassDef)]
    return any(start <= source.start(one) <= place < source.end(one) for one in nodes)
