"""Sees to it that the end of one process is the end of all, soon, and that each says whose fault it was."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
import traceback
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from unitrain.errors import DistributedError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import timedelta

    from torch.distributed.distributed_c10d import Store

_INTERVAL = 1.0
"""Seconds between two signs of life."""

_GRACE = 5.0
"""Seconds that a process waits for another to say why it broke off; then it is taken to have died without a word."""

EXIT = 70
"""The status of a process that the watchdog ended."""


@dataclass(frozen=True)
class Failure:
    """The first error of a run.

    Attributes:
        rank: Whose it was.
        kind: The class of the exception.
        message: What it said.
        trace: Its traceback, as Python prints it.
    """

    rank: int
    kind: str
    message: str
    trace: str

    @classmethod
    def of(cls, rank: int, error: BaseException) -> Failure:
        """Return the failure that ``error`` is."""
        return cls(rank, type(error).__name__, str(error), "".join(traceback.format_exception(error)))

    def error(self) -> DistributedError:
        """Return the error for all that did not fail themselves."""
        return DistributedError(f"rank {self.rank} failed with {self.kind}; the others stopped.\n\n{self.trace}")


class Watch:
    """A thread that tells the others that this process is alive, and looks after them.

    A process whose neighbour has failed or fallen silent is given time to notice by itself, as its exchanges break
    off; one that hangs on is ended with a line that says why, since nothing else reaches a thread that waits in C++.

    Args:
        store: Where the processes leave notes for each other; used by no other thread.
        rank: The number of this process.
        size: How many there are.
        patience: How long one may be silent.
    """

    def __init__(self, store: Store, rank: int, size: int, patience: timedelta) -> None:
        self._store = store
        self._rank = rank
        self._size = size
        self._patience = patience.total_seconds()
        self._lock = threading.Lock()
        self._seen = dict.fromkeys(range(size), ("", time.monotonic()))
        self._beat = 0
        self._runs = 0
        self._within = False
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="unitrain-watch", daemon=True)

    def start(self) -> None:
        """Start to watch."""
        self._send()
        self._thread.start()

    @contextmanager
    def one_run(self) -> Iterator[None]:
        """Watch over one run; between runs a process waits for nobody. All count their runs alike."""
        self._runs += 1
        self._within = True
        try:
            yield
        finally:
            self._within = False

    def stop(self) -> None:
        """End; a process that has ended well is not missed."""
        self._over.set()
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout=2 * _INTERVAL)
        self._tell(_key(self._rank), _GONE)

    def report(self, error: BaseException) -> None:
        """Tell the others of an error, unless another was first."""
        text = json.dumps(asdict(Failure.of(self._rank, error)))
        with self._lock:
            try:
                self._store.compare_set(self._failure_key, "", text)
            except (RuntimeError, OSError):
                return  # who holds the notes is gone; the others notice that

    def explain(self) -> DistributedError | None:
        """Return why this process lost the others: another's error, or its silence; None if nothing is known."""
        end = time.monotonic() + _GRACE
        while time.monotonic() < end:
            failure = self._failure()
            if failure is not None:
                return None if failure.rank == self._rank else failure.error()
            time.sleep(0.1)
        silent = self._silent(_GRACE)
        return None if silent is None else _silence(silent)

    def _run(self) -> None:
        while not self._over.wait(_INTERVAL):
            self._send()
            run, found = self._runs, self._trouble()
            if found is None or self._over.wait(2 * _GRACE):
                continue
            if self._within and self._runs == run:
                end_process(found)

    def _trouble(self) -> DistributedError | None:
        """Return what is wrong with another process that this one may be waiting for."""
        if not self._within:
            return None
        failure = self._failure()
        if failure is not None:
            return None if failure.rank == self._rank else failure.error()
        silent = self._silent(self._patience)
        return None if silent is None else _silence(silent)

    @property
    def _failure_key(self) -> str:
        return f"unitrain/failure/{self._runs}"

    def _send(self) -> None:
        self._beat += 1
        self._tell(_key(self._rank), str(self._beat))
        self._look()

    def _tell(self, key: str, text: str) -> None:
        with self._lock:
            try:
                self._store.set(key, text)
            except (RuntimeError, OSError):
                return

    def _look(self) -> None:
        """Note what the others have said last, and when it was new; who cannot be asked says nothing new."""
        keys = [_key(rank) for rank in range(self._size)]
        with self._lock:
            try:
                said = [self._store.get(key).decode() if self._store.check([key]) else "" for key in keys]
            except (RuntimeError, OSError):
                return
        for rank, text in enumerate(said):
            if text != self._seen[rank][0]:
                self._seen[rank] = text, time.monotonic()

    def _silent(self, patience: float) -> int | None:
        """Return who has said nothing for ``patience`` seconds, or None."""
        others = [rank for rank in range(self._size) if rank != self._rank and self._seen[rank][0] != _GONE]
        now = time.monotonic()
        oldest = min(others, key=lambda rank: self._seen[rank][1], default=None)
        return oldest if oldest is not None and now - self._seen[oldest][1] > patience else None

    def _failure(self) -> Failure | None:
        with self._lock:
            try:
                key = self._failure_key
                text = self._store.get(key).decode() if self._store.check([key]) else ""
            except (RuntimeError, OSError):
                return None
        return Failure(**json.loads(text)) if text else None


_GONE = "gone"


def _key(rank: int) -> str:
    return f"unitrain/alive/{rank}"


def _silence(rank: int) -> DistributedError:
    return DistributedError(
        f"rank {rank} gave no sign of life: it was killed or stopped, or its host or network is gone.",
        hint="look into its log and its host's; DDP(watchdog=...) says how long to wait for a sign.",
    )


def end_process(error: DistributedError) -> None:
    """End this process at once: its main thread waits in C++ for one that will never answer."""
    sys.stderr.write(f"unitrain: {error}\n")
    sys.stderr.flush()
    os._exit(EXIT)
