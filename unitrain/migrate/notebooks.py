"""Notebooks: the code of all cells as one module, and back again."""

from __future__ import annotations

import json
import re
from typing import Any, NamedTuple

CELL = "# unitrain: cell {}"
_CELL = re.compile(r"^# unitrain: cell (\d+)$", re.MULTILINE)
_HIDDEN = "pass  # unitrain: kept "
_MAGIC = re.compile(r"^(\s*)(%{1,2}[A-Za-z]|![^=]|\?|[\w.]+\?{1,2}\s*$|[\w, ]+=\s*[%!]).*$")
_PYTHON_MAGICS = {"%%time", "%%timeit", "%%capture", "%%prun"}
"""Cell magics whose content is Python."""


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
        self._python = {number: source for number, source in self._sources.items() if _is_python(source)}

    @property
    def module(self) -> str:
        """The code of all cells, with a mark before each, and magics as comments."""
        return "".join(f"{CELL.format(number)}\n{_hidden(source)}\n" for number, source in sorted(self._python.items()))

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
            after = _shown(source[1:-1])
            if after != self._sources[int(number)]:
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


def _is_python(source: str) -> bool:
    first = source.lstrip().partition("\n")[0].split(" ")[0]
    return not first.startswith("%%") or first in _PYTHON_MAGICS


def _hidden(source: str) -> str:
    return "\n".join(
        _MAGIC.sub(lambda one: f"{one.group(1)}{_HIDDEN}{one.group(0)}", one) for one in source.split("\n")
    )


def _shown(source: str) -> str:
    return re.sub(rf"^[ \t]*{re.escape(_HIDDEN)}", "", source, flags=re.MULTILINE)
