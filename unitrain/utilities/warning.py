"""Warnings that show the line of the user's own code, however deep the call is."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from typing import Final

_OURS: Final = str(Path(__file__).parents[1])


def warn_caller(message: str) -> None:
    """Warn with the line that called into unitrain.

    Args:
        message: The text of the warning.
    """
    level, frame = 1, sys._getframe()  # noqa: SLF001 - as the module warnings itself looks
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_OURS):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, stacklevel=level)
