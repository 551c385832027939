"""``python -m tests.peers SUITES``: run the frameworks' own tests on the other backends; `make peers` calls it.

SUITES holds the tests of the installed releases: ``ignite/tests/ignite`` and ``lightning/tests/tests_pytorch``. The
outcomes are written beside them; what is printed, a row of the table in docs/peers.md among it, says what became of each.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from tests.peers.outcomes import DIFFERS, KINDS, MISSING, PASSES, REFUSED, read, share, sorted_out
from tests.peers.outcomes import PRIVATE as PRIVATE_PART
from tests.peers.private import PRIVATE

# ruff: noqa: T201 - it is a script

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Suite:
    """A framework's tests.

    Attributes:
        name: The framework.
        package: Whose release they belong to.
        folder: Where pytest starts, in the folder of the suites.
        tests: What it collects, in that folder.
        goal: The share of the hosted tests that is to pass, by backend.
    """

    name: str
    package: str
    folder: str
    tests: str
    goal: float


SUITES = (
    Suite(
        "ignite", "pytorch-ignite", "ignite", "tests/ignite/engine tests/ignite/handlers tests/ignite/metrics", 0.995
    ),
    Suite("lightning", "lightning", "lightning/tests", "tests_pytorch", 0.97),
)
BACKENDS = {"ignite": ("lightning", "reference"), "lightning": ("ignite", "reference")}


def run(suite: Suite, suites: Path, backend: str | None, only: str | None, *, plain: bool = False) -> Path:
    """Run the tests on ``backend``, by default on their own framework; return the file of the outcomes."""
    file = suites / f"{suite.name}_on_{backend or suite.name}{'_plain' * plain}.jsonl"
    file.unlink(missing_ok=True)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "peers_plugin",
        "-p",
        "no:cacheprovider",
        "-q",
        "--continue-on-collection-errors",
    ]
    command += ["--suite", suite.name, "--outcomes", str(file), "--timeout", "200", *(only or suite.tests).split()]
    if backend is not None:
        command += ["--on", backend, *["--plain"] * plain]
    folder = suites / suite.folder
    # the suite's own package is called tests too, so it comes before ours, and the plugin is not in ours
    path = os.pathsep.join(map(str, (folder, Path(__file__).parent, ROOT / "adapters", ROOT)))
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    subprocess.run(command, cwd=folder, env=environment, check=False)
    return file


def told(suite: Suite, backend: str, kinds: dict[str, str], rows: dict[str, Any]) -> str:
    """Return a line of counts, and a paragraph for each test that differs."""
    counts = Counter(kinds.values())
    line = ", ".join(f"{counts[one]} {one}" for one in KINDS if counts[one])
    lines = [f"{suite.name}'s tests on {backend}: {line}; {share(kinds):.1%} of the hosted tests pass."]
    for test, kind in kinds.items():
        if kind in (DIFFERS, MISSING):
            row = rows.get(test, {})
            lines += [
                f"  {kind}: {test}",
                *(f"      {one}" for one in row.get("raised", [])[:2]),
                f"      {row.get('at')}",
            ]
    return "\n".join(lines)


def row(suite: Suite, backend: str, kinds: dict[str, str]) -> str:
    """Return a row of the table in docs/peers.md."""
    counts = Counter(kinds.values())
    hosted = sum(counts[one] for one in (PASSES, REFUSED, PRIVATE_PART, DIFFERS))
    cells = (hosted, *(counts[one] for one in (PASSES, REFUSED, PRIVATE_PART, DIFFERS)), f"{share(kinds):.1%}")
    release = f"{suite.name} {metadata.version(suite.package)}"
    return f"| {release} | {backend} | {' | '.join(map(str, cells))} |"


def main() -> None:
    """Run, and print what became of each test."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("suites", type=Path)
    parser.add_argument("--suite", choices=[one.name for one in SUITES], action="append")
    parser.add_argument("--on", action="append", help="only on these backends")
    parser.add_argument("--only", help="only these tests")
    parser.add_argument("--plain", action="store_true", help="on the plain path of the bridges")
    parser.add_argument("--keep-own", action="store_true", help="take what an earlier run left of their own framework")
    given = parser.parse_args()
    for suite in SUITES:
        if given.suite and suite.name not in given.suite:
            continue
        kept = given.suites / f"{suite.name}_on_{suite.name}.jsonl"
        own = read(kept if given.keep_own else run(suite, given.suites, None, given.only))
        for backend in given.on or BACKENDS[suite.name]:
            redirected = read(run(suite, given.suites, backend, given.only, plain=given.plain))
            kinds = sorted_out(own, redirected, PRIVATE[suite.name])
            print(told(suite, backend, kinds, redirected))
            print(row(suite, backend, kinds), f"goal: {suite.goal:.1%}")


if __name__ == "__main__":
    main()
