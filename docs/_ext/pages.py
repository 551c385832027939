"""Copies the pages of the repository for Sphinx, so that their links lead to pages of the site.

The pages are plain Markdown that a code host shows as it is. Two things differ in the copy: a link to a file of the
repository leads to its page (or, if it has none, is only text), and ``<!-- include: FILE.md#anchor -->`` becomes that
section of another page.
"""

from __future__ import annotations

import posixpath
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import unitrain
from docs._ext.sections import contents, navigation

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT = Path(__file__).parents[2]
FIRST = "index"
"""The page that a reader sees first: README.md."""

TOP = {
    "README.md": FIRST,
    "MIGRATION.md": "migration",
    "DISTRIBUTED.md": "distributed",
    "CHANGELOG.md": "changelog",
    "CONTRIBUTING.md": "contributing",
    "SECURITY.md": "security",
    "CODE_OF_CONDUCT.md": "code-of-conduct",
}
"""Pages outside of docs/, and their names in the site."""

FILES = "_files"
"""The folder of pictures and other files that pages show."""

_FENCE = re.compile(r"^(?P<mark>```+|~~~+).*?^(?P=mark)[ ]*$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"(?P<picture>!?)\[(?P<text>[^\]]*)\]\((?P<path>[^)#\s]*)(?:#(?P<anchor>[\w-]+))?\)")
_INCLUDE = re.compile(r"^<!-- include: (?P<path>[^#\s]+)#(?P<anchor>[\w-]+) -->\n", re.MULTILINE)
_NAME = re.compile(r"^\| `(?P<call>(?P<name>\w+)(?:\([^`]*\))?)` \|", re.MULTILINE)
_HEADING = re.compile(r"^(?P<level>#+) (?P<text>.*)$", re.MULTILINE)


class Page(NamedTuple):
    """A page of the repository.

    Attributes:
        path: Its path in the repository.
        name: Its name in the site, without a suffix.
    """

    path: str
    name: str


def pages() -> list[Page]:
    """Return the pages that are written by hand."""
    within = sorted((ROOT / "docs").rglob("*.md"))
    found = [Page(str(one.relative_to(ROOT)), str(one.relative_to(ROOT / "docs").with_suffix(""))) for one in within]
    return [*(Page(path, name) for path, name in TOP.items() if (ROOT / path).exists()), *found]


def home(path: str) -> str | None:
    """Return the name of the page for a path of the repository; None if there is none."""
    parts = Path(path)
    if path in TOP:
        return TOP[path]
    if parts.suffix == ".md" and parts.parts[0] == "docs":
        return str(parts.relative_to("docs").with_suffix(""))
    if parts.parts[0] == "examples" and len(parts.parts) == 1:
        return "gallery/index"
    if parts.suffix == ".py" and str(parts.parent) == "examples":
        return f"gallery/{parts.stem}"
    return None


def translated(text: str, page: Page, files: set[str]) -> str:
    """Return the text of a page as the site has it.

    Args:
        text: Markdown.
        page: Where the text comes from.
        files: Gets the paths of the files of the repository that the page shows.
    """
    kept, parts = 0, []
    for fence in _FENCE.finditer(text):
        parts += [_linked(text[kept : fence.start()], page, files), fence[0]]
        kept = fence.end()
    own = "".join([*parts, _linked(text[kept:], page, files)])
    return _INCLUDE.sub(lambda found: _included(found, page, files), own)


def _included(found: re.Match[str], page: Page, files: set[str]) -> str:
    """Return a section of another page, with links that are right where it comes to stand."""
    path = _resolved(found["path"], page)
    text = section((ROOT / path).read_text(encoding="utf-8"), found["anchor"])
    return translated(text, Page(path, page.name), files)


def section(text: str, anchor: str) -> str:
    """Return the section of a page with this anchor, its heading included.

    Raises:
        LookupError: If there is none.
    """
    # a comment of a shell begins with # too
    bare = _FENCE.sub(lambda fence: re.sub(r"[^\n]", " ", fence[0]), text)
    headings = list(_HEADING.finditer(bare))
    for index, heading in enumerate(headings):
        if slug(heading["text"]) == anchor:
            after = (one.start() for one in headings[index + 1 :] if len(one["level"]) <= len(heading["level"]))
            return text[heading.start() : next(after, len(text))]
    raise LookupError(f"no section #{anchor}")


def slug(heading: str) -> str:
    """Return the anchor of a heading, as code hosts make it."""
    return re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-")


def _resolved(path: str, page: Page) -> str:
    return posixpath.normpath(posixpath.join(posixpath.dirname(page.path), path)).rstrip("/")


def _linked(text: str, page: Page, files: set[str]) -> str:
    return _LINK.sub(lambda link: _link(link, page, files), text)


def _link(link: re.Match[str], page: Page, files: set[str]) -> str:
    if "://" in link["path"] or link["path"].startswith("mailto:"):
        return link[0]
    anchor = f"#{link['anchor']}" if link["anchor"] else ""
    path = _resolved(link["path"], page) if link["path"] else page.path
    if not (ROOT / path).exists():
        raise FileNotFoundError(f"{page.path}: {link[0]} leads nowhere")
    above = posixpath.dirname(page.name) or "."
    if link["picture"]:
        files.add(path)
        return f"![{link['text']}]({posixpath.relpath(f'{FILES}/{path}', above)})"
    name = home(path)
    if name is None:
        return link["text"]
    return f"[{link['text']}]({posixpath.relpath(name, above)}.md{anchor})"


def write(path: Path, text: str) -> None:
    """Write a page, and its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def copy(target: Path, made: Sequence[str]) -> list[str]:
    """Copy all pages to ``target``, and return their names.

    Args:
        target: The folder that Sphinx reads.
        made: The names of the pages that are generated; the navigation leads to them too.
    """
    files: set[str] = set()
    every = pages()
    names = [page.name for page in every]
    for page in every:
        text = translated((ROOT / page.path).read_text(encoding="utf-8"), page, files)
        if page.name == FIRST:
            text += "\n" + navigation([*(name for name in names if name != FIRST), *made])
        if page.name == "reference":
            text = _with_entries(text, [name for name in made if name.startswith("reference/")])
        write(target / f"{page.name}.md", text)
    for path in files:
        (target / FILES / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / path, target / FILES / path)
    return names


def _with_entries(text: str, made: Sequence[str]) -> str:
    """Return the page of the reference with a list of its pages, and with links from the names in its tables."""
    head, mark, rest = text.partition("\n## ")
    linked = _NAME.sub(
        lambda row: (
            row[0].replace(f"`{row['call']}`", f"{{py:obj}}`{row['call']} <unitrain.{row['name']}>`")
            if row["name"] in unitrain.__all__
            else row[0]
        ),
        mark + rest,
    )
    return f"{head}\n## Every name and command\n\n{contents(made, ':maxdepth: 1')}{linked}"
