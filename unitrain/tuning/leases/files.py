"""Leases as locked files, beside a journal or a SQLite database; the lock of a dead process is free at once.

A child that a DataLoader forks inherits the open file, and with it the lock. It closes it, so that a trial is free as
soon as its worker is dead.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from typing import TYPE_CHECKING
from weakref import WeakSet

from unitrain.utilities.files import claimed

if TYPE_CHECKING:
    from pathlib import Path

    from unitrain.tuning.storage.address import Address
    from unitrain.utilities.files import Claim

_SAFE = re.compile(r"[^\w.-]")


class FileLease:
    """A claimed file name.

    Args:
        claim: To the name.
    """

    def __init__(self, claim: Claim) -> None:
        self._claim = claim
        self._handle: int | None = claim.handle
        _HELD.add(self)

    def held(self) -> bool:
        """Return True: a lock stays as long as its process lives."""
        return True

    def release(self) -> None:
        """Remove the file, and close it."""
        if self._handle is not None:
            self._handle = None
            self._claim.release()

    def forget(self) -> None:
        """Close the file in a child, in which it is not a lease."""
        if self._handle is not None:
            with suppress(OSError):
                os.close(self._handle)
            self._handle = None


_HELD: WeakSet[FileLease] = WeakSet()


def _forget_all() -> None:
    for lease in list(_HELD):
        lease.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)


class FileLeases:
    """The leases of a study.

    Args:
        folder: Where the files are.
        study: Its name.
    """

    def __init__(self, folder: Path, study: str) -> None:
        self._folder = folder
        self._study = _SAFE.sub("_", study)

    def take(self, name: str) -> FileLease | None:
        """Return the lease of ``name``, or None if a living worker has it."""
        claim = claimed(self._folder / f"{self._study}.{name}")
        return None if claim is None else FileLease(claim)

    def close(self) -> None:
        """Remove the folder, if nobody has a lease."""
        with suppress(OSError):
            self._folder.rmdir()


def make(address: Address, study: str) -> FileLeases:
    """Return the leases of a study that is kept in a file."""
    return FileLeases(address.path.with_name(f"{address.path.name}.leases"), study)
