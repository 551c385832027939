"""Which Engine trains, and which one evaluates."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

import libcst as cst

from unitrain.migrate.arguments import arguments
from unitrain.migrate.variables import held_by, uses

if TYPE_CHECKING:
    from collections.abc import Iterator

    from unitrain.migrate.source import Source


class Role(Enum):
    """What an Engine does."""

    TRAINER = "trainer"
    EVALUATOR = "evaluator"
    UNKNOWN = "unknown"


_FACTORIES = {
    "create_supervised_trainer": Role.TRAINER,
    "create_supervised_tbptt_trainer": Role.TRAINER,
    "create_supervised_evaluator": Role.EVALUATOR,
}
_STEPS = {
    **{f"supervised_training_step{kind}": Role.TRAINER for kind in ("", "_amp", "_apex", "_tpu")},
    **{f"supervised_evaluation_step{kind}": Role.EVALUATOR for kind in ("", "_amp")},
}
"""Ignite functions that create a process function."""

_ENGINES = {"Engine", "DeterministicEngine"}
NAMES = frozenset({*_FACTORIES, *_ENGINES})
"""Calls that create an Engine."""

_COMMENT = re.compile(r"#\s*unitrain:\s*(trainer|evaluator)\b")
_STEPPED = re.compile(r"(opt|scaler)", re.IGNORECASE)
_WITHOUT_GRADIENT = {"no_grad", "inference_mode", "eval"}


def is_engine(source: Source, call: cst.Call) -> bool:
    """Return whether a call makes an Engine."""
    name = source.name(call.func)
    last = name.rpartition(".")[2]
    return name.startswith("ignite.") and (last in _FACTORIES or last in _ENGINES)


def said(source: Source, node: cst.CSTNode) -> Role | None:
    """Return the role that a comment at the end of a statement names."""
    statement: cst.CSTNode | None = source.around(node, cst.SimpleStatementLine, cst.With, cst.For, cst.If)
    if statement is None:
        return None
    end = source.line_end(source.end(statement) - 1)
    if not isinstance(statement, cst.SimpleStatementLine):
        end = source.line_end(source.start(node))
    found = _COMMENT.search(source.between(source.start(statement), end))
    return Role(found.group(1)) if found else None


@dataclass
class Roles:
    """The roles of a file's Engines."""

    source: Source
    _known: dict[int, Role] = field(default_factory=dict)

    def of(self, call: cst.Call) -> Role:
        """Return the role of the Engine that a call makes."""
        if id(call) not in self._known:
            self._known[id(call)] = said(self.source, call) or self._decided(call)
        return self._known[id(call)]

    def _decided(self, call: cst.Call) -> Role:
        factory = _FACTORIES.get(self.source.name(call.func).rpartition(".")[2])
        if factory is not None:
            return factory
        given = arguments(self.source, call)
        process = next((one for one in given if one.keyword in ("", "process_function") and not one.star), None)
        made = None if process is None else self._made_by_ignite(process.node.value)
        if made is not None:
            return made
        functions = [] if process is None else list(self.functions(process.node.value))
        if not functions:
            return Role.UNKNOWN
        handlers = list(self._handlers(call))
        if any(self._trains(one, set()) for one in (*functions, *handlers)):
            return Role.TRAINER
        return Role.EVALUATOR if any(self._evaluates(one) for one in functions) else Role.UNKNOWN

    def _made_by_ignite(self, node: cst.CSTNode) -> Role | None:
        """Return the role of a process function that Ignite itself makes, also by way of a variable."""
        if isinstance(node, cst.Call):
            return _STEPS.get(self.source.name(node.func).rpartition(".")[2])
        scope = self.source.scope(node)
        for one in scope[node.value] if isinstance(node, cst.Name) and scope is not None else ():
            assigned = self.source.around(getattr(one, "node", node), cst.Assign)
            if assigned is not None and isinstance(assigned.value, cst.Call):
                return self._made_by_ignite(assigned.value)
        return None

    def functions(self, node: cst.BaseExpression) -> Iterator[cst.CSTNode]:
        """Yield the functions of the file that an expression may be, or may have made."""
        if isinstance(node, cst.Lambda):
            yield node
        elif isinstance(node, cst.Call):
            yield from self._made_by(node)
        elif isinstance(node, (cst.Name, cst.Attribute)):
            yield from self._named(node)

    def _named(self, node: cst.Name | cst.Attribute) -> Iterator[cst.CSTNode]:
        if isinstance(node, cst.Attribute):
            yield from self.source.functions(node.attr.value)
            return
        found = self.source.functions(node.value)
        yield from found
        scope = self.source.scope(node)
        for one in () if found or scope is None else scope[node.value]:
            assigned = self.source.around(getattr(one, "node", node), cst.Assign)
            if assigned is not None and isinstance(assigned.value, (cst.Lambda, cst.Call)):
                yield from self.functions(assigned.value)

    def _made_by(self, call: cst.Call) -> Iterator[cst.CSTNode]:
        """Yield what a call returns: the function of a partial, or one that is made within a function of the file."""
        if self.source.name(call.func).rpartition(".")[2] == "partial":
            yield from self.functions(call.args[0].value) if call.args else ()
            return
        name = call.func.value if isinstance(call.func, cst.Name) else ""
        methods = self._methods_of(name)
        yield from methods
        for made in [] if methods else self.source.functions(name):
            yield from self.source.all(cst.FunctionDef, made.body)

    def _methods_of(self, name: str) -> list[cst.FunctionDef]:
        """Return ``__call__`` of a class of the file, if an object of it is the process function."""
        classes = [one for one in self.source.all(cst.ClassDef) if one.name.value == name]
        return [
            one for owner in classes for one in self.source.all(cst.FunctionDef, owner) if one.name.value == "__call__"
        ]

    def _handlers(self, call: cst.Call) -> Iterator[cst.CSTNode]:
        """Yield the handlers of the file that are attached to an Engine."""
        variable = held_by(self.source, call)
        for use in [] if variable is None else uses(self.source, variable):
            method = self.source.parent(use)
            attach = self.source.parent(method)
            if not isinstance(method, cst.Attribute) or not isinstance(attach, cst.Call):
                continue
            if method.attr.value == "on":
                function = self.source.around(attach, cst.FunctionDef)
                decorates = isinstance(self.source.parent(attach), cst.Decorator)
                yield from [function] if function is not None and decorates else []
            elif method.attr.value == "add_event_handler" and len(attach.args) > 1:
                yield from self.functions(attach.args[1].value)

    def _trains(self, function: cst.CSTNode, seen: set[int]) -> bool:
        """Return whether a function, or one of the file that it calls, makes gradients or steps an optimizer."""
        if id(function) in seen:
            return False
        seen.add(id(function))
        for call in self.source.all(cst.Call, function):
            if isinstance(call.func, cst.Attribute):
                name, owner = call.func.attr.value, self.source.code(call.func.value)
                if name == "backward" or (name == "step" and _STEPPED.search(owner.rpartition(".")[2])):
                    return True
            if isinstance(call.func, (cst.Name, cst.Attribute)) and self._calls_one_that_trains(call.func, seen):
                return True
        return False

    def _calls_one_that_trains(self, called: cst.Name | cst.Attribute, seen: set[int]) -> bool:
        name = called.value if isinstance(called, cst.Name) else called.attr.value
        return any(self._trains(one, seen) for one in self.source.functions(name) if name not in ("run", "__init__"))

    def _evaluates(self, function: cst.CSTNode) -> bool:
        """Return whether a function switches gradients off, or the model into its evaluation mode."""
        start = function.decorators[0] if isinstance(function, cst.FunctionDef) and function.decorators else function
        first, last = self.source.start(start), self.source.end(function)
        for call in self.source.all(cst.Call):
            name = call.func.attr.value if isinstance(call.func, cst.Attribute) else self.source.code(call.func)
            if first <= self.source.start(call) < last and name in _WITHOUT_GRADIENT:
                return True
        return False
