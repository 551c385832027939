"""Where a variable, a parameter or an attribute gets its values within a file."""

from __future__ import annotations

from typing import TYPE_CHECKING

import libcst as cst

from unitrain.migrate.arguments import arguments, literal
from unitrain.migrate.variables import given_to

if TYPE_CHECKING:
    from collections.abc import Iterator

    from unitrain.migrate.source import Source


def origins(source: Source, node: cst.Name | cst.Attribute) -> list[cst.CSTNode | None]:
    """Return the expressions that a name or an attribute may hold, and None for what is not seen.

    An option of ``argparse`` is the call of ``add_argument``.
    """
    found = list(_of_name(source, node) if isinstance(node, cst.Name) else _of_attribute(source, node))
    return found or [None]


def _of_name(source: Source, node: cst.Name) -> Iterator[cst.CSTNode | None]:
    scope = source.scope(node)
    for one in () if scope is None else scope[node.value]:
        target = getattr(one, "node", None)
        around = None if target is None else source.parent(target)
        if isinstance(target, cst.Param) or isinstance(around, cst.Param):
            parameter = target if isinstance(target, cst.Param) else around
            yield from _of_parameter(source, parameter)  # type: ignore[arg-type]
        elif isinstance(around, (cst.For, cst.CompFor)):
            yield from _elements(around.iter)
        else:
            yield None if target is None else given_to(source, target)


def _elements(node: cst.BaseExpression) -> Iterator[cst.CSTNode | None]:
    """Yield what a loop over an expression goes through."""
    if isinstance(node, (cst.Tuple, cst.List, cst.Set)):
        yield from (one.value for one in node.elements)
    else:
        yield None


def _of_parameter(source: Source, parameter: cst.Param) -> Iterator[cst.CSTNode | None]:
    """Yield the default of a parameter, and what the calls in the file give to it."""
    yield parameter.default
    function = source.around(parameter, cst.FunctionDef, cst.Lambda)
    if not isinstance(function, cst.FunctionDef):
        return
    known = [*function.params.posonly_params, *function.params.params]
    place = known.index(parameter) if parameter in known else -1
    for call in source.all(cst.Call):
        called = call.func.attr if isinstance(call.func, cst.Attribute) else call.func
        if not isinstance(called, cst.Name) or called.value != function.name.value:
            continue
        bound = isinstance(call.func, cst.Attribute) and source.around(function, cst.ClassDef) is not None
        for given in arguments(source, call):
            by_place = not given.keyword and place >= 0 and given.index + bound == place
            if not given.star and (given.keyword == parameter.name.value or by_place):
                yield given.node.value


# --- attributes -------------------------------------------------------------------------------------------------------


def _of_attribute(source: Source, node: cst.Attribute) -> Iterator[cst.CSTNode | None]:
    name, written = node.attr.value, source.code(node)
    owner = _owner(source, node.value)
    for one in source.all(cst.Attribute):
        same = source.code(one) == written or (source.code(one) == f"self.{name}" and _within(source, one, owner))
        value = given_to(source, one) if same else None
        if value is not None:
            yield value
    for statement in () if owner is None else owner.body.body:
        for target in source.all(cst.Name, statement) if isinstance(statement, cst.SimpleStatementLine) else ():
            value = given_to(source, target) if target.value == name else None
            if value is not None:
                yield value
    if owner is None:
        yield from (call for call in source.all(cst.Call) if _option(source, call) == name)


def _owner(source: Source, node: cst.BaseExpression) -> cst.ClassDef | None:
    """Return the class of the file that an expression names, or of which it is an object."""
    if not isinstance(node, cst.Name):
        return None
    if node.value == "self":
        return source.around(node, cst.ClassDef)
    made = [one.func for one in origins(source, node) if isinstance(one, cst.Call)]
    names = {node.value, *(one.value for one in made if isinstance(one, cst.Name))}
    return next((one for one in source.all(cst.ClassDef) if one.name.value in names), None)


def _within(source: Source, node: cst.CSTNode, owner: cst.ClassDef | None) -> bool:
    return owner is not None and source.around(node, cst.ClassDef) is owner


def _option(source: Source, call: cst.Call) -> str:
    """Return the attribute under which ``argparse`` keeps an option; empty if a call makes none."""
    if not isinstance(call.func, cst.Attribute) or call.func.attr.value != "add_argument":
        return ""
    given = arguments(source, call)
    named = [literal(one.text) for one in given if one.keyword == "dest"]
    words = [literal(one.text) for one in given if not one.keyword and not one.star]
    names = [one for one in named or words if isinstance(one, str)]
    chosen = next((one for one in names if one.startswith("--")), names[0] if names else "")
    return chosen.lstrip("-").replace("-", "_")


# --- mappings ---------------------------------------------------------------------------------------------------------


def unpacked(source: Source, call: cst.Call) -> Iterator[tuple[str, cst.CSTNode]]:
    """Yield the names that the ``**mappings`` of a call bring, as far as they are written out, with their values."""
    for given in call.args:
        if given.star == "**":
            yield from items(source, given.value)


def items(source: Source, node: cst.BaseExpression) -> Iterator[tuple[str, cst.CSTNode]]:
    """Yield the names that a mapping holds, as far as they are written out, with their values."""
    for one in origins(source, node) if isinstance(node, (cst.Name, cst.Attribute)) else [node]:
        yield from _items(source, one)


def _items(source: Source, node: cst.CSTNode | None) -> Iterator[tuple[str, cst.CSTNode]]:
    """Yield what ``{"name": value}`` or ``dict(name=value)`` holds."""
    if isinstance(node, cst.Dict):
        for one in node.elements:
            key = literal(source.code(one.key)) if isinstance(one, cst.DictElement) else None
            if isinstance(key, str):
                yield key, one.value
    elif isinstance(node, cst.Call) and source.code(node.func) == "dict":
        yield from ((one.keyword.value, one.value) for one in node.args if one.keyword is not None)
