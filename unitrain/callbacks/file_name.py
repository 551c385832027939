"""Checkpoint file names: templates with counters and metrics, sanitized for file systems."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

from unitrain.errors import ConfigError, did_you_mean
from unitrain.utilities.files import LONGEST_NAME

if TYPE_CHECKING:
    from collections.abc import Container, Mapping

SUFFIX = ".ckpt"
_COUNTERS = ("epoch", "step")
_UNSAFE = re.compile(r'[/\\:*?"<>|\x00-\x1f\x7f]')
"""Characters that some file systems reject; in a metric's name, ``_`` replaces them."""

_PIECES = re.compile(r"\{([^{}]*)\}")


class _Field(NamedTuple):
    name: str
    form: str


class Template:
    """The template of a file name, such as ``"{epoch}-{val/acc:.2f}"``; it may contain the name of any metric.

    Args:
        given: The template; a trailing ``.ckpt`` is removed.

    Raises:
        ConfigError: If it cannot be the name of a file.
    """

    def __init__(self, given: object) -> None:
        if not isinstance(given, str):
            raise _refused(given, "it is not a string")
        self._given = given
        self._text = given.removesuffix(SUFFIX)
        self._fields = [found[1] for found in _PIECES.finditer(self._text)]
        literal = _PIECES.sub("", self._text)
        for wrong, why in (
            (not self._text or self._text in (".", ".."), "it is not a file name"),
            ("{" in literal or "}" in literal, "its braces do not match"),
            ("/" in literal or "\\" in literal, "it must be a file name, not a path; use dirpath= for the directory"),
            (any(ord(one) < 0x20 for one in self._text), "it contains a control character"),  # noqa: PLR2004
            (not _encodable(self._text), "it cannot be encoded"),
        ):
            if wrong:
                raise _refused(given, why)
        for field in self._fields:
            self._check(field)
        least = sum(len(field.partition(":")[0].encode()) + len("=0") for field in self._fields)
        if len(literal.encode()) + least > LONGEST_NAME - len(f"-v999{SUFFIX}"):
            raise _refused(given, f"the name would be longer than {LONGEST_NAME} bytes")

    def _check(self, field: str) -> None:
        """Refuse a field without a name, and a format that no number has."""
        name, _, form = field.rpartition(":")
        if not (name or form):
            raise _refused(self._given, "a field has no name")
        if name in _COUNTERS:
            try:
                format(0, form)
            except ValueError as error:
                raise _refused(self._given, f"{{{field}}}: {error}") from error

    def __str__(self) -> str:
        return f"ModelCheckpoint(filename={self._given!r})"

    @property
    def metrics(self) -> list[str]:
        """The fields that are not counters, with their formats."""
        return [field for field in self._fields if field.partition(":")[0] not in _COUNTERS]

    def missing(self, values: Container[str]) -> str | None:
        """Return the first field for which there is no value, or None."""
        return next((field for field in self._fields if _split(field, values) is None), None)

    def fill(self, values: Mapping[str, Any]) -> str:
        """Return the name of a file: ``{epoch}`` becomes ``epoch=3``, as Lightning names its files.

        Raises:
            ConfigError: If there is no such value, or it does not take the format.
        """
        field = self.missing(values)
        if field is not None:
            raise ConfigError(
                f"{self}: no value is named {field!r}.",
                hint=did_you_mean(field.rpartition(":")[0] or field, values),
            )
        try:
            return self._filled(values)
        except ValueError as error:
            raise _refused(self._given, str(error)) from error

    def _filled(self, values: Mapping[str, Any]) -> str:
        def one(found: re.Match[str]) -> str:
            name, form = _split(found[1], values) or _Field(found[1], "")
            return _UNSAFE.sub("_", f"{name}={format(values[name], form)}")

        return f"{_PIECES.sub(one, self._text)}{SUFFIX}"


def _split(field: str, values: Container[str]) -> _Field | None:
    """Return the name and the format of a field; a name may hold colons too."""
    if field in values:
        return _Field(field, "")
    ends = [match.start() for match in re.finditer(":", field)]
    return next((_Field(field[:end], field[end + 1 :]) for end in reversed(ends) if field[:end] in values), None)


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _refused(given: object, why: str) -> ConfigError:
    return ConfigError(f"ModelCheckpoint(filename={given!r}): {why}.", hint='filename="{epoch}-{val/loss:.2f}"')
