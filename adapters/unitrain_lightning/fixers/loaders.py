"""How many loaders a call evaluates, as far as the file and its neighbours show it."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import TYPE_CHECKING

import libcst as cst

from unitrain.migrate.arguments import arguments

if TYPE_CHECKING:
    from collections.abc import Iterator

    from unitrain.migrate.source import Source

_STEPS = {"validate": "validation_step", "test": "test_step"}
_DATA = ("dataloaders", "test_dataloaders", "val_dataloaders")
_ONE = 3
"""The parameters of a step for one loader: self, batch, batch_idx. With several, Lightning insists on another one."""


def may_be_several(source: Source, call: cst.Call, method: str, folder: str | None) -> bool:
    """Return whether ``trainer.test(...)`` may evaluate several loaders, and so return one dict for each.

    Args:
        source: The file.
        call: The call.
        method: Name of the method.
        folder: The folder of the file, whose modules it may import; None if there is none.
    """
    texts = [source.text, *_neighbours(source, folder)]
    steps = [one for text in texts for one in _functions(text, _STEPS[method])]
    if steps:
        return any(_takes_several(one.args) for one in steps)
    given = [one for one in arguments(source, call) if one.keyword in _DATA or (not one.keyword and one.index == 1)]
    return not any(_is_loader(source, one.node.value) for one in given)


def _neighbours(source: Source, folder: str | None) -> Iterator[str]:
    """Yield the texts of the modules beside the file that it imports from."""
    for name in set(source.imported()) if folder is not None else ():
        path = Path(folder or ".", *name.split(".")).with_suffix(".py")
        if path.is_file():
            yield path.read_text(encoding="utf-8", errors="replace")


def _functions(text: str, name: str) -> list[ast.FunctionDef]:
    try:
        nodes = ast.walk(ast.parse(text))
    except (SyntaxError, ValueError, RecursionError):
        return []
    return [one for one in nodes if isinstance(one, ast.FunctionDef) and one.name == name]


def _takes_several(given: ast.arguments) -> bool:
    star = given.vararg is not None or given.kwarg is not None
    return star or bool(given.kwonlyargs) or len(given.posonlyargs) + len(given.args) > _ONE


def _is_loader(source: Source, node: cst.BaseExpression) -> bool:
    """Return whether an expression is a DataLoader that the file makes."""
    if isinstance(node, cst.Call):
        return source.code(node.func).rpartition(".")[2] == "DataLoader"
    named = [(target.target, one.value) for one in source.all(cst.Assign) for target in one.targets]
    values = [value for target, value in named if source.code(target) == source.code(node)]
    return bool(values) and all(isinstance(one, cst.Call) and _is_loader(source, one) for one in values)
