"""``unitrain report``: the page of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from unitrain.reports.run.folder import find
from unitrain.reports.run.of_result import write_page
from unitrain.reports.run.page import run_page

if TYPE_CHECKING:
    import argparse

_EPILOG = """
RUN is the folder of a run, such as runs/7 of `unitrain fit`; a folder with a metrics.csv or with checkpoints; or a CSV
file. The report says what is missing. It is one file: it loads nothing, needs no network and can be printed.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.epilog = _EPILOG
    parser.add_argument("run", metavar="RUN", help="the folder of a run, or a CSV file")
    parser.add_argument(
        "--output", metavar="FILE", default="report.html", help="the file to write (default: %(default)s)"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace an existing file")


def run(arguments: argparse.Namespace) -> int:
    """Write the page.

    Returns:
        0.

    Raises:
        ConfigError: If there is nothing to report, or the file exists and must not be replaced.
    """
    found = find(arguments.run)
    path = write_page(lambda: run_page(found), arguments.output, overwrite=arguments.overwrite)
    for one in found.missing:
        print(one)  # noqa: T201 - that is its output
    print(f"{arguments.run}: wrote {path}")  # noqa: T201
    return 0
