"""Builds the cells, runs the smoke tier in each, and prints a table: `make matrix`, or `make matrix CELLS="newest oldest"`.

A run of all cells is written to results.json, from which the table of docs/versions.md is made; not where CI=true is set.
"""

import json
import os
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).parents[2]
RESULTS = Path(__file__).with_name("results.json")
sys.path.insert(0, str(ROOT))

from tests.matrix.cells import cells  # noqa: E402 - a script has only its own folder on the path
from tests.matrix.table import plain  # noqa: E402


def tox(*environments: str) -> int:
    command = [sys.executable, "-m", "tox", "run", "-q", "-e", ",".join(environments)]
    return subprocess.run(command, cwd=ROOT, check=False).returncode


def shared() -> dict[str, str]:
    """Return the releases of Python and torch that all cells have."""
    program = "import platform, torch; print(platform.python_version(), torch.__version__.partition('+')[0])"
    python = ROOT / ".tox" / "base" / "bin" / "python"
    told = subprocess.run([python, "-W", "ignore", "-c", program], capture_output=True, text=True, check=True).stdout
    return dict(zip(("python", "torch"), told.split(), strict=True))


def result(cell: str) -> dict:
    """Run one cell and return its report, with the time that building and running took; red if it left none."""
    report = ROOT / ".tox" / cell / "report.json"
    report.unlink(missing_ok=True)
    began = time.monotonic()
    status = tox(cell)
    found = json.loads(report.read_text()) if report.exists() else {"passed": 0, "refused": {}, "failed": 1}
    green = status == 0 and not found["failed"] and found["passed"] > 0
    return {
        "releases": found.get("releases", {}),
        "passed": found["passed"],
        "refused": sorted({*found["refused"].values()}),
        "seconds": round(time.monotonic() - began),
        "result": "green" if green else "red",
    }


def main(names: list[str]) -> int:
    known = list(cells())
    unknown = [name for name in names if name not in known]
    if unknown:
        sys.exit(f"no such cell: {', '.join(unknown)}; there are {', '.join(known)}")
    if tox("base"):
        sys.exit("the environment that all cells share could not be made")
    found = {name: result(name) for name in names or known}
    sys.stdout.write(f"\n{plain(found)}\n")
    red = [name for name, one in found.items() if one["result"] != "green"]
    if not names and not red and os.environ.get("CI") != "true":
        told = {"date": datetime.now(UTC).date().isoformat(), **shared(), "cells": found}
        RESULTS.write_text(json.dumps(told, indent=2) + "\n")
    return 1 if red else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
