"""Text in columns, for a terminal."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

WIDTH = 100
"""The maximum line length."""

_GAP, _LEAST = "  ", 8


def in_columns(rows: Sequence[Sequence[str]], width: int = WIDTH) -> list[str]:
    """Return rows as lines of at most ``width`` characters; a cell that is too long continues in further lines.

    Args:
        rows: The rows, all with the same number of cells.
        width: The maximum line length.
    """
    if not rows:
        return []
    columns = list(zip(*rows, strict=True))
    widths = [max(map(len, column)) for column in columns]
    words = [max(map(len, " ".join(column).split()), default=0) for column in columns]
    while sum(widths) + len(_GAP) * (len(widths) - 1) > width and max(widths) > _LEAST:
        whole = [index for index, one in enumerate(widths) if one > words[index]]  # can shrink and break no word
        widths[max(whole or range(len(widths)), key=widths.__getitem__)] -= 1
    lines = []
    for row in rows:
        cells = [textwrap.wrap(cell, max(one, 1)) or [""] for cell, one in zip(row, widths, strict=True)]
        for index in range(max(map(len, cells))):
            parts = [cell[index] if index < len(cell) else "" for cell in cells]
            lines.append(_GAP.join(part.ljust(one) for part, one in zip(parts, widths, strict=True)).rstrip())
    return lines
