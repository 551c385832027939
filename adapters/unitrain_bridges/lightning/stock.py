"""Whether a method is still the one in Lightning's source: neither overridden nor replaced."""

from __future__ import annotations

import contextlib
import sys
from typing import Any

_PACKAGES = ("lightning.", "pytorch_lightning.", "lightning_fabric.")


def as_in(cls: Any, owner: Any, names: tuple[str, ...]) -> bool:
    """Return whether the methods of ``owner`` are those that Lightning defines in ``cls``.

    They are not if they are overridden, replaced on the object, or replaced in the class itself.
    """
    state = vars(owner)
    return all(
        name not in state and getattr(type(owner), name, None) is getattr(cls, name) and stock(getattr(cls, name), name)
        for name in names
    )


def stock(function: Any, name: str) -> bool:
    """Return whether a function in a class of Lightning is the one that Lightning's source has under that name."""
    code = getattr(function, "__code__", None)
    if code is None or not function.__module__.startswith(_PACKAGES) or function.__name__ != name:
        return False
    source = sys.modules[function.__module__].__file__
    return code.co_filename in (source, contextlib.__file__)  # a context manager's code is the decorator's


def does_nothing(function: Any) -> bool:
    """Return whether a function's body is no more than its docstring."""
    code, empty = function.__code__, _nothing.__code__
    return bool(code.co_code == empty.co_code and code.co_consts[-1] is None)


def _nothing() -> None:
    """Do nothing."""
