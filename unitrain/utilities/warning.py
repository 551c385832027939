"""Warnings that show the line of the user's own code, however deep the call is."""

from __future__ import annotations

import sys
import warnings


def warn_caller(message: str, category: type[Warning] = UserWarning) -> None:
    """Warn with the line that called into unitrain.

    Args:
        message: The text of the warning.
        category: Its class.
    """
    level, frame = 1, sys._getframe()  # noqa: SLF001 - as the module warnings itself looks
    while frame.f_back is not None and str(frame.f_globals.get("__name__")).startswith("unitrain"):  # its adapters too
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level)
