"""The lock of a journal in a file, which is free at once when its holder dies.

Optuna locks a journal by a link beside it, and takes the link of a dead process away after thirty seconds. Ours makes
the same link, so that it keeps Optuna's own processes out, while it holds a lock of the system on the journal. Who has
that lock and still finds a link of ours knows that its maker is dead.
"""

from __future__ import annotations

import os
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from collections.abc import Iterator

_GRACE: Final = 30.0
"""Seconds after which a holder that is stopped is not waited for, as Optuna has it."""
_OURS: Final = f"{os.sep}.{os.sep}"
"""In the text of our links; the path is the same with and without it."""


class JournalLock:
    """The lock of a journal, which Optuna's own processes respect, too.

    Args:
        path: The journal.
        links: Optuna's ``JournalFileSymlinkLock``.
    """

    def __init__(self, path: str, links: Any) -> None:
        journal = Path(path).absolute()
        self._link = f"{journal}.lock"
        self._theirs = links(f"{journal.parent}{_OURS}{journal.name}")

    @contextmanager
    def held(self, handle: int) -> Iterator[None]:
        """Wait until nobody else writes, and let nobody else write within the block.

        Args:
            handle: The open journal.
        """
        try:
            if _locked(handle) and os.access(self._link, os.F_OK):
                with suppress(OSError):  # Optuna has just removed it
                    if _OURS in os.readlink(self._link):  # noqa: PTH115 - a Path would drop the dot
                        os.unlink(self._link)  # noqa: PTH108 - as above
            self._theirs.acquire()
            try:
                yield
            finally:
                self._theirs.release()
        finally:
            if fcntl is not None:  # not left to the closing: a child that was forked meanwhile has the file open, too
                fcntl.flock(handle, fcntl.LOCK_UN)


def _locked(handle: int) -> bool:
    """Wait for the system's lock of an open file, and return whether we have it; Windows has none."""
    if fcntl is None:
        return False
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
