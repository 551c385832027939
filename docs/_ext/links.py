"""Checks the built pages: each link within the site leads somewhere, and no page loads anything from elsewhere."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import unquote, urlsplit

if TYPE_CHECKING:
    from pathlib import Path

_LOADS = {"script": "src", "img": "src", "source": "src", "iframe": "src", "link": "href"}
"""The attribute of an element that a browser fetches by itself."""

_SAID_ONLY = {"canonical", "author"}
"""Relations of a ``<link>`` that nothing is fetched for."""


class Read(NamedTuple):
    """What a page holds.

    Attributes:
        anchors: The ids within it.
        links: The targets of its links.
        loads: The addresses of what a browser fetches to show it.
    """

    anchors: set[str]
    links: list[str]
    loads: list[str]


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.read = Read(set(), [], [])

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.read.anchors.update(given[name] for name in ("id", "name") if name in given)
        if tag == "a" and "href" in given:
            self.read.links.append(given["href"])
        loaded = given.get(_LOADS.get(tag, ""))
        if loaded and given.get("rel") not in _SAID_ONLY:
            self.read.loads.append(loaded)


def read(page: Path) -> Read:
    """Return what a page holds."""
    reader = _Reader()
    reader.feed(page.read_text(encoding="utf-8"))
    return reader.read


def faults(site: Path) -> list[str]:
    """Return what is wrong with the links of all pages of a folder, a line for each fault."""
    pages = {page.resolve(): read(page) for page in sorted(site.rglob("*.html"))}
    found = []
    for page, held in pages.items():
        where = page.relative_to(site.resolve())
        found += [f"{where}: loads {one}" for one in held.loads if _is_elsewhere(one)]
        inner = [one for one in [*held.links, *held.loads] if not _is_elsewhere(one)]
        found += [f"{where}: {one} leads nowhere" for one in inner if not _leads(one, page, pages)]
    return found


def _is_elsewhere(address: str) -> bool:
    return bool(urlsplit(address).scheme or urlsplit(address).netloc) and not address.startswith("data:")


def _leads(address: str, page: Path, pages: dict[Path, Read]) -> bool:
    if address.startswith("data:"):
        return True
    parts = urlsplit(address)
    target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
    if not target.is_file():
        return False
    anchor = unquote(parts.fragment)
    return not anchor or target not in pages or anchor in pages[target].anchors
