"""Keeps the warnings of a run, which are shown all the same."""

from __future__ import annotations

import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def warnings_noted() -> Iterator[list[Any]]:
    """Yield a list of the warnings that are shown within."""
    noted: list[Any] = []
    show: Any = warnings.showwarning

    def note(*shown: Any) -> None:
        noted.append(warnings.WarningMessage(*shown))
        show(*shown)

    setattr(warnings, "showwarning", note)  # noqa: B010 - the only way, which Python documents
    try:
        yield noted
    finally:
        warnings.showwarning = show
