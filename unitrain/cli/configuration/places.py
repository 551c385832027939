"""Where each value of a configuration was given, so that an error can name the line or the option."""

from __future__ import annotations

import re
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from unitrain.errors import ConfigError, UnitrainError, did_you_mean
from unitrain.utilities.secrets import without_secrets

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_ARGUMENT = re.compile(r"\b(\w+)=")

Key: TypeAlias = tuple[str | int, ...]
"""The way to a value: ``("trainer", "callbacks", 0, "init_args")``."""


def dotted(key: Key) -> str:
    """Return a key as it is typed on the command line."""
    return ".".join(map(str, key))


@dataclass(frozen=True)
class Place:
    """A line of a file, or an option of the command line.

    Attributes:
        source: The file as it was named, or the option: ``"--trainer.max_epochs"``.
        line: The line, from 1; None for an option.
    """

    source: str
    line: int | None = None

    def __str__(self) -> str:
        """Return the place in the form that editors open."""
        return self.source if self.line is None else f"{self.source}:{self.line}"


@dataclass(frozen=True)
class Places:
    """The places of all keys of a configuration.

    Attributes:
        known: The place of each key that was given.
    """

    known: dict[Key, Place] = field(default_factory=dict)

    def at(self, key: Key) -> Place | None:
        """Return the place of a key, or of the nearest key around it."""
        return next((self.known[key[:end]] for end in range(len(key), -1, -1) if key[:end] in self.known), None)

    def said(self, key: Key) -> str:
        """Return the place and the key, for a message: ``run.yaml:7: trainer.max_epochs``."""
        place = self.at(key)
        if place is None:
            return dotted(key)
        option = place.source == f"--{dotted(key)}"
        return str(place) if option or not key else f"{place}: {dotted(key)}"

    def refusal(self, key: Key, message: str, hint: str) -> ConfigError:
        """Return the error for the value of ``key``."""
        return ConfigError(f"{self.said(key)}: {without_secrets(message)}", hint=hint)

    def require_known(self, key: Key, given: Iterable[object], accepted: Iterable[str]) -> None:
        """Refuse the first of the keys below ``key`` that is not ``accepted``.

        Raises:
            ConfigError: If there is one.
        """
        names = list(accepted)
        for name in given:
            if name not in names:
                own = name if type(name) is int else str(name)
                raise self.refusal((*key, own), "unknown key.", did_you_mean(str(name), names))

    @contextmanager
    def naming(self, key: Key, below: Iterable[str] = ()) -> Iterator[None]:
        """Say in an error of unitrain which key it is about.

        Args:
            key: The key.
            below: Names below it that a message may have, as ``name=``; then it is about that one.

        Raises:
            UnitrainError: The same error, with the place and the key before its message.
        """
        try:
            yield
        except UnitrainError as error:
            text = str(error).partition("\nHint: ")[0]
            named = [name for name in _ARGUMENT.findall(text) if name in {*below}]
            key = (*key, *named[:1])
            if text.startswith((f"{self.said(key)}", *(str(place) for place in self.known.values()))):
                raise
            raise type(error)(f"{self.said(key)}: {text}", hint=error.hint) from error
