"""What ended a run, as one process tells it to the others, and the last words of a process that cannot go on."""

from __future__ import annotations

import multiprocessing
import os
import sys
import traceback
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from unitrain.errors import DistributedError

if TYPE_CHECKING:
    from collections.abc import Callable

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
        if self.kind == DistributedError.__name__:
            return DistributedError(self.message)  # it speaks of a third process already
        return DistributedError(f"rank {self.rank} failed with {self.kind}; the others stopped.\n\n{self.trace}")


last_words: list[Callable[[DistributedError], None]] = []
"""Called before the watchdog ends this process."""


def end_process(error: DistributedError) -> None:
    """End this process at once: its main thread waits in C++ for one that will never answer."""
    for say in last_words:
        with suppress(Exception):
            say(error)
    for child in multiprocessing.active_children():  # the workers of loaders
        child.kill()
    with suppress(Exception):
        sys.stderr.write(f"unitrain: {error}\n")
        sys.stderr.flush()
    os._exit(EXIT)
