"""The part of unitrain that serves a file: a bundle carries it.

The image then runs the release that has tried the model, needs no torch for ONNX, though the package depends on it, and
takes nothing of ours from an index.
"""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

from unitrain.export.formats.table import FORMATS

if TYPE_CHECKING:
    from collections.abc import Iterator

_ROOT: Final = Path(__file__).parents[3]
_OURS: Final = "unitrain"
_SERVICE: Final = ("unitrain.serving.serve", "unitrain.serving.process")
_OF_ONNX: Final = ("unitrain.serving.models.onnx_file",)
_OF_TORCH: Final = ("unitrain.serving.models.torch_file",)
_DATA: Final = (".css", ".html", ".js")


@cache
def vendored(format: str) -> dict[str, bytes]:  # noqa: A002 - as everyone calls it
    """Return the files that serve a file of ``format``, by their path in the bundle."""
    own = _OF_ONNX if format == "onnx" else (*_OF_TORCH, FORMATS[format].module)
    wanted, found = [*_SERVICE, *own], {}
    while wanted:
        module = wanted.pop()
        if module not in found:
            found[module] = _file_of(module)
            wanted += [module.rpartition(".")[0]] if "." in module else []
            wanted += _imported(found[module])
    files = [*found.values(), *(data for file in found.values() for data in _data_beside(file))]
    return {file.relative_to(_ROOT).as_posix(): file.read_bytes() for file in sorted(set(files))}


def _file_of(module: str) -> Path:
    place = _ROOT.joinpath(*module.split("."))
    return place / "__init__.py" if place.is_dir() else place.with_suffix(".py")


def _data_beside(file: Path) -> Iterator[Path]:
    if file.name == "__init__.py":
        yield from (one for one in file.parent.iterdir() if one.suffix in _DATA)


def _imported(file: Path) -> list[str]:
    """Return the modules of unitrain that a module imports, also those on demand."""
    return [one for node in _runs(ast.parse(file.read_bytes())) for one in _named(node) if _is_ours(one)]


def _runs(node: ast.AST) -> Iterator[ast.AST]:
    """Yield what runs: all but the blocks for type checkers."""
    yield node
    for child in ast.iter_child_nodes(node):
        if not (isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test)):
            yield from _runs(child)


def _named(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (one.name for one in node.names)
    elif isinstance(node, ast.ImportFrom) and node.module:
        yield node.module
        yield from (f"{node.module}.{one.name}" for one in node.names)


def _is_ours(module: str) -> bool:
    return module.partition(".")[0] == _OURS and _file_of(module).is_file()
