"""Errors of LightningCLI's parser, in a few lines."""

from __future__ import annotations

import re
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_KEY = re.compile(r'Parser key "([^"]+)":\s*')
_CLASS_FORMS = re.compile(r"\s*- Not a valid subclass of .*")
_ABOUT_TYPES = re.compile(
    r"\s*(- )?(Does not validate against .*|Subtypes:.*|Errors:|Given value type:.*|Expected a <class 'NoneType'>"
    r"|Expected a path but .*)"
)
_GIVEN = re.compile(r"\s*Given value: (.*)")
_TYPE = re.compile(r"(Expected a )?<class '([\w.]+)'>")
_OBJECTS = ("Namespace(", "NestedArg(", "<")
_NOT_THE_USERS = ("site-packages", str(Path(__file__).parents[1]))


def condensed(message: str) -> str:
    """Return what a message says of the value that was given, without the types that it was compared with.

    Args:
        message: The message of jsonargparse: for each type of a union, why the value is not of it.
    """
    key = _KEY.search(message)
    found: list[str] = []
    forms: int | None = None  # the indent of a line that explains how to write a class, with the lines below it
    for line in _KEY.sub("", message).splitlines():
        indent = len(line) - len(line.lstrip())
        if forms is not None and indent > forms:
            continue
        forms = indent if _CLASS_FORMS.match(line) else None
        said = None if forms is not None else _said(line)
        if said:
            found.append(said)
    text = "; ".join(dict.fromkeys(found)).replace(":; ", ": ") or message
    return _TYPE.sub(_named, text if key is None else f"{key[1]}: {text}")


def _named(found: re.Match[str]) -> str:
    return f"expected {found[2]}" if found[1] else found[2]


def _said(line: str) -> str | None:
    """Return what a line says of the value; None if it is about types, or shows an object."""
    given = _GIVEN.match(line)
    if given is not None:
        return None if given[1].lstrip("[").startswith(_OBJECTS) else f"got {given[1]}"
    return None if _ABOUT_TYPES.fullmatch(line) else line.strip().removeprefix("- ")


def told(error: BaseException) -> str:
    """Return what an error of a class's own says, with the last line of the user's code, if there is any.

    The parser raises a ValueError with the messages of the errors that it caught.
    """
    message = condensed(str(error))
    own = next((one for one in reversed(_chain(error)) if str(one) and str(one) in str(error)), error)
    lines = [line for one in _chain(error) for line in _lines(one)]
    return f"{type(own).__name__}: {message}{f' ({lines[-1]})' if lines else ''}"


def _chain(error: BaseException) -> list[BaseException]:
    """Return an error, what caused it, what caused that, and so on."""
    cause = error.__cause__ or error.__context__
    return [error] if cause is None else [error, *_chain(cause)]


def _lines(error: BaseException) -> Iterator[str]:
    """Yield the lines of the user's own code in a traceback."""
    for frame in traceback.extract_tb(error.__traceback__):
        if Path(frame.filename).is_file() and not any(one in frame.filename for one in _NOT_THE_USERS):
            yield f"{frame.filename}:{frame.lineno}"
