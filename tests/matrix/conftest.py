"""Runs the smoke tier in a cell only, holds refusals to their word, and leaves a report for the table."""

import json
import os
from pathlib import Path

import pytest

from tests.matrix import cells, refusals

collect_ignore_glob = [] if cells.CELL else ["test_*.py"]
REPORT = pytest.StashKey[dict]()


def pytest_configure(config):
    declared = refusals.of(cells.CELL)
    config.stash[REPORT] = {"passed": 0, "failed": 0, "refused": {}, "unmet": set(declared)}


def pytest_collection_modifyitems(config, items):
    """Leave out what is about a backend or a namespace that the cell has not: test_cell.py is about those."""
    ours = Path(__file__).parent  # pytest gives this hook the tests of all folders
    kept = [item for item in items if ours not in item.path.parents or _there(getattr(item, "callspec", None))]
    config.hook.pytest_deselected(items=[item for item in items if item not in kept])
    items[:] = kept


def _there(callspec) -> bool:
    given = {} if callspec is None else callspec.params
    namespace, absent = given.get("namespace"), given.get("absent")
    if namespace is not None and cells.installed(cells.NAMESPACES[namespace]) is None:
        return False
    if absent is not None and cells.has(absent):
        return False
    return all(cells.has(given[role]) for role in ("framework", "home", "writer", "reader") if role in given)


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem):
    refusal = refusals.of(cells.CELL).get(pyfuncitem.name)
    if refusal is None:
        return (yield)
    with pytest.raises(refusal.error, match=refusal.match):
        yield
    report = pyfuncitem.config.stash[REPORT]
    report["refused"][pyfuncitem.name] = refusal.reason
    report["unmet"].discard(pyfuncitem.name)
    return True


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    made = yield
    report = item.config.stash[REPORT]
    if made.failed or made.skipped:  # in a cell nothing is skipped: it passes, or is refused with a reason
        report["failed"] += 1
    elif made.when == "call" and item.name not in report["refused"]:
        report["passed"] += 1
    return made


def pytest_sessionfinish(session, exitstatus):
    if cells.CELL is None:
        return
    report = session.config.stash[REPORT]
    report["unmet"] = sorted(report["unmet"]) if _whole(session.config) else []
    report["failed"] += len(report["unmet"]) + (exitstatus not in (0, 1))
    report["releases"] = {name: found for name in cells.DISTRIBUTIONS if (found := cells.installed(name))}
    Path(os.environ["MATRIX_REPORT"]).write_text(json.dumps(report))
    if report["failed"] and exitstatus == 0:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def _whole(config) -> bool:
    return not config.option.keyword and not any("::" in one for one in config.args)


def pytest_terminal_summary(terminalreporter, config):
    for name in config.stash[REPORT]["unmet"] or ():
        terminalreporter.write_line(f"declared refusal that did not happen: {name}")
