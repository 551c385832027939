"""Locks that end with the processes that hold them, and the numbers of these processes."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from unitrain.errors import DeployError
from unitrain.utilities.files import HOST

if TYPE_CHECKING:
    import signal

try:
    import fcntl
except ImportError:  # Windows, which the provider refuses
    fcntl = None  # type: ignore[assignment]

_PATIENCE: Final = 2.0
"""Seconds for which a lock may be held by those who only look at it."""
_TICK: Final = 0.02


def locked(lock: Path, *, wait: bool = False) -> int:
    """Hold a lock as long as this process, or one that inherits the file, lives; return the file.

    Args:
        lock: The lock.
        wait: Whether to wait until it is free.

    Raises:
        BlockingIOError: If another process holds it.
        FileNotFoundError: If its folder does not exist.
    """
    deadline = time.monotonic() + _PATIENCE
    while True:
        handle = os.open(lock, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            if time.monotonic() > deadline:
                raise
            time.sleep(_TICK)
            continue
        if is_linked(handle):
            return handle
        os.close(handle)  # it was removed while this process waited


def is_linked(handle: int) -> bool:
    """Return whether an open file is still in its folder."""
    return os.fstat(handle).st_nlink > 0


def is_held(lock: Path) -> bool:
    """Return whether a living process holds a lock; several may look at once."""
    try:
        with lock.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def sign(handle: int, pid: int) -> None:
    """Write into a held lock which process holds it."""
    os.truncate(handle, 0)
    os.pwrite(handle, f"{pid} {HOST}".encode(), 0)


def holder(lock: Path) -> int | None:
    """Return the number of the process that has signed a held lock.

    Raises:
        DeployError: If it runs on another machine.
    """
    found = _holder(lock) if is_held(lock) else None
    if found is None:
        return None
    pid, host = found
    if host != HOST:
        raise DeployError(f"{lock.parent.name!r} runs on the machine {host}.", hint="call it there, or pass folder=.")
    return pid


def _holder(lock: Path) -> tuple[int, str] | None:
    with contextlib.suppress(OSError, ValueError):
        pid, host = lock.read_text(encoding="ascii").split()
        return int(pid), host
    return None


def end(pid: int, folder: Path, number: signal.Signals) -> bool:
    """Send a signal to a process of a deployment, and return whether it was there.

    Args:
        pid: Its number, which another process may have by now.
        folder: Is in its command line.
        number: The signal.
    """
    command = Path(f"/proc/{pid}/cmdline")
    with contextlib.suppress(OSError):
        if Path("/proc/self").exists() and os.fsencode(folder) not in command.read_bytes():
            return False
        os.kill(pid, number)
        return True
    return False
