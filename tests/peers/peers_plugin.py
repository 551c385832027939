"""A pytest plugin that runs a framework's own tests on another backend, and records how each ended.

One line of JSON a test: its outcome, how often a run was hosted, what was raised and where. The suites have a package
named tests of their own, so this module is imported by its own name.
"""

from __future__ import annotations

import json
import traceback
from contextlib import ExitStack
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from plain_path import plain_path

if TYPE_CHECKING:
    from collections.abc import Iterator

FRAMES = 4
"""How many of the innermost frames are kept."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add where to run the tests, and where to write what happened."""
    group = parser.getgroup("peers")
    group.addoption("--on", help="the backend that is to run what the tests train; by default, their own framework")
    group.addoption("--suite", choices=sorted(HOSTS), help="whose tests these are")
    group.addoption("--outcomes", help="the JSONL file to append to")
    group.addoption("--plain", action="store_true", help="make all the calls that the bridges' short way leaves out")


def pytest_configure(config: pytest.Config) -> None:
    """Register the recorder."""
    config.addinivalue_line("markers", "flaky: of a plugin that is not needed here")
    if config.getoption("--outcomes"):
        config.pluginmanager.register(Recorder(config), "peers-recorder")


class Recorder:
    """Redirects the tests' Trainer or ``Engine.run`` once all tests are collected, and writes the outcomes."""

    def __init__(self, config: pytest.Config) -> None:
        self._backend = config.getoption("--on")
        self._suite = config.getoption("--suite")
        self._plain = config.getoption("--plain")
        self._file = Path(config.getoption("--outcomes"))
        self._redirection = ExitStack()
        self._hosted = 0

    def pytest_collection_finish(self) -> None:
        """Redirect: the modules of the tests hold their Trainer by now."""
        if self._backend:
            self._redirection.enter_context(HOSTS[self._suite](self._backend, self._host))
        if self._plain:
            self._redirection.enter_context(plain_path())

    def pytest_sessionfinish(self) -> None:
        """Undo the redirection."""
        self._redirection.close()

    def _host(self) -> None:
        self._hosted += 1

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_protocol(self) -> Iterator[None]:
        """Count the hosted runs of each test from 0."""
        self._hosted = 0
        yield

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_makereport(self, call: pytest.CallInfo[Any]) -> Iterator[None]:
        """Write how a test ended; setup and teardown only where they failed or skipped it."""
        made: Any = yield
        report = made.get_result()
        if report.when != "call" and report.passed:
            return
        outcome = ("xfailed" if report.skipped else "xpassed") if hasattr(report, "wasxfail") else report.outcome
        row = {"test": report.nodeid, "when": report.when, "outcome": outcome, "hosted": self._hosted}
        if outcome == "failed" and call.excinfo is not None:
            row |= _raised(call.excinfo.value)
        with self._file.open("a") as file:
            file.write(json.dumps(row) + "\n")


def _raised(error: BaseException) -> dict[str, Any]:
    """Return the error with its causes, and the innermost frames."""
    chain: list[str] = []
    seen: list[BaseException] = []
    one: BaseException | None = error
    while one is not None and one not in seen:
        seen.append(one)
        chain.append(f"{type(one).__name__}: {one}"[:400])
        one = one.__cause__ or one.__context__
    frames = traceback.extract_tb(error.__traceback__)[-FRAMES:]
    return {"raised": chain, "at": [f"{Path(one.filename).name}:{one.lineno} {one.name}" for one in frames]}


def _counted(stack: ExitStack, owner: Any, name: str, count: Any) -> None:
    original = getattr(owner, name)

    @wraps(original)
    def counted(*args: Any, **options: Any) -> Any:
        count()
        return original(*args, **options)

    setattr(owner, name, counted)
    stack.callback(setattr, owner, name, original)


def _ignite(backend: str, count: Any) -> ExitStack:
    """Redirect every ``Engine.run``, also of engines that do not train, as ``from_engine`` does."""
    from unitrain_bridges.ignite import bridge
    from unitrain_bridges.ignite.session import IgniteSession

    stack = ExitStack()
    _counted(stack, IgniteSession, "_train_elsewhere", count)
    stack.callback(setattr, bridge, "trains", bridge.trains)
    bridge.trains = lambda _engine: True
    stack.enter_context(bridge.IgniteBridge().redirected(backend))
    return stack


def _lightning(backend: str, count: Any) -> ExitStack:
    """Redirect every ``Trainer``."""
    from unitrain_bridges.lightning.bridge import LightningBridge
    from unitrain_bridges.lightning.trainer import StandInTrainer

    stack = ExitStack()
    _counted(stack, StandInTrainer, "__init__", count)
    stack.enter_context(LightningBridge().redirected(backend))
    return stack


HOSTS = {"ignite": _ignite, "lightning": _lightning}
"""How the tests of a framework are redirected."""
