"""``unitrain doctor``: checks what is installed and whether it is compatible."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from unitrain.cli.doctor.examination import examine
from unitrain.cli.doctor.findings import SCHEMA, Level, Report

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Sequence

_WIDTH = 140
"""The width of redirected output, so that commands stay on one line."""

_STYLES = {
    "supported": "green",
    "best effort": "yellow",
    "outside": "red",
    "dangerous": "bold red",
    "missing": "dim",
    Level.WARNING: "yellow",
    Level.FAILURE: "bold red",
}

_DESCRIPTION = """\
Check this installation: installed releases and their support status, dangerous releases, mismatched Lightning
packages, the devices that torch finds, and optional dependencies.

Versions are read from package metadata. No framework is imported, so a malicious release cannot run.
"""

_EPILOG = f"""\
support status of a release:
  supported    tested, and needs no shim
  best effort  works through shims; tested lightly
  outside      too old, or unknown
  dangerous    a malicious upload; unitrain refuses to import it
  missing      not installed

exit status:
  0  no failures; there may be warnings
  1  a release is dangerous or unsupported; with --strict, also for warnings

--json prints one object, of schema {SCHEMA}:
  schema        {SCHEMA}; increases if a key is removed or changes its meaning
  status        "ok", "warning" or "failure"
  unitrain      its version
  packages      name, version (or null), standing, supported, best_effort
  backends      name, ready, distribution, version, told
  accelerators  kind, available, told
  extras        name, installed, missing, command
  findings      level ("warning" or "failure"), about, message, fix

examples:
  unitrain doctor
  unitrain doctor --strict --json > doctor.json     # in CI
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    parser.description, parser.epilog = _DESCRIPTION, _EPILOG
    parser.add_argument("--json", action="store_true", help="print a JSON object for other programs")
    parser.add_argument("--strict", action="store_true", help="fail on warnings too")


def run(arguments: argparse.Namespace) -> int:
    """Run the checks, print the report and return the exit status."""
    report = examine()
    if arguments.json:
        print(json.dumps(report.as_dict(), indent=2))  # noqa: T201 - that is its output
    else:
        _show(report)
    return int(report.status == Level.FAILURE or (arguments.strict and report.status != "ok"))


def _show(report: Report) -> None:
    from rich.console import Console  # noqa: PLC0415 - not for --json
    from rich.text import Text  # noqa: PLC0415

    console = Console()
    if not console.is_terminal:
        console = Console(width=_WIDTH)
    console.print(f"unitrain {report.unitrain}", highlight=False)
    for table in _tables(report):
        console.print(table)
    for one in report.findings:
        head = Text(f"{one.level}: {one.about} ", style=_STYLES[one.level])
        console.print(head + Text(one.message, style="default"), soft_wrap=True)
        console.print(Text(f"  Hint: {one.fix}"), soft_wrap=True)
    if not report.findings:
        console.print(Text("no problems found.", style="green"))


def _tables(report: Report) -> list[Any]:
    packages = [(one.name, one.version or "", one.standing, one.supported, one.best_effort) for one in report.packages]
    backends = [(one.name, _yes(one.ready), f"{one.distribution} {one.version}", one.told) for one in report.backends]
    devices = [(one.kind, _yes(one.available), one.told) for one in report.accelerators]
    extras = [
        (one.name, _yes(one.installed), ", ".join(one.missing), "" if one.installed else one.command)
        for one in report.extras
    ]
    return [
        _table("packages", ("package", "installed", "held as", "supported", "best effort"), packages),
        _table("backends", ("framework=", "ready", "of", "by"), backends),
        _table("devices", ("accelerator=", "there", ""), devices),
        _table("optional parts", ("part", "there", "missing", "install with"), extras),
    ]


def _yes(there: bool) -> str:
    return "yes" if there else "no"


def _table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Any:
    from rich import box  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415 - as texts, since `[tune]` would be taken for a style

    table = Table(*columns, title=title, title_justify="left", box=box.SIMPLE)
    for row in rows:
        table.add_row(*(Text(one, style=_STYLES.get(one, "")) for one in row))
    return table
