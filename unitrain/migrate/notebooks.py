"""Notebooks: the code of all cells as one module, and back again."""

from __future__ import annotations

import json
import re
from typing import Any, NamedTuple

from unitrain.migrate.magics import as_cell, as_python, is_python

CELL = "# unitrain: cell {}"
_CELL = re.compile(r"^# unitrain: cell (\d+)$", re.MULTILINE)


class Place(NamedTuple):
    """A line of a cell."""

    cell: int
    line: int


class Notebook:
    """A notebook.

    Args:
        text: The file.

    Raises:
        ValueError: If it is not a notebook.
    """

    def __init__(self, text: str) -> None:
        self._text = text
        try:
            self._book: Any = json.loads(text)
            self._cells: list[Any] = self._book["cells"]
            self._sources = {
                number: _joined(cell["source"])
                for number, cell in enumerate(self._cells, 1)
                if cell["cell_type"] == "code"
            }
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"this is not a notebook of format 4: {error}") from error
        python = {number: as_python(source) for number, source in self._sources.items()}
        self._python = {number: one for number, one in python.items() if one or is_python(self._sources[number])}

    @property
    def module(self) -> str:
        """The code of all cells, with a mark before each, and magics as comments."""
        return "".join(f"{CELL.format(number)}\n{source}\n" for number, source in sorted(self._python.items()))

    def place(self, line: int) -> Place:
        """Return the position in the notebook of a line of the module."""
        for number, source in sorted(self._python.items()):
            length = source.count("\n") + 2
            if line <= length:
                return Place(number, max(line - 1, 1))
            line -= length
        return Place(max(self._python, default=1), 1)

    def rewritten(self, module: str) -> str:
        """Return the file with the code of a module, and nothing else changed."""
        parts = _CELL.split(module)
        for number, source in zip(parts[1::2], parts[2::2], strict=True):
            cell = self._cells[int(number) - 1]
            before = self._sources[int(number)]
            after = as_cell(source[1:-1]) if is_python(before) else before
            if after != before:
                cell["source"] = after.splitlines(keepends=True) if isinstance(cell["source"], list) else after
        return self._dumped()

    def _dumped(self) -> str:
        """Return the file in the layout that it had."""
        before = json.loads(self._text)
        found = re.search(r"\n([ \t]+)\S", self._text)
        indents: list[Any] = [None if found is None else found.group(1), 1]
        end = self._text[len(self._text.rstrip()) :]
        layouts = [
            {"indent": indent, "ensure_ascii": escaped, "sort_keys": ordered, "separators": separators}
            for indent in indents
            for escaped in (False, True)
            for ordered in (False, True)
            for separators in ((",", ": "), (", ", ": "), (",", ":"))
        ]
        exact = [one for one in layouts if json.dumps(before, **one) + end == self._text]
        return json.dumps(self._book, **(exact or layouts)[0]) + end


def _joined(source: Any) -> str:
    return source if isinstance(source, str) else "".join(source)
