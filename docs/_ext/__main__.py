"""Builds the site into ``.site/html``: ``make site``."""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from sphinx.cmd.build import build_main

from docs._ext import commands, gallery, links, pages, reference

if TYPE_CHECKING:
    from collections.abc import Sequence


def build(site: Path, wanted: set[str] | None) -> int:
    """Build the site, and return 0 if there is no warning and no broken link.

    Args:
        site: The folder for ``html``, the ``pages`` that it is made of, and ``gallery``, which later builds use.
        wanted: Names of the examples to run; None means all.
    """
    source, html, trees = (site / name for name in ("pages", "html", "doctrees"))
    for folder in (source, html, trees):  # what an earlier build left would be linked to
        shutil.rmtree(folder, ignore_errors=True)
    made = [
        *reference.copy(source),
        commands.copy(source),
        *gallery.copy(source, site / "gallery", wanted),
    ]
    pages.copy(source, made)
    options = ["--fail-on-warning", "--quiet", "-c", str(pages.ROOT / "docs"), "-d", str(trees)]
    status = build_main([*options, str(source), str(html)])
    found = links.faults(html)
    sys.stderr.writelines(f"{fault}\n" for fault in found)
    return status or bool(found)


def main(arguments: Sequence[str] | None = None) -> int:
    """Build the site, and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m docs._ext", description="Build the site, offline.")
    parser.add_argument(
        "--gallery",
        default="all",
        help="the examples to run: all, none or names with commas; what an earlier build ran is kept (%(default)s)",
    )
    parser.add_argument("--output", type=Path, default=pages.ROOT / ".site", help="the folder (default: .site)")
    options = parser.parse_args(arguments)
    few = {"all": None, "none": set()}
    wanted = few[options.gallery] if options.gallery in few else set(options.gallery.split(","))
    unknown = sorted((wanted or set()) - gallery.GALLERY.keys())
    if unknown:
        parser.error(f"--gallery: no such example: {', '.join(unknown)}; there are {', '.join(gallery.GALLERY)}")
    status = build(options.output, wanted)
    if status == 0:
        print(f"{options.output / 'html' / 'index.html'}")
    return status


if __name__ == "__main__":
    sys.exit(main())
