"""``python -m tests.downstream [NAME ...]``: run the cases of each package in a process of its own.

`make downstream` calls it, in an environment with the packages of requirements.txt. It prints the table of
docs/downstream.md.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from importlib import metadata
from pathlib import Path

# ruff: noqa: T201 - it is a script

HERE = Path(__file__).parent
PACKAGES: dict[str, tuple[str, ...]] = {
    "same": (),
    "transformers": ("transformers",),
    "monai": ("monai",),
    "geometric": ("torch-geometric",),
    "tensordict": ("tensordict", "torchrl"),
    "forecasting": ("pytorch-forecasting",),
    "metric_learning": ("pytorch-metric-learning",),
}
"""The packages that each file of cases is about; all of a file run in one process, for importing them takes seconds."""


def run(name: str, report: Path) -> tuple[int, str]:
    """Run the cases of a file; return pytest's exit status, and how many passed."""
    options = ("-c", str(HERE / "pytest.ini"), "--rootdir", str(HERE.parents[1]), f"--junitxml={report}", "-q")
    done = subprocess.run([sys.executable, "-m", "pytest", *options, str(HERE / f"test_{name}.py")], check=False)
    suite = next(ET.parse(report).iter("testsuite"))
    count, bad = int(suite.get("tests", 0)), int(suite.get("failures", 0)) + int(suite.get("errors", 0))
    return done.returncode, f"{count - bad} of {count}"


def main(names: list[str]) -> int:
    """Run the files, all by default; return 1 if a case failed."""
    rows, failed = [], False
    with tempfile.TemporaryDirectory() as folder:
        for name in names or PACKAGES:
            status, passed = run(name, Path(folder) / f"{name}.xml")
            failed |= status != 0
            shown = ", ".join(f"{one} {metadata.version(one)}" for one in PACKAGES[name])
            rows.append(f"| {shown or 'the comparison itself'} | `test_{name}.py` | {passed} |")
    print("\n| package | cases | passed |", "| --- | --- | --- |", *rows, sep="\n")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
