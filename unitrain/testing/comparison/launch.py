"""Runs a side in a new process."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import sys
from contextlib import suppress
from multiprocessing.connection import wait
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from unitrain.errors import ConfigError
from unitrain.testing.comparison.recorder import Findings, Kept
from unitrain.testing.comparison.side import Answer, Program, run_side

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from unitrain.testing.comparison.recorder import Orders

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
    process.start()
    theirs.close()
    try:
        began, answer = _heard(ours, process)
    finally:
        process.kill()  # it has ended, or it is to end
        process.join()
    if answer is None and not began and (process.exitcode or 0) > 0:
        raise ConfigError("a side could not start; its error is above.", hint=_GUARD)
    return _killed(process.exitcode) if answer is None else answer


def _heard(ours: Connection, process: Any) -> tuple[bool, Answer | None]:
    """Return whether the process began, and what it says at last; None if it dies before."""
    said: list[Any] = []
    with suppress(EOFError, OSError):
        while len(said) < 2:  # noqa: PLR2004 - that it has begun, and the answer
            wait([ours, process.sentinel])
            if not ours.poll(0.1):
                break
            said.append(ours.recv())
    return bool(said), said[1] if len(said) > 1 else None


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

    def leave(answer: Answer) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        answers.send(_lightened(answer, orders))
        os._exit(0)  # at once, wherever the run is

    leave(run_side(pickle.loads(sent), orders, leave))  # noqa: S301 - from the process that started this one


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
