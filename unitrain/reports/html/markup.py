"""HTML elements whose texts and attributes are always escaped."""

from __future__ import annotations

import re
from html import escape
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterable

_HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff\ufffe\uffff]"
)
"""Characters that HTML or UTF-8 does not have, or that reorder or hide what stands beside them."""
_VOID = frozenset({"img", "meta"})


class Markup(str):
    """HTML that is inserted as it is. Only `element` and `joined` make it."""

    __slots__ = ()


Content: TypeAlias = Any
"""Markup, or any other value, whose text is escaped."""


def escaped(value: Content) -> Markup:
    """Return a value as HTML: markup as it is, the text of anything else escaped."""
    if isinstance(value, Markup):
        return value
    return Markup(escape(visible(str(value))))


def visible(text: str) -> str:
    """Return a text with characters that cannot be seen or encoded written as escapes."""
    return _HIDDEN.sub(lambda found: ascii(found[0])[1:-1], text.replace("\r\n", "\n"))


def element(tag: str, *content: Content, **attributes: Content) -> Markup:
    """Return an element.

    Args:
        tag: Its name, and those of its classes: ``"td.number"``.
        *content: What is in it; None is left out.
        **attributes: Its attributes; ``_`` stands for ``-``, a trailing ``_`` is dropped, None leaves one out.
    """
    name, *classes = tag.split(".")
    given = ({"class_": " ".join(filter(None, classes))} if any(classes) else {}) | attributes
    told = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{_attribute(value)}"'
        for key, value in given.items()
        if value is not None
    )
    return Markup(f"<{name}{told}>" if name in _VOID else f"<{name}{told}>{joined(content)}</{name}>")


def joined(parts: Iterable[Content], between: str = "") -> Markup:
    """Return parts in a row; None is left out."""
    return Markup(between.join(escaped(one) for one in parts if one is not None))


def _attribute(value: Content) -> str:
    """Return the value of an attribute; markup is escaped too, because it is no markup there."""
    return escape(visible(str(value)))
