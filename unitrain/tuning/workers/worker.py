"""A worker: takes trials of a study and runs them, until all are finished or it is told to stop."""

from __future__ import annotations

import os
import signal
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from unitrain.tuning.queue import TrialQueue
from unitrain.tuning.trackers import StudyTrackers
from unitrain.tuning.trial import give_up, run_trial

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from unitrain.tuning.leases.lease import Lease, Leases
    from unitrain.tuning.plan import StudyPlan
    from unitrain.tuning.queue import Taken

_PAUSES = (0.01, 0.02, 0.05, 0.1, 0.2)
"""Seconds between two looks for a trial, while others have those that could be taken."""


@dataclass
class Halt:
    """Whether a worker is to stop, and why.

    Attributes:
        reason: ``"timeout"``, ``"signal"``, or None.
    """

    reason: str | None = None

    def note(self, number: int, _: object) -> None:
        """Answer a signal between two fits.

        Raises:
            KeyboardInterrupt: At the second Ctrl-C.
        """
        if self.reason == "signal" and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.reason = self.reason or "signal"

    def time_is_up(self) -> None:
        """Stop as SIGTERM does, which a fit that runs answers by itself."""
        self.reason = self.reason or "timeout"
        os.kill(os.getpid(), signal.SIGTERM)


def work(plan: StudyPlan, study: Any, leases: Leases, halt: Halt, after_each: Callable[[], object]) -> None:
    """Run trials until none is left, or ``halt`` says so.

    Args:
        plan: The study.
        study: Optuna's.
        leases: Who has which trial.
        halt: Says when to stop.
        after_each: Called after each trial, and while there is nothing to do.

    Raises:
        Exception: What a trial raised, unless ``catch`` has it.
    """
    queue, models, idle = TrialQueue(study, leases), WeakKeyDictionary[Any, int](), 0
    trackers = StudyTrackers(study, leases)
    while halt.reason is None:
        taken = queue.take(plan.parallel)
        if taken is not None:
            idle = 0
            with _releasing(taken.lease):
                _run(plan, taken, study._storage, models, halt, trackers=trackers)  # noqa: SLF001 - Optuna has no public way
        elif queue.done():
            trackers.end()
            return
        else:
            time.sleep(_PAUSES[min(idle, len(_PAUSES) - 1)])
            idle += 1
        after_each()


@contextmanager
def _releasing(lease: Lease) -> Iterator[None]:
    try:
        yield
    finally:
        lease.release()


def _run(
    plan: StudyPlan,
    taken: Taken,
    storage: Any,
    models: WeakKeyDictionary[Any, int],
    halt: Halt,
    *,
    trackers: StudyTrackers,
) -> None:
    """Run a trial, unless it has killed too many workers; a trial that was cut means that all is to stop."""
    if taken.deaths > plan.retries:
        give_up(plan, taken, storage, trackers)
    elif not run_trial(plan, taken, storage, models, trackers):
        halt.reason = halt.reason or "signal"


@contextmanager
def stopping(halt: Halt, timeout: float | None) -> Iterator[None]:
    """Stop at Ctrl-C, at SIGTERM and after ``timeout`` seconds; a fit that runs leaves a checkpoint first.

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
        for number in ours:
            signal.signal(number, before[number])
