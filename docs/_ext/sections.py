"""The order of the site: which page is in which section."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

HOW_TO = "How-to"
GALLERY = "gallery/index"

SECTIONS: dict[str, tuple[str, ...]] = {
    "Start": ("start",),
    "Guides": ("guides/lightning", "guides/ignite", "guides/team"),
    HOW_TO: (
        "training",
        "cli",
        "checkpoints",
        "distributed",
        "tuning",
        "reports",
        "compare",
        "monitoring",
        "export",
        "serving",
        "deployment",
        "backends",
    ),
    "Migration": ("migration",),
    "Reference": ("reference",),
    "Examples": (GALLERY,),
    "Explanation": ("equal-bits", "architecture", "benchmarks", "scale", "peers", "downstream"),
    "Project": ("versions", "policy", "changelog", "contributing", "security", "code-of-conduct"),
}
"""Names of pages without a suffix, by section. A page that does not exist is left out."""


def placed(pages: Iterable[str]) -> dict[str, list[str]]:
    """Return the pages of each section; a page that no section names is a how-to.

    Args:
        pages: The names of all pages. Those in ``reference/`` and ``gallery/`` are in the contents of a page there.
    """
    given = [name for name in pages if name == GALLERY or not name.startswith(("reference/", "gallery/"))]
    found = {section: [name for name in names if name in given] for section, names in SECTIONS.items()}
    named = {name for names in SECTIONS.values() for name in names}
    found[HOW_TO] += [name for name in given if name not in named]
    return {section: names for section, names in found.items() if names}


def navigation(pages: Iterable[str]) -> str:
    """Return the tables of contents of the first page, one for each section."""
    return "\n".join(contents(names, ":hidden:", f":caption: {section}") for section, names in placed(pages).items())


def contents(names: Iterable[str], *options: str) -> str:
    """Return a table of contents."""
    return "\n".join(["```{toctree}", *options, "", *names, "```", ""])
