"""Tracks the variables that hold the result of a call, and their uses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import libcst as cst

if TYPE_CHECKING:
    from collections.abc import Iterable

    from libcst.metadata.scope_provider import Scope

    from unitrain.migrate.source import Source


@dataclass(frozen=True)
class Holder:
    """A variable.

    Attributes:
        name: ``trainer``, or ``self.trainer``.
        scope: The scope of a plain name.
        owner: The class of an attribute.
    """

    name: str
    scope: Scope | None = None
    owner: cst.ClassDef | None = None

    @property
    def key(self) -> tuple[str, int]:
        """The identity of a variable."""
        return self.name, id(self.scope or self.owner)


def value_of(source: Source, call: cst.CSTNode) -> cst.CSTNode:
    """Return the node whose value the call is: itself, or the ``x if y else z`` that chooses it."""
    node = call
    while True:
        around = source.parent(node)
        chosen = isinstance(around, cst.IfExp) and node is not around.test
        named = isinstance(around, cst.NamedExpr)
        if not (chosen or named):
            return node
        node = around


def held_by(source: Source, call: cst.CSTNode) -> Holder | None:
    """Return the variable that a call's value is assigned to, if it is one."""
    node = value_of(source, call)
    around = source.parent(node)
    target: cst.CSTNode | None = None
    if isinstance(around, cst.Assign) and len(around.targets) == 1:
        target = around.targets[0].target
    elif isinstance(around, cst.AnnAssign):
        target = around.target
    elif isinstance(node, cst.NamedExpr):
        target = node.target
    elif isinstance(around, cst.Element):
        target = _paired(source, around)
    return None if target is None else holder(source, target)


def _paired(source: Source, element: cst.Element) -> cst.CSTNode | None:
    """Return the name that ``a, b = x, y`` gives to an element of its right side."""
    values = source.parent(element)
    statement = source.parent(values)
    if not isinstance(values, cst.Tuple) or not isinstance(statement, cst.Assign) or len(statement.targets) != 1:
        return None
    targets = statement.targets[0].target
    if not isinstance(targets, (cst.Tuple, cst.List)):
        return None
    starred = any(isinstance(one, cst.StarredElement) for one in (*targets.elements, *values.elements))
    if starred or len(targets.elements) != len(values.elements):
        return None
    return targets.elements[list(values.elements).index(element)].value


def holder(source: Source, target: cst.CSTNode) -> Holder | None:
    """Return the variable that an expression names: a plain name, or an attribute of ``self``."""
    if isinstance(target, cst.Name):
        return Holder(target.value, scope=_scope_of(source, target))
    if isinstance(target, cst.Attribute) and isinstance(target.value, cst.Name) and target.value.value == "self":
        return Holder(f"self.{target.attr.value}", owner=source.around(target, cst.ClassDef))
    return None


def _scope_of(source: Source, name: cst.Name) -> Scope | None:
    """Return the scope in which a name is assigned, wherever it is used."""
    scope = source.scope(name)
    if scope is None:
        return None
    for one in scope[name.value]:
        return one.scope
    return scope


def _assigned(source: Source, variable: Holder) -> list[cst.CSTNode]:
    """Return the nodes that assign to a variable."""
    if variable.scope is not None:
        return [one.node for one in variable.scope[variable.name] if hasattr(one, "node")]
    return [
        node
        for node in source.all(cst.Attribute, variable.owner)
        if _is_target(source, node) and source.code(node) == variable.name
    ]


def _is_target(source: Source, node: cst.CSTNode) -> bool:
    around = source.parent(node)
    if isinstance(around, cst.Element):
        around = source.parent(source.parent(around))
    return isinstance(around, cst.AssignTarget) or (isinstance(around, cst.AnnAssign) and around.target is node)


def _value(source: Source, target: cst.CSTNode) -> cst.BaseExpression | None:
    around = source.parent(target)
    if isinstance(around, cst.Element):
        return _opposite(source, around)
    if isinstance(around, cst.AssignTarget):
        statement = source.parent(around)
        return statement.value if isinstance(statement, cst.Assign) else None
    return around.value if isinstance(around, (cst.AnnAssign, cst.NamedExpr)) else None


def given_to(source: Source, target: cst.CSTNode) -> cst.BaseExpression | None:
    """Return the value that an assignment gives to a name or an attribute; None if it is no target, or not seen."""
    around = source.parent(target)
    if isinstance(around, cst.NamedExpr) and around.target is not target:
        return None
    if isinstance(around, cst.AnnAssign) and around.target is not target:
        return None
    if isinstance(around, (cst.Element, cst.AssignTarget, cst.AnnAssign, cst.NamedExpr)):
        return _value(source, target)
    return None


def _opposite(source: Source, element: cst.Element) -> cst.BaseExpression | None:
    """Return the value that an element of ``a, b`` in ``a, b = x, y`` gets."""
    targets = source.parent(element)
    statement = source.parent(source.parent(targets))
    value = statement.value if isinstance(statement, cst.Assign) else None
    if not isinstance(targets, (cst.Tuple, cst.List)) or not isinstance(value, cst.Tuple):
        return None
    index = list(targets.elements).index(element)
    return value.elements[index].value if len(value.elements) == len(targets.elements) else None


def others(source: Source, variable: Holder, known: Iterable[cst.CSTNode]) -> list[cst.CSTNode]:
    """Return the places that give a variable anything but the known values, or None."""
    values = {id(value_of(source, one)) for one in known}
    found = []
    for target in _assigned(source, variable):
        value = _value(source, target)
        nothing = isinstance(value, cst.Name) and value.value == "None"
        declared = value is None and isinstance(source.parent(target), cst.AnnAssign)
        named = isinstance(value, cst.NamedExpr) and id(value) in values
        if not (declared or nothing or named or id(value) in values or id(source.parent(target)) in values):
            found.append(target)
    return found


def uses(source: Source, variable: Holder) -> list[cst.CSTNode]:
    """Return the places where a variable is read, in the order of the file."""
    if variable.scope is not None:
        found = {id(access.node): access.node for one in variable.scope[variable.name] for access in one.references}
        nodes: list[cst.CSTNode] = [node for node in found.values() if not _is_target(source, node)]
    else:
        nodes = [
            node
            for node in source.all(cst.Attribute, variable.owner)
            if source.code(node) == variable.name and not _is_target(source, node)
        ]
    return sorted(nodes, key=source.start)


def is_statement(source: Source, node: cst.CSTNode) -> bool:
    """Return whether the value of an expression is thrown away."""
    around = source.parent(node)
    if isinstance(around, cst.Await):
        around = source.parent(around)
    return isinstance(around, cst.Expr)


def bases(source: Source, owner: cst.ClassDef) -> list[str]:
    """Return the imported names that a class descends from, through the classes of the file."""
    found, waiting, seen = [], [owner], set()
    classes = {one.name.value: one for one in source.all(cst.ClassDef)}
    while waiting:
        one = waiting.pop()
        seen.add(id(one))
        for base in one.bases:
            found.append(source.name(base.value))
            local = classes.get(base.value.value) if isinstance(base.value, cst.Name) else None
            if local is not None and id(local) not in seen:
                waiting.append(local)
    return [name for name in found if name]
