"""Handles SIGTERM, which launchers send to the remaining processes after a failure."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING

from unitrain.distributed.health.failure import end_process

if TYPE_CHECKING:
    from unitrain.distributed.health.watchdog import Watchdog

_PARTING = 5.0
"""Seconds after a failure in which a process exits itself with its error; SIGTERM would cut it off."""


def mind_sigterm(watch: Watchdog) -> None:
    """Handle SIGTERM as usual, but name the failed process, if any.

    A running fit has its own handler. This one stays after a failure, until the process ends.
    """
    if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _Parting(watch))


class _Parting:
    """The handler.

    Args:
        watch: The watchdog of the other processes.
    """

    def __init__(self, watch: Watchdog) -> None:
        self._watch = watch
        self._process = os.getpid()

    def __call__(self, number: int, _: object) -> None:
        if os.getpid() == self._process:  # not a loader's worker
            failing = self._watch.within and sys.exc_info()[0] is not None
            if failing or time.monotonic() - self._watch.failed_at < _PARTING:
                self._later(number)  # an error is on its way out, and with it this process
                return
            found = self._watch.explain() if self._watch.within else None
            if found is not None:
                end_process(found)
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)

    @staticmethod
    def _later(number: int) -> None:
        timer = threading.Timer(_PARTING, os.kill, (os.getpid(), number))
        timer.daemon = True
        timer.start()
