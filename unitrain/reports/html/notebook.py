"""Small HTML for notebooks: no ids, no classes of ours, no background; it takes the colours of the notebook."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from unitrain.reports.html.markup import Content, Markup, element, escaped
from unitrain.reports.html.numbers import number

if TYPE_CHECKING:
    from collections.abc import Sequence

_MOST_ROWS = 40
_CELL = "text-align:left;padding:2px 14px 2px 0;vertical-align:top"
_NUMBER = "text-align:right;padding:2px 14px 2px 0;vertical-align:top;font-variant-numeric:tabular-nums"
_MUTED = "opacity:0.7"
_WIDTH, _HEIGHT, _POINTS = 90, 18, 90


def summary(title: str, columns: Sequence[str], rows: Sequence[Sequence[Content]], *notes: Content) -> str:
    """Return a heading, a table and lines below it.

    Args:
        title: The heading.
        columns: The headers.
        rows: One value a column; only the first ones are shown if there are many.
        *notes: The lines; empty ones are left out.
    """
    left = len(rows) - _MOST_ROWS
    more = [f"and {left} more"] if left > 0 else []
    lines = [element("div", one, style=_MUTED) for one in (*more, *notes) if one]
    table = [_table(columns, rows[:_MOST_ROWS])] if rows else []
    return str(element("div", element("div", element("b", title)), *table, *lines, style="line-height:1.45"))


def sparkline(values: Sequence[float]) -> Markup | None:
    """Return a tiny line, with gaps for NaN and infinities; None if there is nothing to draw."""
    every = max(1, math.ceil(len(values) / _POINTS))
    chosen = values[::every]
    shown = [one for one in chosen if math.isfinite(one)]
    if len(shown) < 2 or not math.isfinite(max(shown) - min(shown)):  # noqa: PLR2004 - a line has two ends
        return None
    low, high = min(shown), max(shown)
    across, up = _WIDTH / (len(chosen) - 1), (_HEIGHT - 4) / ((high - low) or 1.0)
    path, pen = "", "M"
    for index, one in enumerate(chosen):
        if math.isfinite(one):
            path += f"{pen}{index * across:.1f} {_HEIGHT - 2 - (one - low) * up:.1f}"
            pen = "L"
        else:
            pen = "M"
    drawn = element("path", d=path, fill="none", stroke="currentColor", stroke_width="1.5", stroke_linejoin="round")
    style = "vertical-align:middle;overflow:visible"
    return element("svg", drawn, width=_WIDTH, height=_HEIGHT, aria_hidden="true", style=style)


def _table(columns: Sequence[str], rows: Sequence[Sequence[Content]]) -> Markup:
    looks = [_NUMBER if all(_is_number(row[index]) for row in rows) else _CELL for index in range(len(columns))]
    head = [element("th", name, style=look) for name, look in zip(columns, looks, strict=True)]
    body = [
        element("tr", *(element("td", _cell(value), style=look) for value, look in zip(row, looks, strict=True)))
        for row in rows
    ]
    style = "border-collapse:collapse;margin:4px 0"
    return element("table", element("thead", element("tr", *head)), element("tbody", *body), style=style)


def _is_number(value: Any) -> bool:
    return value is None or (isinstance(value, (int, float)) and not isinstance(value, bool))


def _cell(value: Content) -> Markup:
    return escaped("" if value is None else value if isinstance(value, Markup) else number(value))
