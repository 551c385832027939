"""``PL_TRAINER_*``: arguments that a Trainer takes from the environment, as a script or the shell sets them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import libcst as cst

from unitrain.migrate.arguments import UNKNOWN, literal
from unitrain_bridges.lightning.supported import ENVIRONMENT

if TYPE_CHECKING:
    from collections.abc import Container, Iterator

    from unitrain.migrate.source import Source

_SETTERS = ("setdefault", "setenv", "putenv")


def set_in(source: Source) -> Iterator[tuple[cst.CSTNode, str, Any]]:
    """Yield where a script sets such a variable: the place, the variable's name, and the value, else UNKNOWN."""
    for node in source.all(cst.SimpleString):
        value = _set_to(source, node)
        if value is not None and str(node.evaluated_value).startswith(ENVIRONMENT):
            yield node, str(node.evaluated_value), meant(literal(source.code(value)))
    for given in source.all(cst.Arg):
        if given.keyword is not None and given.keyword.value.startswith(ENVIRONMENT):
            yield given, given.keyword.value, meant(literal(source.code(given.value)))


def _set_to(source: Source, name: cst.SimpleString) -> cst.CSTNode | None:
    """Return what is stored under a name: in ``environ[name]``, by ``setdefault`` and the like, or in a dict."""
    around = source.parent(name)
    if isinstance(around, cst.DictElement) and around.key is name:
        return around.value
    if isinstance(around, cst.Arg):
        call = source.parent(around)
        named = isinstance(call, cst.Call) and isinstance(call.func, cst.Attribute) and call.func.attr.value in _SETTERS
        if named and call.args[0] is around and len(call.args) > 1:  # type: ignore[attr-defined]
            return call.args[1].value  # type: ignore[attr-defined, no-any-return]
    statement = source.around(name, cst.Assign, cst.SimpleStatementLine)
    if isinstance(around, cst.Index) and isinstance(statement, cst.Assign) and len(statement.targets) == 1:
        target = statement.targets[0].target
        subscripts = isinstance(target, cst.Subscript) and len(target.slice) == 1 and target.slice[0].slice is around
        return statement.value if subscripts else None
    return None


def meant(value: Any) -> Any:
    """Return what Lightning makes of a variable's text: the value of a literal, else the text; None if it is empty."""
    if not isinstance(value, str):
        return value
    read = literal(value)
    return (value or None) if read is UNKNOWN else read


def in_force(given: Container[str], known: Container[str]) -> Iterator[tuple[str, Any]]:
    """Yield the arguments that this process's environment sets: each variable's name, and its value.

    Args:
        given: Arguments that a call sets itself.
        known: Arguments to look for.
    """
    for name, text in os.environ.items():
        argument = name.removeprefix(ENVIRONMENT).lower()
        if name.startswith(ENVIRONMENT) and argument in known and argument not in given:
            yield name, meant(text)
