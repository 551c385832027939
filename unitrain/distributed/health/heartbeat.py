"""Heartbeats and failure reports in the shared store."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import asdict
from typing import TYPE_CHECKING

from unitrain.distributed.health.failure import Failure

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import timedelta

    from torch.distributed.distributed_c10d import Store

INTERVAL = 1.0
"""Seconds between two heartbeats."""

_DELIVERY = 3.0
"""Seconds that a failing process waits for its report to be written."""

_FAREWELL = 30.0
"""Timeout of the last call in seconds; without a store it fails at once."""

_GONE = "gone after run "


class Heartbeat:
    """The heartbeats of this process and of the others.

    Only one thread uses the store: a call may block for long if a host is down. All others read that thread's results.

    Attributes:
        run: Number of the current or last run, equal on all processes.
        reached: Time of the store's last answer.

    Args:
        store: The store of the notes; used by nothing else.
        rank: Rank of this process.
        size: Number of processes.
        patience: Maximum duration of a call, in seconds.
    """

    def __init__(self, store: Store, rank: int, size: int, patience: timedelta) -> None:
        store.set_timeout(patience)
        self._store = store
        self._rank = rank
        self.run = 0
        self.reached = time.monotonic()
        self._keys = {other: f"unitrain/alive/{other}" for other in range(size) if other != rank}
        self._seen = dict.fromkeys(self._keys, ("", self.reached))
        self._failures: dict[int, Failure] = {}
        self._untold: tuple[int, Failure] | None = None
        self._told = threading.Event()
        self._beat = 0
        self._over = threading.Event()
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._talk, name="unitrain-notes", daemon=True)

    def start(self) -> None:
        """Start the heartbeat."""
        self._thread.start()

    def close(self) -> None:
        """Report a normal exit and stop the heartbeat."""
        self._over.set()
        self._wake.set()
        self._thread.join(timeout=_FAREWELL)  # a thread that is left in C++ when Python ends takes the process down

    @property
    def failure(self) -> Failure | None:
        """The first known failure of the current run."""
        return self._failures.get(self.run)

    def report(self, failure: Failure) -> None:
        """Report a failure to the others unless one is already reported, and wait until it is written."""
        self._told.clear()
        self._untold = self.run, failure
        self._wake.set()
        self._told.wait(_DELIVERY)

    def silent(self, patience: float) -> int | None:
        """Return a rank without a heartbeat for ``patience`` seconds although the store answered, or None."""
        since = {rank: at for rank, (text, at) in self._seen.items() if not text.startswith(_GONE)}
        longest = min(since, key=since.__getitem__, default=None)
        return longest if longest is not None and self.reached - since[longest] > patience else None

    def left(self) -> int | None:
        """Return a rank that ended before the current run, or None."""
        gone = {rank: self._gone_after(rank) for rank in self._seen}
        return next((rank for rank, run in gone.items() if run is not None and run < self.run), None)

    def has_left(self, rank: int) -> bool:
        """Return whether that process has ended normally."""
        return rank in self._seen and self._gone_after(rank) is not None

    def _gone_after(self, rank: int) -> int | None:
        text = self._seen[rank][0]
        return int(text.removeprefix(_GONE)) if text.startswith(_GONE) else None

    def _talk(self) -> None:
        while not self._over.is_set():
            self._try(self._exchange)
            self._wake.wait(INTERVAL)
            self._wake.clear()
        self._try(self._farewell)

    def _try(self, say: Callable[[], None]) -> None:
        """Call the store; if the connection is broken, create a new one for the next call."""
        try:
            say()
        except (RuntimeError, OSError):
            try:
                self._store = self._store.clone()  # type: ignore[attr-defined] # its stubs lack it
            except (RuntimeError, OSError):
                return  # nobody is there; `reached` tells for how long

    def _exchange(self) -> None:
        self._beat += 1
        self._store.set(self._own_key, str(self._beat))
        run = self.run
        if self._untold is not None:
            self._store.compare_set(_failure_key(self._untold[0]), "", json.dumps(asdict(self._untold[1])))
            self._untold = None
            self._told.set()
        said = dict(zip(self._keys, self._read_all(list(self._keys.values())), strict=True))
        text = self._read(_failure_key(run))
        now = time.monotonic()
        for rank, word in said.items():
            if word != self._seen[rank][0]:
                self._seen[rank] = word, now
        if text:
            self._failures[run] = Failure(**json.loads(text))
        self.reached = now

    def _farewell(self) -> None:
        self._store.set(self._own_key, f"{_GONE}{self.run}")

    @property
    def _own_key(self) -> str:
        return f"unitrain/alive/{self._rank}"

    def _read_all(self, keys: list[str]) -> list[str]:
        """Return all notes in one call, once every process has written one."""
        if self._store.check(keys):
            return [value.decode() for value in self._store.multi_get(keys)]
        return [self._read(key) for key in keys]

    def _read(self, key: str) -> str:
        return self._store.get(key).decode() if self._store.check([key]) else ""


def _failure_key(run: int) -> str:
    return f"unitrain/failure/{run}"
