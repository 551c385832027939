"""The lock of a journal in a file, which is free at once when its holder dies.

Optuna locks a journal by a link beside it, and takes the link of a dead process away after thirty seconds. Ours makes
the same link, so that it keeps Optuna's own processes out, while it holds a lock of the system on the journal. Who has
that lock and still finds a link of ours knows that its maker is dead.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_GRACE: Final = 30.0
"""Seconds after which a holder that is stopped is not waited for, as Optuna has it."""
_OURS: Final = f"{os.sep}.{os.sep}"
"""In the text of our links; the path is the same with and without it."""


class JournalLock:
    """Optuna's lock of a journal, as its ``lock_obj``.

    Args:
        path: The journal.
        links: Optuna's ``JournalFileSymlinkLock``.
    """

    def __init__(self, path: str, links: Any) -> None:
        self._path = Path(path)
        self._link = f"{path}.lock"
        self._theirs = links(f"{self._path.parent}{_OURS}{self._path.name}")
        self._handle: int | None = None

    def acquire(self) -> bool:
        """Wait until nobody else writes."""
        handle = os.open(self._path, os.O_CREAT | os.O_RDWR, 0o666)
        try:
            if _locked(handle):
                with suppress(OSError):  # there is none
                    if _OURS in os.readlink(self._link):  # noqa: PTH115 - a Path would drop the dot
                        os.unlink(self._link)  # noqa: PTH108 - as above
            acquired: bool = self._theirs.acquire()
        except BaseException:
            _closed(handle)
            raise
        self._handle = handle
        return acquired

    def release(self) -> None:
        """Let others write."""
        handle, self._handle = self._handle, None
        try:
            self._theirs.release()
        finally:
            if handle is not None:
                _closed(handle)


def _locked(handle: int) -> bool:
    """Wait for the system's lock of an open file, and return whether we have it."""
    deadline, pause = time.monotonic() + _GRACE, 0.0005
    while time.monotonic() < deadline:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(pause)
            pause = min(2 * pause, 0.02)
        else:
            return True
    return False


def _closed(handle: int) -> None:
    """Unlock an open file and close it: a child that was forked meanwhile has it too, and would keep the lock."""
    try:
        fcntl.flock(handle, fcntl.LOCK_UN)
    finally:
        os.close(handle)


def journal_lock(path: str, links: Any) -> Any:
    """Return the lock for a journal; Optuna's own where the system has none."""
    return links(path) if fcntl is None else JournalLock(path, links)
