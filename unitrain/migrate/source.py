"""A parsed file with positions, names, scopes and parents for fixers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import libcst as cst
from libcst.metadata import (
    ByteSpanPositionProvider,
    MetadataWrapper,
    QualifiedNameSource,
    ScopeProvider,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from libcst.metadata.scope_provider import Scope

N = TypeVar("N", bound=cst.CSTNode)


class Source:
    """A parsed file.

    Args:
        text: The source text.

    Raises:
        libcst.ParserSyntaxError: If it is no Python.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self.data = text.encode()
        wrapper = MetadataWrapper(cst.parse_module(text), unsafe_skip_copy=True)
        self.module = wrapper.module
        self._spans: Any = wrapper.resolve(ByteSpanPositionProvider)
        self._scopes: Any = wrapper.resolve(ScopeProvider)
        self._parents: dict[int, cst.CSTNode] = {}
        self._kinds: dict[type[cst.CSTNode], list[cst.CSTNode]] = {}
        self._visit(self.module)

    def _visit(self, top: cst.CSTNode) -> None:
        waiting = [top]
        while waiting:
            node = waiting.pop()
            self._kinds.setdefault(type(node), []).append(node)
            for child in reversed(node.children):
                self._parents[id(child)] = node
                waiting.append(child)

    # --- places -------------------------------------------------------------------------------------------------------

    def start(self, node: cst.CSTNode) -> int:
        """Return the first byte of a node, without parentheses around it."""
        return int(self._spans[node].start)

    def end(self, node: cst.CSTNode) -> int:
        """Return the byte after a node."""
        span = self._spans[node]
        return int(span.start + span.length)

    def code(self, node: cst.CSTNode) -> str:
        """Return the text of a node, without parentheses around it."""
        return self.data[self.start(node) : self.end(node)].decode()

    def between(self, start: int, end: int) -> str:
        """Return the text between two places."""
        return self.data[start:end].decode()

    def line_start(self, place: int) -> int:
        """Return where the line of a place begins."""
        return self.data.rfind(b"\n", 0, place) + 1

    def line_end(self, place: int) -> int:
        """Return where the line of a place ends, before its newline."""
        found = self.data.find(b"\n", place)
        if found < 0:
            return len(self.data)
        return found - 1 if self.data[place:found].endswith(b"\r") else found

    def next_line(self, place: int) -> int:
        """Return where the line after that of a place begins."""
        found = self.data.find(b"\n", place)
        return len(self.data) if found < 0 else found + 1

    def line(self, place: int) -> int:
        """Return the number of the line of a place, from 1."""
        return self.data.count(b"\n", 0, place) + 1

    def indent(self, place: int) -> str:
        """Return the blanks that the line of a place begins with."""
        line = self.between(self.line_start(place), self.line_end(place))
        return line[: len(line) - len(line.lstrip(" \t"))]

    @property
    def step(self) -> str:
        """The blanks by which the file indents a block: a tab, or some spaces."""
        return self.module.default_indent

    # --- the tree -----------------------------------------------------------------------------------------------------

    def all(self, kind: type[N], within: cst.CSTNode | None = None) -> list[N]:
        """Return the nodes of one kind, in the order of the file."""
        found: list[N] = self._kinds.get(kind, [])  # type: ignore[assignment]
        if within is None:
            return found
        start, end = self.start(within), self.end(within)
        return [node for node in found if start <= self.start(node) and self.end(node) <= end]

    def parent(self, node: cst.CSTNode) -> cst.CSTNode:
        """Return the node around a node."""
        return self._parents[id(node)]

    def ancestors(self, node: cst.CSTNode) -> Iterator[cst.CSTNode]:
        """Yield the nodes around a node, the nearest first."""
        while id(node) in self._parents:
            node = self._parents[id(node)]
            yield node

    def around(self, node: cst.CSTNode, *kinds: type[N]) -> N | None:
        """Return the nearest node of some kinds around a node."""
        return next((one for one in self.ancestors(node) if isinstance(one, kinds)), None)

    # --- names --------------------------------------------------------------------------------------------------------

    def scope(self, node: cst.CSTNode) -> Scope | None:
        """Return the scope of a node."""
        for one in (node, *self.ancestors(node)):
            scope: Scope | None = self._scopes.get(one)
            if scope is not None:
                return scope
        return None

    def name(self, node: cst.CSTNode) -> str:
        """Return the dotted name that an expression has by the file's imports; empty if it has none."""
        scope = self.scope(node)
        if scope is None or not isinstance(node, (cst.Name, cst.Attribute)):
            return ""
        names = {one.name for one in scope.get_qualified_names_for(node) if one.source is QualifiedNameSource.IMPORT}
        return min(names) if names else ""

    def imports(self, package: str) -> bool:
        """Return whether the file imports a package or something of it."""
        return any(name.partition(".")[0] == package for name in self.imported())

    def imported(self) -> Iterator[str]:
        """Yield the modules that the file imports, or imports from."""
        for node in self.all(cst.Import):
            for alias in node.names:
                yield self.code(alias.name)
        for one in self.all(cst.ImportFrom):
            if one.module is not None and not one.relative:
                yield self.code(one.module)

    def starred(self, packages: Collection[str]) -> Iterator[cst.ImportFrom]:
        """Yield ``from ... import *`` of some packages, whose names cannot be told apart."""
        for one in self.all(cst.ImportFrom):
            named = one.module is not None and not one.relative and isinstance(one.names, cst.ImportStar)
            if named and self.code(one.module).partition(".")[0] in packages:  # type: ignore[arg-type]
                yield one

    def functions(self, name: str) -> list[cst.FunctionDef]:
        """Return the functions and methods of a name."""
        return [one for one in self.all(cst.FunctionDef) if one.name.value == name]
