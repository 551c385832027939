"""The values that an expression may have, as far as the file shows them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import libcst as cst

from unitrain.migrate.arguments import UNKNOWN, arguments, literal
from unitrain.migrate.origins import origins

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from unitrain.migrate.source import Source

A_FLOAT: Final = 0.5
"""Stands for a float that the file does not tell."""

A_SCALAR: Final = object()
"""Stands for a number of NumPy, or a tensor."""

_NUMBERS: Final = {"float": A_FLOAT, "torch.tensor": A_SCALAR}


def values(source: Source, node: cst.CSTNode) -> list[Any]:
    """Return what an expression may be: literals, A_FLOAT, A_SCALAR, and UNKNOWN for all that is not seen.

    Variables, attributes, parameters and the options of ``argparse`` are followed within the file.
    """
    return list(_values(source, node, set()))


def is_scalar(value: Any) -> bool:
    """Return whether a value stands for a number of NumPy, or a tensor."""
    return value is A_SCALAR


def _values(source: Source, node: cst.CSTNode | None, seen: set[int]) -> Iterator[Any]:
    if node is None:
        yield UNKNOWN
    elif id(node) not in seen:
        seen.add(id(node))
        known = literal(cst.Module([]).code_for_node(node)) if isinstance(node, cst.BaseExpression) else UNKNOWN
        yield from _seen(source, node, seen) if known is UNKNOWN else [known]


def _seen(source: Source, node: cst.CSTNode, seen: set[int]) -> Iterator[Any]:
    """Yield what an expression may be that is not a literal."""
    if isinstance(node, cst.IfExp):
        yield from _each(source, (node.body, node.orelse), seen)
    elif isinstance(node, cst.BooleanOperation):
        yield from _chosen(source, node, seen)
    elif isinstance(node, cst.BinaryOperation):
        yield _computed(node, list(_each(source, (node.left, node.right), seen)))
    elif isinstance(node, cst.Call):
        yield from _made(source, node, seen)
    elif isinstance(node, (cst.Name, cst.Attribute)):
        yield from _each(source, origins(source, node), seen)
    else:
        yield UNKNOWN


def _each(source: Source, nodes: Iterable[cst.CSTNode | None], seen: set[int]) -> Iterator[Any]:
    for node in nodes:
        yield from _values(source, node, seen)


def _chosen(source: Source, node: cst.BooleanOperation, seen: set[int]) -> Iterator[Any]:
    """Yield the values of ``x or y``, which is only x where that is true, or of ``x and y``."""
    wanted = isinstance(node.operator, cst.Or)
    for one in _values(source, node.left, seen):
        if one is UNKNOWN or bool(one) is wanted:
            yield one
    yield from _values(source, node.right, seen)


def _computed(node: cst.BinaryOperation, parts: list[Any]) -> Any:
    if any(one is A_SCALAR for one in parts):
        return A_SCALAR
    divides = isinstance(node.operator, cst.Divide)
    return A_FLOAT if divides or any(isinstance(one, float) for one in parts) else UNKNOWN


def _made(source: Source, call: cst.Call, seen: set[int]) -> Iterator[Any]:
    """Yield what a call makes, of which only the kind is known; for an option of argparse also its default."""
    if isinstance(call.func, cst.Attribute) and call.func.attr.value == "add_argument":
        yield from _option(source, call, seen)
        return
    name = source.name(call.func) or source.code(call.func)
    yield A_SCALAR if name.startswith("numpy.") else _NUMBERS.get(name, UNKNOWN)


def _option(source: Source, call: cst.Call, seen: set[int]) -> Iterator[Any]:
    given = {one.keyword: one for one in arguments(source, call)}
    if "type" in given and given["type"].text == "float":
        yield A_FLOAT
    if "default" in given:
        yield from _values(source, given["default"].node.value, seen)
        return
    starred = any(one.star for one in arguments(source, call))
    may_be_left_out = any(not one.keyword and one.text[1:2] == "-" and not one.star for one in arguments(source, call))
    yield None if may_be_left_out and not given.keys() & _GIVEN and not starred else UNKNOWN


_GIVEN: Final = frozenset({"action", "nargs", "required"})
"""Arguments with which an option may have another value than None where it is left out."""
