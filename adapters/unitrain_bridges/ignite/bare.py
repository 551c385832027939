"""Reads the contents of a program's objects without running any code of their classes: no override, no property."""

from __future__ import annotations

from enum import Enum
from types import GetSetDescriptorType, MemberDescriptorType, MethodDescriptorType, WrapperDescriptorType
from typing import TYPE_CHECKING, Any

from torch import nn

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_NATIVE = (GetSetDescriptorType, MemberDescriptorType, MethodDescriptorType, WrapperDescriptorType)
_NOTHING: dict[str, Any] = {}


def class_of(value: Any) -> type:
    """Return the class of a value; a ``__class__`` written in Python, as of lazy proxies, is not asked.

    The proxies of wrapt, written in C, count as what they wrap.
    """
    own = type(value)
    for cls in own.__mro__:
        if "__class__" in vars(cls) and cls is not object:
            told = vars(cls)["__class__"]
            return told.__get__(value) if isinstance(told, GetSetDescriptorType) else own
    return own


def is_a(value: Any, kinds: type | tuple[type, ...]) -> bool:
    """Return whether a value is an instance, as ``isinstance`` does."""
    return issubclass(class_of(value), kinds)


def held_by(value: Any) -> dict[str, Any]:
    """Return the attributes that a value itself holds."""
    own = type(value)
    if _in_python(own, "__dict__"):
        return _NOTHING
    read = object.__getattribute__ if _in_python(own, "__getattribute__") else _static(own, "__getattribute__")
    try:
        held = read(value, "__dict__")
    except AttributeError:
        return _NOTHING
    return held if issubclass(type(held), dict) else _NOTHING


def items_in(value: Any) -> list[tuple[str, Any]] | None:
    """Return the items of a collection with the names of their keys; None if it is no collection."""
    own = type(value)
    if issubclass(own, dict):
        return [(_name(key), item) for key, item in list(dict.items(value))]
    for kind in (list, tuple, set, frozenset):
        if issubclass(own, kind):
            return [("", item) for item in kind.__iter__(value)]
    return None


def named_modules_in(module: Any, prefix: str = "") -> Iterator[tuple[str, nn.Module]]:
    """Yield the module and all its parts, each once, as ``named_modules`` of ``nn.Module`` does."""
    seen: set[int] = set()
    left = [(prefix, module)]
    while left:
        name, one = left.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        yield name, one
        parts = list(_part(one, "_modules").items())
        left += [(f"{name}.{part}" if name else part, inner) for part, inner in reversed(parts)]


def parameters_in(module: nn.Module) -> list[nn.Parameter]:
    """Return the parameters of the module and its parts."""
    held = [one for _, part in named_modules_in(module) for one in _part(part, "_parameters").values()]
    return [one for one in held if one is not None]


def has_weights(module: nn.Module) -> bool:
    """Return whether the module's ``state_dict`` would contain anything."""
    return any(_has_own_weights(part) for _, part in named_modules_in(module))


def _has_own_weights(module: nn.Module) -> bool:
    passing = held_by(module).get("_non_persistent_buffers_set", ())
    lasting = [one for name, one in _part(module, "_buffers").items() if name not in passing]
    if any(one is not None for one in (*_part(module, "_parameters").values(), *lasting)):
        return True
    return _static(type(module), "get_extra_state") is not nn.Module.get_extra_state


def _part(module: Any, name: str) -> Mapping[str, Any]:
    """Return one of the mappings of ``nn.Module``; a module whose class did not call its constructor has none."""
    held: Mapping[str, Any] = held_by(module).get(name, _NOTHING)
    return held


def _name(key: Any) -> str:
    if type(key) in (str, int):
        return str(key)
    return f"{type(key).__name__}.{key._name_}" if issubclass(type(key), Enum) else ""


def _static(own: type, name: str) -> Any:
    return next((vars(cls)[name] for cls in own.__mro__ if name in vars(cls)), None)


def _in_python(own: type, name: str) -> bool:
    """Return whether a class, not the interpreter, defines an attribute."""
    found = _static(own, name)
    return found is not None and not isinstance(found, _NATIVE)
