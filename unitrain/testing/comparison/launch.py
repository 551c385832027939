"""Runs a side in a new process."""

from __future__ import annotations

import faulthandler
import multiprocessing
import os
import pickle
import re
import signal
import sys
from contextlib import contextmanager, suppress
from multiprocessing.connection import wait
from pathlib import Path
from threading import current_thread, main_thread
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from unitrain.errors import ConfigError
from unitrain.testing.comparison.recorder import Findings, Kept
from unitrain.testing.comparison.side import Answer, Program, run_side

if TYPE_CHECKING:
    from collections.abc import Iterator
    from multiprocessing.connection import Connection

    from unitrain.testing.comparison.recorder import Orders

_FRAME = re.compile(r'^  File "(?P<file>.*)", line (?P<line>\d+) in (?P<function>.+)$', re.MULTILINE)
_IMPORTS, _GRACE = 60.0, 2.0
"""Seconds beyond the limit: in which a process imports torch and the script; in which one that hangs writes where."""
_GUARD = 'guard the code of the script with: if __name__ == "__main__":'


def in_process(program: Program, orders: Orders) -> Answer:
    """Run a side in a process of its own, and return what it says.

    Raises:
        ConfigError: If the program cannot be sent to another process, or the process cannot import the script.
    """
    sent = packed(program)
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_main, args=(sent, orders, theirs), name="unitrain-compare")
    with _deaf():
        process.start()
    theirs.close()
    try:
        heard = _heard(ours, process, orders.seconds)
    finally:
        process.kill()  # it has ended, or it is to end
        process.join()
    if heard.hangs:
        return _hanging(orders)
    if heard.answer is None and not heard.began and (process.exitcode or 0) > 0:
        raise ConfigError("a side could not start; its error is above.", hint=_GUARD)
    return _killed(process.exitcode) if heard.answer is None else heard.answer


@contextmanager
def _deaf() -> Iterator[None]:
    """Start processes that do not hear Ctrl-C: it is for this one, which ends them."""
    if current_thread() is not main_thread():  # only there signals can be set
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before or signal.SIG_DFL)


class _Heard(NamedTuple):
    """What was heard of a process.

    Attributes:
        began: Whether it began.
        answer: What it said at last; None if it died before.
        hangs: Whether it took more time than it has.
    """

    began: bool
    answer: Answer | None = None
    hangs: bool = False


def _heard(ours: Connection, process: Any, seconds: float | None) -> _Heard:
    """Listen to a process, which has so many seconds to end, once it has begun."""
    said: list[Any] = []
    with suppress(EOFError, OSError):
        while len(said) < 2:  # noqa: PLR2004 - that it has begun, and the answer
            more = _GRACE if said else _IMPORTS
            if not wait([ours, process.sentinel], None if seconds is None else seconds + more):
                return _Heard(bool(said), hangs=True)
            if not ours.poll(0.1):
                break
            said.append(ours.recv())
    return _Heard(bool(said), said[1] if len(said) > 1 else None)


def _hanging(orders: Orders) -> Answer:
    """Return the answer for a process that was stopped since it did not end, with the stack that it has left."""
    path = _stack_file(orders)
    stack = path.read_text("utf-8", "replace") if path.exists() else ""
    frame = _FRAME.search(stack.rpartition("\nThread ")[2])  # the main thread comes last
    at = "" if frame is None else f" in {frame['function']} at {frame['file']}:{frame['line']}"
    told = f"it had not ended after {orders.seconds:g} seconds, and was stopped{at}."
    return Answer(status="failed", error=told, traceback=stack or None)


def _killed(status: int | None) -> Answer:
    how = f"signal {-status}" if status is not None and status < 0 else f"exit status {status}"
    hint = ", which often means that the memory was full" if status == -9 else ""  # noqa: PLR2004 - SIGKILL
    return Answer(status="failed", error=f"the process ended by {how}{hint}.")


def packed(program: Program) -> bytes:
    """Return a program as it is sent to another process.

    Raises:
        ConfigError: If it cannot be sent, or another process could not import it.
    """
    if getattr(multiprocessing.current_process(), "_inheriting", False):  # as multiprocessing itself asks
        raise ConfigError("each side imports this script, which would compare again.", hint=_GUARD)
    try:
        sent = pickle.dumps(program)
    except Exception as error:
        raise ConfigError(
            f"each side is a process of its own, to which {program.make!r} cannot be sent: {error}",
            hint="define the function at module level (no lambda, no inner function), and options of plain values.",
        ) from error
    script = getattr(sys.modules["__main__"], "__file__", None)
    if (script is None and b"__main__" in sent) or not Path(script or __file__).exists():
        raise ConfigError(
            "each side imports the program, and cannot import from a notebook, a prompt or a pipe.",
            hint="move the function to a file, such as train.py, and import it.",
        )
    return sent


def _main(sent: bytes, orders: Orders, answers: Connection) -> None:
    """Be a side."""
    answers.send(None)  # the script is imported
    if orders.seconds is not None:
        faulthandler.dump_traceback_later(orders.seconds, file=_stack_file(orders).open("w", encoding="utf-8"))

    def leave(answer: Answer) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        answers.send(_lightened(answer, orders))
        os._exit(0)  # at once, wherever the run is

    leave(run_side(pickle.loads(sent), orders, leave))  # noqa: S301 - from the process that started this one


def _stack_file(orders: Orders) -> Path:
    return orders.path.with_suffix(".stack")


def _kept_file(orders: Orders) -> Path:
    return orders.path.with_suffix(".kept")


def _lightened(answer: Answer, orders: Orders) -> Answer:
    """Write the values that were kept into a file, and return the answer without them."""
    found = answer.findings
    if found.kept:
        entries = {number: [list(one) for one in some] for number, some in found.kept.items()}
        torch.save({"entries": entries, "modules": found.modules}, _kept_file(orders))
        found.kept, found.modules = {}, {}
    return answer


def with_kept(findings: Findings, orders: Orders) -> Findings:
    """Return the findings with the values that the process has left in a file."""
    path = _kept_file(orders)
    if path.exists():
        content = torch.load(path, weights_only=True)
        findings.kept = {number: [Kept(*one) for one in some] for number, some in content["entries"].items()}
        findings.modules = content["modules"]
        path.unlink()
    return findings
