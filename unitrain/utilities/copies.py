"""Copies of user objects."""

from __future__ import annotations

import copy
from typing import TypeVar

from unitrain.errors import ConfigError

T = TypeVar("T")


def copied(what: str, given: T, hint: str) -> T:
    """Return a deep copy.

    Args:
        what: Description of the object, for messages.
        given: The object to copy.
        hint: The hint if it cannot be copied.

    Raises:
        ConfigError: If it cannot be copied.
    """
    try:
        return copy.deepcopy(given)
    except Exception as error:
        raise ConfigError(
            f"{what} cannot be copied by copy.deepcopy: {type(error).__name__}: {error}.", hint=hint
        ) from error
