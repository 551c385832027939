"""Reads, renames, drops and reorders the arguments of a call with their comments."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from unitrain.migrate.findings import Edit

if TYPE_CHECKING:
    from collections.abc import Sequence

    import libcst as cst

    from unitrain.migrate.source import Source

UNKNOWN: Any = object()
"""The value of an expression that is not a literal."""


@dataclass(frozen=True)
class Argument:
    """An argument of a call.

    Attributes:
        index: Position of the argument.
        keyword: Name of the argument; empty if it has none.
        star: ``"*"`` or ``"**"`` if it unpacks several.
        text: The value as source text.
        node: The node.
    """

    index: int
    keyword: str
    star: str
    text: str
    node: cst.Arg

    @property
    def value(self) -> Any:
        """The value of a literal, else UNKNOWN."""
        return literal(self.text)


def literal(text: str) -> Any:
    """Return what a literal means, else UNKNOWN."""
    try:
        return ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return UNKNOWN


def arguments(source: Source, call: cst.Call) -> list[Argument]:
    """Return the arguments of a call."""
    found = []
    for index, node in enumerate(call.args):
        whole, keyword = source.code(node), "" if node.keyword is None else node.keyword.value
        text = whole.partition("=")[2].strip() if keyword else whole[len(node.star) :].strip()
        found.append(Argument(index, keyword, node.star, text, node))
    return found


def keyword(source: Source, call: cst.Call, name: str) -> Argument | None:
    """Return the argument of a name."""
    return next((one for one in arguments(source, call) if one.keyword == name), None)


def renamed(source: Source, argument: Argument, name: str) -> Edit:
    """Return the edit that gives an argument another name, or its first one."""
    start = source.start(argument.node)
    if argument.node.keyword is None:
        return Edit(start, start, f"{name}=")
    return Edit(start, source.end(argument.node.keyword), name)


def dropped(source: Source, call: cst.Call, argument: Argument) -> Edit:
    """Return the edit that takes an argument away; comments stay."""
    index, last = argument.index, len(call.args) - 1
    start, end = source.start(argument.node), source.end(argument.node)
    if index < last:
        after = source.start(call.args[index + 1])
        if "#" not in source.between(end, after):
            return Edit(start, after, "")
        comma = source.data.index(b",", end) + 1
        return Edit(start, comma, "")
    if index == 0:
        close = source.end(call) - 1
        keep = "#" in source.between(end, close)
        return Edit(start, end, "") if keep else Edit(start, close, "")
    before = source.end(call.args[index - 1])
    if "#" in source.between(before, start):
        stripped = source.between(before, start).rstrip()
        return Edit(before + len(stripped.encode()), end, "")
    return Edit(before, end, "")


# --- another order ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Piece:
    """An argument as it is to be written.

    Attributes:
        text: ``name=value``.
        index: Former position, or None if it is new.
        comments: Comments that go with it.
    """

    text: str
    index: int | None = None
    comments: tuple[str, ...] = ()


class Layout:
    """The layout of a call's arguments.

    Args:
        source: The file.
        call: The call.
    """

    def __init__(self, source: Source, call: cst.Call) -> None:
        close = source.end(call) - 1
        edges = [(source.start(one), source.end(one)) for one in call.args]
        first = edges[0][0] if edges else close
        self.start = source.data.rindex(b"(", 0, first) + 1 if edges else self._empty(source, call)
        self.end = close
        following = [*(start for start, _ in edges[1:]), close][: len(edges)]
        self.head = source.between(self.start, first)
        self.after = [source.between(end, start) for (_, end), start in zip(edges, following, strict=True)]
        self.pieces = [Piece(source.between(*edge), index) for index, edge in enumerate(edges)]
        self.exploded = "\n" in self.head
        outer = source.indent(source.start(call))
        self.close = "\n" + outer
        self.line = "\n" + (re.split(r"\n", self.head)[-1] if self.exploded else outer + source.step)
        self.step = source.step

    @staticmethod
    def _empty(source: Source, call: cst.Call) -> int:
        return source.data.index(b"(", source.end(call.func)) + 1

    def comments(self, index: int) -> tuple[str, ...]:
        """Return the comments after an argument."""
        return tuple(re.findall(r"#[^\r\n]*", self.after[index]))

    def moved(self, index: int) -> Piece:
        """Return an argument as one that is rewritten, with its comments."""
        return replace(self.pieces[index], index=None, comments=self.comments(index))

    def edit(self, pieces: Sequence[Piece]) -> Edit:
        """Return the edit that writes the arguments in another order; neighbours keep the text between them."""
        if not pieces:
            return Edit(self.start, self.end, "")
        text = self.head
        for piece, after in zip(pieces, [*pieces[1:], None], strict=True):
            text += piece.text + self._glue(piece, after)
        return Edit(self.start, self.end, text)

    def _glue(self, piece: Piece, after: Piece | None) -> str:
        own = piece.index
        last = len(self.pieces) - 1
        if own is not None and ((after is None and own == last) or (after is not None and after.index == own + 1)):
            return self.after[own]
        comments = piece.comments or (self.comments(own) if own is not None else ())
        spread = self.exploded or bool(comments)
        if after is None:
            return self._told(comments, self.close) if spread else ""
        return self._told(comments, self.line) if spread else ", "

    def _told(self, comments: Sequence[str], newline: str) -> str:
        told = "," + (f"  {comments[0]}" if comments else "")
        return told + "".join(f"{self.line}{one}" for one in comments[1:]) + newline


def nested(layout: Layout, name: str, key: str, given: Sequence[Piece]) -> Piece:
    """Return ``name={key: {...}}`` of arguments, laid out as the call is."""
    pairs = [_pair(piece) for piece in given]
    if not layout.exploded and not any(piece.comments for piece in given):
        return Piece(f'{name}={{"{key}": {{{", ".join(pairs)}}}}}')
    line, step = layout.line, layout.step
    inner = line + step * 2
    rows = []
    for pair, piece in zip(pairs, given, strict=True):
        comments = [
            *(f"  {one}" for one in piece.comments[:1]),
            *(f"{inner}{one}" for one in piece.comments[1:]),
        ]
        rows.append(f"{inner}{_deeper(pair, step)},{''.join(comments)}")
    return Piece(f'{name}={{{line}{step}"{key}": {{{"".join(rows)}{line}{step}}},{line}}}')


def _pair(piece: Piece) -> str:
    if piece.text.startswith("**"):
        return piece.text
    name, _, value = piece.text.partition("=")
    return f'"{name.strip()}": {value.strip()}'


def _deeper(text: str, step: str) -> str:
    """Return a text of several lines further in, unless a string goes over its lines."""
    return text if re.search(r'"""|\'\'\'|\\\n', text) else text.replace("\n", f"\n{step * 2}")
