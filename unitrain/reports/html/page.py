"""A whole page: its head, its style, its sections."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from unitrain.reports.html.markup import Content, Markup, element, escaped, joined

if TYPE_CHECKING:
    from collections.abc import Sequence

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
"""Nothing is loaded and no script runs, whatever is on the page."""
_FEW = 3
"""A page of so many sections needs no links to them."""


@dataclass(frozen=True)
class Section:
    """A part of a page.

    Attributes:
        title: Its heading.
        content: What is in it: markup, or texts.
        note: A few words beside the heading.
        bare: Whether it lies on the page itself, without a panel: key figures, notices.
    """

    title: str
    content: Sequence[Content]
    note: str = ""
    bare: bool = False


def page(
    title: str,
    sections: Sequence[Section],
    *,
    subtitle: Content = "",
    status: Markup | None = None,
    footer: Content = "",
) -> str:
    """Return a page as one text, which is valid HTML in UTF-8.

    Args:
        title: Its title and heading.
        sections: Its parts.
        subtitle: A line below the heading.
        status: What is beside the heading, such as a pill.
        footer: The last line.
    """
    links = [element("a", one.title, href=f"#s{index}") for index, one in enumerate(sections, 1) if one.title]
    named = [element("p.brand", "unitrain"), element("h1", title), element("p.hint", subtitle) if subtitle else None]
    body = joined(
        [
            element("header", element("div", *named), status),
            element("nav", *links, aria_label="Sections") if len(links) > _FEW else None,
            element("main", *(_section(one, index) for index, one in enumerate(sections, 1))),
            element("footer", footer) if footer else None,
        ],
        "\n",
    )
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f"{element('meta', http_equiv='Content-Security-Policy', content=_POLICY)}\n"
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n<meta name="referrer" content="no-referrer">\n'
        f"{element('title', title)}\n<style>\n{style()}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )


@cache
def style() -> str:
    """Return the style of all pages."""
    return Path(__file__).with_name("style.css").read_text("utf-8")


def _section(section: Section, index: int) -> Markup:
    note = element("span.hint", section.note) if section.note else None
    head = element("div.row", element("h2", section.title), note) if section.title else None
    kind = "bare" if section.bare else "card"
    return element(f"section.{kind}", head, *map(escaped, section.content), id=f"s{index}")
