"""Sorts the outcomes of a framework's tests on another backend by those on its own."""

from __future__ import annotations

import json
from collections import Counter
from fnmatch import fnmatch
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

PASSES = "passes"
ELSEWHERE = "passes, hosts nothing"
REFUSED = "refused"
PRIVATE = "looks at a private part"
DIFFERS = "differs"
MISSING = "did not run"
KINDS = (PASSES, REFUSED, PRIVATE, DIFFERS, MISSING, ELSEWHERE)

GOOD = ("passed", "xfailed")
_REFUSALS = ("UnsupportedFeatureError", "NoSuchAttributeError")


def read(file: Path) -> dict[str, dict[str, Any]]:
    """Return the last outcome of each test; that of its call, unless setup or teardown failed."""
    found: dict[str, dict[str, Any]] = {}
    for line in file.read_text().splitlines():
        row = json.loads(line)
        if row["when"] == "call" or row["outcome"] != "passed":
            found[row["test"]] = row
    return found


def kind(test: str, redirected: Mapping[str, Any] | None, private: Mapping[str, str]) -> str:
    """Return what became of a test that its own framework passes.

    Args:
        test: Its id.
        redirected: Its outcome on the other backend.
        private: Patterns of ids of tests that look at a private part, with the part.
    """
    if redirected is None or redirected["outcome"] == "skipped":
        return MISSING
    if redirected["outcome"] in GOOD:
        return PASSES if redirected["hosted"] else ELSEWHERE
    if any(one.startswith(_REFUSALS) for one in redirected.get("raised", ())):
        return REFUSED
    return PRIVATE if any(fnmatch(test, pattern) for pattern in private) else DIFFERS


def sorted_out(
    own: Mapping[str, dict[str, Any]], redirected: Mapping[str, dict[str, Any]], private: Mapping[str, str]
) -> dict[str, str]:
    """Return the kind of each test that passes on its own framework."""
    return {test: kind(test, redirected.get(test), private) for test, row in own.items() if row["outcome"] in GOOD}


def share(kinds: Mapping[str, str]) -> float:
    """Return the share of the hosted tests that pass."""
    counts = Counter(kinds.values())
    hosted = sum(counts[one] for one in (PASSES, REFUSED, PRIVATE, DIFFERS))
    return counts[PASSES] / hosted if hosted else 0.0
