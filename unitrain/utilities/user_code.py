"""Finds the user's own code in a traceback."""

from __future__ import annotations

import sysconfig
import traceback
from pathlib import Path

_UNITRAIN = str(Path(__file__).parents[1])
_LIBRARIES = ("site-packages", "dist-packages", sysconfig.get_path("stdlib"), _UNITRAIN, "<frozen ")
"""Parts of the names of files that a user has not written."""


def user_line(error: BaseException) -> str | None:
    """Return the user's line that led to an error, ``FILE:LINE``; without one, that which raised it.

    None if the error was raised by unitrain itself, or has no line.
    """
    frames = traceback.extract_tb(error.__traceback__)
    own = [one for one in frames if not any(part in one.filename for part in _LIBRARIES)]
    raising = [one for one in frames[-1:] if _UNITRAIN not in one.filename and "<frozen " not in one.filename]
    return next((f"{one.filename}:{one.lineno}" for one in reversed(own or raising)), None)
