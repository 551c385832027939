"""Signatures of classes with ``**options`` for ``help()`` and editors, and reprs with the given arguments."""

from __future__ import annotations

import inspect
import re
import reprlib
from dataclasses import MISSING, fields
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

_PLAIN = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


class Shown:
    """Shows in its ``repr`` what its constructor was given, where that is not the default.

    An argument is shown if it is kept in an attribute of its name, with or without a leading ``_``.
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
    """Return ``value`` as a person reads it: on one line, cut to what fits there, without addresses and passwords."""
    text = re.sub(r" at 0x[0-9a-fA-F]+", "", _SHORT.repr(value))
    return " ".join(re.sub(r"(?<=://)[^/@\s]+@", "", text).split())


class _Short(reprlib.Repr):
    """Python's own, with room for a path or a name."""

    def __init__(self) -> None:
        super().__init__()
        self.maxstring = self.maxother = 100

    def repr_instance(self, x: Any, level: int) -> str:
        return self.repr_str(str(x), level) if isinstance(x, PurePath) else super().repr_instance(x, level)


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
            cls.__doc__ += f"\nOptions:\n{_attributes(config.__doc__)}"
        return cls

    return decorate


def _attributes(text: str) -> str:
    """Return the section about attributes of a docstring."""
    return inspect.cleandoc(text.partition("Attributes:")[2].partition("Raises:")[0]).join(("", "\n"))
