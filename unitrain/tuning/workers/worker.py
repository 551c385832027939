"""A worker: takes trials of a study and runs them, until all are finished or it is told to stop."""

from __future__ import annotations

import _thread
import os
import signal
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from unitrain.tuning.queue import TrialQueue
from unitrain.tuning.study_trial import LeaseLostError
from unitrain.tuning.trackers import StudyTrackers
from unitrain.tuning.trial import TrialContext, give_up, run_trial
from unitrain.utilities.warning import warn_caller

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from unitrain.tuning.leases.lease import Lease, Leases
    from unitrain.tuning.plan import StudyPlan
    from unitrain.tuning.queue import Taken

_PAUSES = (0.01, 0.02, 0.05, 0.1, 0.2)
"""Seconds between two looks for a trial, while others have those that could be taken."""
_LONG = 300
"""After so many looks, a minute, a worker says what it waits for."""
_ENDS_AT_ONCE = os.name == "nt"
"""Whether ``os.kill`` ends a process without a word to its handlers, as on Windows."""


@dataclass
class Halt:
    """Whether a worker should stop, and why.

    Attributes:
        reason: ``"timeout"``, ``"signal"``, or None.
    """

    reason: str | None = None

    def note(self, number: int, _: object) -> None:
        """Answer a signal between two fits.

        Raises:
            KeyboardInterrupt: On the second Ctrl-C.
        """
        if self.reason == "signal" and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.reason = self.reason or "signal"

    def time_is_up(self) -> None:
        """Stop as SIGTERM does, which a fit that runs answers by itself."""
        self.reason = self.reason or "timeout"
        terminate()


def terminate() -> None:
    """Act as if SIGTERM had come: whoever handles it stops in order, and leaves a checkpoint."""
    if _ENDS_AT_ONCE and callable(signal.getsignal(signal.SIGTERM)):
        _thread.interrupt_main(signal.SIGTERM)
    else:
        os.kill(os.getpid(), signal.SIGTERM)


def work(plan: StudyPlan, study: Any, leases: Leases, halt: Halt, after_each: Callable[[], object]) -> None:
    """Run trials until none is left, or ``halt`` says so.

    Args:
        plan: The study.
        study: The Optuna study.
        leases: The leases of the trials.
        halt: Says when to stop.
        after_each: Called after each trial, and while there is nothing to do.

    Raises:
        Exception: Any error that a trial raised, unless listed in ``catch``.
    """
    queue, idle = TrialQueue(study, leases), 0
    trackers = StudyTrackers(study, leases)
    context = TrialContext(plan, study._storage, halt, trackers)  # noqa: SLF001 - Optuna has no public way
    while halt.reason is None:
        taken = queue.take(plan.parallel)
        if taken is not None:
            idle = 0
            with _releasing(taken.lease):
                _run(context, taken)
        elif queue.done():
            trackers.end()
            return
        else:
            idle += 1
            _wait(queue, idle)
        after_each()


def _wait(queue: TrialQueue, idle: int) -> None:
    time.sleep(_PAUSES[min(idle, len(_PAUSES)) - 1])
    if idle == _LONG:
        waiting = [one.number for one in queue.trials() if one.state.name == "RUNNING"]
        warn_caller(f"waiting for other workers, which have the trials {waiting}.")


@contextmanager
def _releasing(lease: Lease) -> Iterator[None]:
    try:
        yield
    finally:
        lease.release()


def _run(context: TrialContext, taken: Taken) -> None:
    """Run a trial, unless it has killed too many workers; an interrupted trial means that the worker should stop."""
    if taken.deaths > context.plan.retries:
        give_up(context, taken)
        return
    with suppress(LeaseLostError):  # another worker has the trial
        if not run_trial(context, taken):
            context.halt.reason = context.halt.reason or "signal"


@contextmanager
def stopping(halt: Halt, timeout: float | None) -> Iterator[None]:
    """Stop at Ctrl-C, at SIGTERM and after ``timeout`` seconds; a running fit writes a checkpoint first.

    Within a fit its own handlers answer; between two fits, those set here.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    before: dict[int, Any] = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    ours = {number: halt.note for number, handler in before.items() if handler not in (signal.SIG_IGN, None)}
    timer = threading.Timer(threading.TIMEOUT_MAX if timeout is None else timeout, halt.time_is_up)
    timer.daemon = True
    try:
        for number, handler in ours.items():
            signal.signal(number, handler)
        if timeout is not None:
            timer.start()
        yield
    finally:
        timer.cancel()
        if timer.is_alive():
            timer.join()  # a signal that is on its way must not meet the user's handlers
        for number in ours:
            signal.signal(number, before[number])
