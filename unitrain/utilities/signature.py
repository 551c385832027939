"""Shows in ``help()`` and in an editor which options a class takes by ``**options``."""

from __future__ import annotations

import inspect
from dataclasses import MISSING, fields
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


def with_options(config: type[Any]) -> Callable[[type[T]], type[T]]:
    """Give a class whose ``**options`` are the fields of a dataclass their signature and their documentation.

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
