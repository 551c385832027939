"""The watchdog: stops all processes soon after one fails, and names the responsible rank."""

from __future__ import annotations

import math
import os
import threading
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from unitrain.distributed.health.failure import Failure, end_process
from unitrain.distributed.health.heartbeat import INTERVAL, Heartbeat
from unitrain.errors import DistributedError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import timedelta

    from torch.distributed.distributed_c10d import Store

_LOOK = 0.25
"""Seconds between two checks of the other processes."""

_NOTICE = 8.0
"""Seconds that a process has to notice another's failure before it is terminated."""

_HASTE = 1.0
"""The same after missing heartbeats, which have already taken long enough."""

_CLEARING = 60.0
"""The same for a process that has noticed and is running handlers and closing files."""

_SHORT_SILENCE = 3.0
"""Seconds without a heartbeat after which a silent process is blamed for a broken exchange."""

_SEARCH = 8.0
"""Seconds to look for the reason of another process's failure."""


class Watchdog:
    """Tells the other processes that this one is alive, and monitors them.

    If another process fails or sends no heartbeat, a process gets time to notice by itself, as its exchanges fail. If
    it hangs, it is ended with a message, because nothing else reaches a thread that waits in C++.

    Args:
        store: The store in which processes leave notes for each other; used by nothing else.
        rank: Rank of this process.
        size: Number of processes.
        patience: Seconds for which a process may be silent.
        host: Rank of the process that hosts the store; None if a launcher does.
        launched: Whether the parent is a launcher, without which the process must end.

    Attributes:
        within: Whether a run is in progress.
        broken: Whether the last run failed.
        failed_at: Time of the last failure.
    """

    def __init__(
        self, store: Store, rank: int, size: int, patience: timedelta, *, host: int | None, launched: bool
    ) -> None:
        self._heartbeat = Heartbeat(store, rank, size, patience)
        self._rank = rank
        self._size = size
        self._patience = patience.total_seconds()
        self._host = host
        self._parent = os.getppid() if launched else None
        self.within = self._noticed = self.broken = False
        self.failed_at = -math.inf
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._judge, name="unitrain-watch", daemon=True)

    def start(self) -> None:
        """Start the watchdog."""
        self._heartbeat.start()
        self._thread.start()

    @contextmanager
    def one_run(self) -> Iterator[None]:
        """Monitor one run; between runs a process waits for nobody. All processes count runs in the same way."""
        self._heartbeat.run += 1
        self._noticed = False
        self.within = True
        try:
            yield
            self.broken = False
        finally:
            self.within = False

    def stop(self) -> None:
        """End; a process that has ended normally is not reported as failed."""
        self._over.set()
        self._heartbeat.close()
        if self._host == self._rank:
            time.sleep(2 * INTERVAL)  # the notes are here: let the others read them

    def failed(self, error: BaseException) -> BaseException:
        """Return the error to raise for ``error``: if it only reports lost processes, one that says why.

        The other processes are notified.
        """
        self._noticed = self.broken = True
        try:
            return self._reason(error)
        finally:
            self.failed_at = time.monotonic()

    def _reason(self, error: BaseException) -> BaseException:
        if self._heartbeat.failure is None or _lost_others(error):
            error = (self.explain() or self._overdue(error) if _lost_others(error) else None) or error
            self._heartbeat.report(Failure.of(self._rank, error))
        return error

    def explain(self) -> DistributedError | None:
        """Return why this process lost the others; None if unknown, or if it was its own error."""
        end = time.monotonic() + _SEARCH
        while time.monotonic() < end:
            # a launcher's SIGTERM reaches a loader's workers too, and torch raises their end wherever this thread is
            with suppress(RuntimeError):
                failure = self._heartbeat.failure
                found = self._absence(_SHORT_SILENCE) if failure is None else failure.error()
                if found is not None:
                    return None if failure is not None and failure.rank == self._rank else found
                time.sleep(0.1)
        return None

    def _overdue(self, error: BaseException) -> DistributedError | None:
        """Return the error for a timed-out exchange with processes that are alive, if that is the cause."""
        if not any(sign in str(error) for sign in _TIMED_OUT):
            return None
        others = ", ".join(str(rank) for rank in range(self._size) if rank != self._rank)
        return DistributedError(
            f"rank {self._rank} has waited longer for an exchange with rank {others} than DDP(timeout=...) allows,"
            f" although all processes are alive: another process is busy, or skipped an exchange.",
            hint="make all processes do the same in the same order, or raise DDP(timeout=...) if one needs that long.",
        )

    def _judge(self) -> None:
        since, run = 0.0, 0
        while not self._over.wait(_LOOK):
            found, now = self._trouble(), time.monotonic()
            if found is None or run != self._heartbeat.run:
                since, run = now, self._heartbeat.run
            elif self.within and now - since > (_CLEARING if self._noticed else found[1]):
                end_process(found[0])

    def _trouble(self) -> tuple[DistributedError, float] | None:
        """Return what is wrong with the other processes, and how long this one may continue."""
        if not self.within:
            return None
        failure = self._heartbeat.failure
        if failure is not None:
            return None if failure.rank == self._rank else (failure.error(), _NOTICE)
        absent = self._absence(self._patience)
        return None if absent is None else (absent, _HASTE if self._heartbeat.left() is None else _NOTICE)

    def _absence(self, patience: float) -> DistributedError | None:
        """Return the missing rank."""
        notes = self._heartbeat
        left, silent = notes.left(), notes.silent(patience)
        if left is not None:
            return _left(left, self._rank)
        if silent is not None:
            return _silence(silent)
        if self._parent is not None and os.getppid() != self._parent:
            return _orphaned(self._rank)
        host_left = self._host is not None and notes.has_left(self._host)
        if time.monotonic() - notes.reached > patience and not host_left:
            return _unreachable(self._rank, self._host)
        return None


_TIMED_OUT = ("Timed out waiting", "Application timeout", "Operation timed out", "Watchdog caught collective")
_SIGNS = (
    *_TIMED_OUT,
    "Connection closed by peer",
    "Connection reset by peer",
    "Broken pipe",
    "NCCL",
    "gloo",
    "is killed by signal: Terminated",
)


def _lost_others(error: BaseException) -> bool:
    """Return whether ``error`` may come from an exchange that another process aborted."""
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in _SIGNS)


def _silence(rank: int) -> DistributedError:
    return DistributedError(
        f"rank {rank} sent no heartbeat: it was killed or stopped, or its host or network is down.",
        hint="check its log and its host's; DDP(watchdog=...) sets how long to wait for a heartbeat.",
    )


def _left(rank: int, own: int) -> DistributedError:
    return DistributedError(
        f"rank {rank} exited before joining the run on rank {own}.",
        hint="each process must call fit, validate, test and predict in the same order.",
    )


def _orphaned(rank: int) -> DistributedError:
    return DistributedError(
        f"the launcher of rank {rank} is gone, so this process would never be stopped.",
        hint="check the launcher's log.",
    )


def _unreachable(rank: int, host: int | None) -> DistributedError:
    where = "the launcher of the first host" if host is None else f"rank {host}"
    return DistributedError(
        f"rank {rank} lost the connection to {where}, which holds the shared store: it or its host was killed or"
        f" stopped, or the network is down.",
        hint="check its log and its host's; DDP(watchdog=...) sets how long to wait for a heartbeat.",
    )
