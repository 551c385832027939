"""IPython's magics: each line of a cell as a line of Python, and back again."""

from __future__ import annotations

import ast
import re
from typing import Final

_KEPT: Final = "  # unitrain: kept "
_USES: Final = "unitrain.kept"
_MARK: Final = "unitrain: magic "
_HIDDEN: Final = re.compile(rf"^[ \t]*(?:pass|{re.escape(_USES)}\([^)]*\)){re.escape(_KEPT)}", re.MULTILINE)
_MARKED: Final = re.compile(rf'^([ \t]*)\["{_MARK}(=?)([^"]*)"\]; ', re.MULTILINE)
_MAGIC: Final = re.compile(r"^(\s*)(%{1,2}[A-Za-z]|![^=]|\?|[\w.]+\?{1,2}\s*$|[\w, ]+=\s*[%!]).*$")

_NAMED: Final = re.compile(r"\s*([\w, ]+=)?\s*%{1,2}(\w+)")
_NUMERIC: Final = r"(?:\s+--?[A-Za-z][\w-]*(?:\s+[\d.]+(?=\s))?)*"
_CODE: Final = {
    "time": re.compile(rf"(\s*)((?:[\w, ]+=\s*)?)(%time{_NUMERIC}\s+)(.*)"),
    "timeit": re.compile(rf"(\s*)()(%{{1,2}}timeit{_NUMERIC}\s+)(.*)"),
    "prun": re.compile(r"(\s*)()(%{1,2}prun(?:\s+-(?:[rq]+|[lDsT]\s*\S+))*\s+)(.*)"),
    "memit": re.compile(rf"(\s*)()(%{{1,2}}memit{_NUMERIC}\s+)(.*)"),
}
"""Magics that run the statement after their options."""

_TEXT: Final = re.compile(
    "alias|autoreload|bookmark|capture|cd|colors|conda|config|env|gui|history|less|load|load_ext|loadpy|logstart|ls"
    "|magic|man|matplotlib|mkdir|more|mv|notebook|pastebin|pip|precision|psearch|pwd|pycat|pylab|quickref|rehashx"
    "|reload_ext|rm|rmdir|run|save|set_env|sx|system|tensorboard|uv|wandb|writefile"
)
"""Magics that take no Python; variables stand in them as ``{name}`` or ``$name``."""

_CELLS: Final = re.compile("capture|debug|memit|prun|pyinstrument|scalene|snakeviz|time|timeit|wandb")
"""Cell magics that run their content as the cell would."""

_ALIEN: Final = re.compile(
    "bash|bigquery|cmd|cython|file|html|HTML|javascript|js|latex|markdown|mermaid|perl|powershell|pypy|python[23]?|R|ruby"
    "|script|sh|sql|svg|SVG|system|sx|writefile"
)
"""Cell magics whose content is not run as Python of the notebook."""


def is_python(cell: str) -> bool:
    """Return whether a cell is code, as far as its magic tells."""
    found = re.match(r"%%(\w+)", cell.lstrip())
    return found is None or _CELLS.fullmatch(found.group(1)) is not None


def as_python(cell: str) -> str:
    """Return a cell as Python, with as many lines; of one whose magic takes the content, only the names it may use."""
    if is_python(cell):
        return "\n".join(map(_line, cell.split("\n")))
    first, _, content = cell.lstrip().partition("\n")
    found = re.match(r"%%(\w+)", first)
    alien = found is None or _ALIEN.fullmatch(found.group(1)) is not None
    return _used(_interpolated(first) if alien else _names(first) + _names(content))


def as_cell(code: str) -> str:
    """Return the cell that ``as_python`` wrote as code, with what has changed since."""
    shown = _HIDDEN.sub("", code)
    return "\n".join(map(_shown, shown.split("\n")))


def _line(line: str) -> str:
    if not _MAGIC.match(line):
        return line
    named = _NAMED.match(line)
    name = named.group(2) if named else ""
    pattern = _CODE.get(name)
    found = pattern.fullmatch(line) if pattern else None
    if found is not None:
        indent, target, magic, code = found.groups()
        written = f'{indent}["{_MARK}{"=" if target else ""}{magic}"]; {target}{code}'
        if '"' not in magic and "\\" not in magic and code.strip() and _parses(written.strip()):
            return written
    return _kept(line, _interpolated(line) if not name or _TEXT.fullmatch(name) else _names(line))


def _shown(line: str) -> str:
    """Return a line with its magic where it was."""
    found = _MARKED.match(line)
    if found is None:
        return line
    indent, assigns, magic = found.groups()
    rest = line[found.end() :]
    if not assigns:
        return f"{indent}{magic}{rest}"
    target = re.match(r"[\w, ]+=\s*", rest)
    assert target is not None  # noqa: S101 - no fixer touches what a call is assigned to
    return f"{indent}{target.group()}{magic}{rest[target.end() :]}"


def _kept(line: str, names: list[str]) -> str:
    """Return a line that stays as it is; it uses some names, so that nothing of them changes unseen."""
    indent = line[: len(line) - len(line.lstrip())]
    return f"{indent}{_used(names) or 'pass'}{_KEPT}{line}"


def _used(names: list[str]) -> str:
    return f"{_USES}({', '.join(dict.fromkeys(names))})" if names else ""


def _names(text: str) -> list[str]:
    """Return the words of a text that may be variables."""
    words = re.findall(r"(?<![\w.%\-'\"])[A-Za-z_]\w*", text)
    return [one for one in words if one.isascii() and _parses(f"{one} = 1")]


def _interpolated(line: str) -> list[str]:
    """Return the names that IPython puts into a line: ``{name}`` and ``$name``."""
    inside = " ".join(re.findall(r"\{([^{}]*)\}", line))
    return _names(inside) + [one for one in re.findall(r"(?<!\$)\$([A-Za-z_]\w*)", line) if _parses(f"{one} = 1")]


def _parses(code: str) -> bool:
    try:
        ast.parse(code)
    except (SyntaxError, ValueError):
        return False
    return True
