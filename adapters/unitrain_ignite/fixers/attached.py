"""What handlers are attached to, and which functions are handlers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import libcst as cst

if TYPE_CHECKING:
    from collections.abc import Iterator

    from unitrain.migrate.source import Source

_ATTACH = "add_event_handler"
_PROPERTIES = {"property", "cached_property", "functools.cached_property"}


def with_handlers(source: Source) -> set[str]:
    """Return the expressions to which handlers of Ignite's events are attached: engines, wherever they come from."""
    return {source.code(call.func.value) for call in _attaching(source) if _names_events(source, call)}  # type: ignore[attr-defined]


def is_handler(source: Source, call: cst.Call) -> bool:
    """Return whether a call is all that a lambda does which is attached as a handler: nobody sees its value."""
    around = source.parent(call)
    if not isinstance(around, cst.Lambda):
        return False
    given = source.parent(around)
    attach = source.parent(given) if isinstance(given, cst.Arg) else None
    return isinstance(attach, cst.Call) and _attaches(attach)


def in_handler(source: Source, node: cst.CSTNode) -> bool:
    """Return whether a node is within a function that is attached as a handler."""
    attached = {source.code(one.value) for call in _attaching(source) for one in call.args}
    for around in source.ancestors(node):
        if isinstance(around, cst.Lambda):
            return True
        if isinstance(around, cst.FunctionDef) and (_decorated(around) or _known(around.name.value, attached)):
            return True
    return False


def is_property(source: Source, function: cst.FunctionDef) -> bool:
    """Return whether a function is read as an attribute."""
    return any(source.code(one.decorator) in _PROPERTIES for one in function.decorators)


def _attaching(source: Source) -> Iterator[cst.Call]:
    return (call for call in source.all(cst.Call) if _attaches(call))


def _attaches(call: cst.Call) -> bool:
    return isinstance(call.func, cst.Attribute) and call.func.attr.value in ("on", _ATTACH) and bool(call.args)


def _names_events(source: Source, call: cst.Call) -> bool:
    names = (source.name(one) for given in call.args for one in source.all(cst.Attribute, given))
    return any(name.startswith("ignite.") and ".Events." in name for name in names)


def _decorated(function: cst.FunctionDef) -> bool:
    return any(isinstance(one.decorator, cst.Call) and _attaches(one.decorator) for one in function.decorators)


def _known(name: str, attached: set[str]) -> bool:
    return name in attached or f"self.{name}" in attached
