"""What a section is made of: tables, definitions, cards, notices, code."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from unitrain.reports.html.markup import Content, Markup, element, escaped
from unitrain.reports.html.numbers import number

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

KINDS = ("", "best", "good", "bad", "warm", "muted")
"""How a row, a card, a pill or a notice may look."""


@dataclass(frozen=True)
class Row:
    """A row of a table that looks other than its neighbours.

    Attributes:
        cells: As the other rows.
        kind: One of KINDS.
    """

    cells: Sequence[Content]
    kind: str = ""


@dataclass(frozen=True)
class Card:
    """A key figure.

    Attributes:
        name: What it is.
        value: A number or a short text.
        kind: One of KINDS.
        note: A few more words.
    """

    name: str
    value: Content
    kind: str = ""
    note: str = field(default="")


def table(
    columns: Sequence[str], rows: Iterable[Sequence[Content] | Row], *, caption: str = "", right: Sequence[str] = ()
) -> Markup:
    """Return a table; numbers are aligned to the right, None is an empty cell.

    Args:
        columns: The headers.
        rows: One value a column; markup stays markup.
        caption: A text above it.
        right: Columns that are aligned to the right too, such as times with their units.
    """
    lines = [one if isinstance(one, Row) else Row(one) for one in rows]
    numeric = [_is_numeric([line.cells[index] for line in lines]) for index in range(len(columns))]
    looks = ["number" if one or name in right else "" for one, name in zip(numeric, columns, strict=True)]
    head = element("tr", *(element(f"th.{look}", name, scope="col") for name, look in zip(columns, looks, strict=True)))
    body = [_row(line, looks) for line in lines]
    told = element("caption", caption) if caption else None
    inner = element("table", told, element("thead", head), element("tbody", *body))
    return element("div.scroll", inner, tabindex=0)


def _row(row: Row, looks: Sequence[str]) -> Markup:
    cells = [element(f"td.{look}", _cell(value)) for value, look in zip(row.cells, looks, strict=True)]
    return element(f"tr.{row.kind}", *cells)


def _cell(value: Content) -> Markup:
    return escaped("" if value is None else value if isinstance(value, Markup) else number(value))


def _is_numeric(values: Iterable[Any]) -> bool:
    given = [one for one in values if one is not None and one != ""]
    return bool(given) and all(isinstance(one, (int, float)) and not isinstance(one, bool) for one in given)


def definitions(facts: Mapping[str, Content]) -> Markup:
    """Return names and their values; those that are None are left out."""
    pairs = [
        element("div", element("dt", name), element("dd", _cell(value)))
        for name, value in facts.items()
        if value is not None
    ]
    return element("dl.facts", *pairs)


def cards(figures: Iterable[Card]) -> Markup:
    """Return key figures side by side."""
    return element("div.cards", *(_card(one) for one in figures))


def _card(card: Card) -> Markup:
    note = element("small", card.note) if card.note else None
    return element(f"div.figure.{card.kind}", element("span", card.name), element("b", _cell(card.value)), note)


def bars(values: Mapping[str, float]) -> Markup:
    """Return a bar for each value, the largest over the whole width."""
    most = max((one for one in values.values() if math.isfinite(one)), default=0.0)
    return element("div.bars", *(_bar(name, value, most) for name, value in values.items()))


def _bar(name: str, value: float, most: float) -> Markup:
    share = max(0.0, 100 * value / most) if most > 0 and math.isfinite(value) else 0.0
    drawn = element("span.bar", element("i", style=f"width:{share:.1f}%"))
    return element("div", element("span", name), drawn, element("span", f"{value:.3g}"))


def notice(*content: Content, kind: str = "warm") -> Markup:
    """Return something that a person must not miss; ``kind`` is one of KINDS."""
    return element(f"div.notice.{kind}", *content, role="note")


def paragraph(*content: Content) -> Markup:
    """Return a paragraph."""
    return element("p", *content)


def pill(text: str, kind: str = "") -> Markup:
    """Return a short text with a coloured dot, such as a status."""
    return element(f"span.pill.{kind}", text)


def code(text: str) -> Markup:
    """Return a text as it is, in a font of equal widths."""
    return element("pre", text)


def fold(summary: Content, *content: Content, is_open: bool = False) -> Markup:
    """Return content that opens by a click; it is printed open."""
    return element("details", element("summary", summary), *content, **({"open": "open"} if is_open else {}))


def beside(*content: Content) -> Markup:
    """Return charts, or anything else, side by side where there is room."""
    return element("div.beside", *content)


def image(data: str, described: str) -> Markup:
    """Return a picture within the page, on white paper.

    Args:
        data: A ``data:`` address.
        described: What it shows, for those who do not see it.

    Raises:
        ValueError: If the address would be loaded from elsewhere.
    """
    if not data.startswith("data:image/"):
        raise ValueError(f"a picture is part of the page: data:image/..., got {data[:40]!r}")
    return element("img", src=data, alt=described)
