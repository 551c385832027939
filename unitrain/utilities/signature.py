"""Signatures of classes with ``**options`` for ``help()`` and editors, and reprs with the given arguments."""

from __future__ import annotations

import inspect
import re
import reprlib
from dataclasses import MISSING, fields
from pathlib import PurePath
from textwrap import indent
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

_PLAIN = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


class Shown:
    """Shows non-default constructor arguments in its ``repr``.

    An argument is shown if it is stored in an attribute of its name, with or without a leading ``_``.
    """

    def __repr__(self) -> str:
        """Return a call of the class."""
        parameters = list(inspect.signature(type(self).__init__).parameters.values())[1:]
        kept, found = vars(self), []
        for one in parameters:
            if one.kind in (one.VAR_POSITIONAL, one.VAR_KEYWORD):
                continue
            name = next((name for name in (f"_{one.name}", one.name) if name in kept), None)
            if name is not None and not _is_default(kept[name], one.default):
                alone = one.kind in _PLAIN and one.default is one.empty
                found.append(shown(kept[name]) if alone else f"{one.name}={shown(kept[name])}")
        return f"{type(self).__name__}({', '.join(found)})"


def _is_default(value: Any, default: Any) -> bool:
    return value is default or (type(value) is type(default) and not callable(value) and shown(value) == shown(default))


def shown(value: Any) -> str:
    """Return ``value`` for people: on one line, shortened to fit, without memory addresses and passwords."""
    text = re.sub(r" at 0x[0-9a-fA-F]+", "", _SHORT.repr(value))
    return " ".join(_without_credentials(text).split())


def _without_credentials(text: str) -> str:
    """Return a text with the URLs in it up to the last ``@`` of their host left out."""
    return re.sub(r"(?<=://)[^/\s]*@", "", text)


class _Short(reprlib.Repr):
    """Python's own ``Repr``, with room for a path or a name. It shortens a text after credentials were removed."""

    def __init__(self) -> None:
        super().__init__()
        self.maxstring = self.maxother = 100

    def repr_instance(self, x: Any, level: int) -> str:
        if isinstance(x, PurePath):
            return self.repr_str(str(x), level)
        return super().repr_instance(_Clean(x), level)

    def repr_str(self, x: str, level: int) -> str:
        return super().repr_str(_without_credentials(x), level)


class _Clean:
    """Has the repr of an object, without credentials."""

    def __init__(self, held: object) -> None:
        self._held = held

    def __repr__(self) -> str:
        try:
            return _without_credentials(repr(self._held))
        except Exception:  # noqa: BLE001 - as reprlib: whatever a repr does
            return f"<{type(self._held).__name__} instance>"


_SHORT = _Short()


def with_options(config: type[Any]) -> Callable[[type[T]], type[T]]:
    """Add the signature and documentation of a dataclass's fields to a class that takes them as ``**options``.

    Args:
        config: The dataclass.
    """
    known = [
        inspect.Parameter(
            one.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=inspect.Parameter.empty if one.default is MISSING else one.default,
            annotation=one.type,
        )
        for one in fields(config)
    ]

    def decorate(cls: type[T]) -> type[T]:
        made = vars(cls)["__init__"]
        own = [one for one in inspect.signature(made).parameters.values() if one.kind is not one.VAR_KEYWORD]
        made.__signature__ = inspect.Signature([*own, *known], return_annotation=None)
        if cls.__doc__ and config.__doc__:  # python -O leaves none
            cls.__doc__ = f"{inspect.cleandoc(cls.__doc__)}\n\nOptions:\n{_attributes(config.__doc__)}"
        return cls

    return decorate


def _attributes(text: str) -> str:
    """Return the section about attributes of a docstring, indented as a section is."""
    return indent(inspect.cleandoc(text.partition("Attributes:")[2].partition("Raises:")[0]), "    ") + "\n"
