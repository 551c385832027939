"""Failure reports that processes exchange."""

from __future__ import annotations

import multiprocessing
import os
import sys
import traceback
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from unitrain import errors
from unitrain.errors import DistributedError, UnitrainError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

EXIT = 70
"""The exit status of a process that the watchdog terminated."""

_OWN: dict[str, type[UnitrainError]] = {
    name: one for name, one in vars(errors).items() if isinstance(one, type) and issubclass(one, UnitrainError)
}


@dataclass(frozen=True)
class Failure:
    """The first error of a run.

    Attributes:
        rank: Rank of the failed process.
        kind: The class of the exception.
        message: The message without its hint.
        trace: The traceback as text.
        own: Name of its class if it is an error of unitrain, else None.
        hint: The hint of an error of unitrain.
        notes: The notes added to it.
    """

    rank: int
    kind: str
    message: str
    trace: str
    own: str | None = None
    hint: str | None = None
    notes: Sequence[str] = ()

    @classmethod
    def of(cls, rank: int, error: BaseException) -> Failure:
        """Return the failure for ``error``."""
        own = next((one.__name__ for one in type(error).__mro__ if _OWN.get(one.__name__) is one), None)
        hint = error.hint if isinstance(error, UnitrainError) else None
        message = str(error) if hint is None else str(error).removesuffix(f"\nHint: {hint}")
        notes = tuple(getattr(error, "__notes__", ()))
        return cls(rank, type(error).__name__, message, "".join(traceback.format_exception(error)), own, hint, notes)

    @property
    def is_of_others(self) -> bool:
        """Whether it only reports the loss of another process."""
        return self.own == DistributedError.__name__

    def raised(self) -> UnitrainError:
        """Return the error to raise in the parent: unitrain's own errors unchanged."""
        if self.own is None:
            return self.error()
        error = _OWN[self.own](self.message, hint=self.hint)
        for note in (*self.notes, f"unitrain: raised on rank {self.rank}"):
            error.add_note(note)
        return error

    def error(self) -> DistributedError:
        """Return the error for all processes that did not fail themselves."""
        if self.is_of_others:
            return DistributedError(self.message, hint=self.hint)  # it speaks of a third process already
        return DistributedError(f"rank {self.rank} failed with {self.kind}; the others stopped.\n\n{self.trace}")


last_words: list[Callable[[DistributedError], None]] = []
"""Called before the watchdog ends this process."""


def end_process(error: DistributedError) -> None:
    """End this process at once: its main thread waits in C++ for a process that will never answer."""
    for say in last_words:
        with suppress(Exception):
            say(error)
    for child in multiprocessing.active_children():  # the workers of loaders
        child.kill()
    with suppress(Exception):
        sys.stderr.write(f"unitrain: {error}\n")
        sys.stderr.flush()
    os._exit(EXIT)
