"""Files and connections that must not outlive their process in a child.

A DataLoader forks its workers. They inherit the lock or the connection that says that this worker lives, and may live
a few seconds longer than a worker that is killed. So a child replaces each at once by the empty device.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol
from weakref import WeakSet

if TYPE_CHECKING:
    from collections.abc import Iterable


class Holder(Protocol):
    """What has such files."""

    def handles(self) -> Iterable[int]:
        """Yield their numbers."""


_HOLDERS: WeakSet[Holder] = WeakSet()


def not_inherited(holder: Holder) -> None:
    """Close the files of ``holder`` in each child that is forked."""
    _HOLDERS.add(holder)


def _replace_all() -> None:
    empty = os.open(os.devnull, os.O_RDWR)
    for holder in list(_HOLDERS):
        for handle in holder.handles():
            with suppress(OSError):
                os.dup2(empty, handle)  # closed only, the number could become that of another file
    os.close(empty)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_replace_all)
