"""Whether the process of a run still lives."""

from __future__ import annotations

import os
import platform
from contextlib import suppress
from datetime import datetime
from pathlib import Path

_PROC = Path("/proc")
_DEAD = frozenset("ZXx")
"""States of Linux: ended, but not yet waited for by its parent."""
_STATE, _START = 0, 19
"""Places in /proc/PID/stat after the name."""
_ROUNDING = 5.0
"""Seconds: the kernel's clock counts from the boot."""


def is_alive(number: int | None, host: str | None, started: str) -> bool | None:
    """Return whether a process that wrote a record lives; None if this machine cannot tell.

    Args:
        number: The number of the process.
        host: The machine that it ran on.
        started: When its run began: a process that began later is another one.
    """
    number = number or 0
    if number < 1 or host != platform.node() or os.name != "posix":
        return None
    try:
        os.kill(number, 0)
    except PermissionError:
        return not _is_another(number, started)
    except (OSError, OverflowError):
        return False
    return not _is_another(number, started)


def _is_another(number: int, started: str) -> bool:
    """Return whether Linux says that a process has ended, or began after the run."""
    with suppress(OSError, ValueError, IndexError, TypeError):
        fields = (_PROC / str(number) / "stat").read_text("utf-8", "replace").rpartition(")")[2].split()
        if fields[_STATE] in _DEAD:
            return True
        boot = next(line for line in (_PROC / "stat").read_text("utf-8").splitlines() if line.startswith("btime "))
        began = int(boot.split()[1]) + int(fields[_START]) / os.sysconf("SC_CLK_TCK")
        return began > datetime.fromisoformat(started).timestamp() + _ROUNDING
    return False
