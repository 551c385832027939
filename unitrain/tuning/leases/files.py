"""Leases as locked files, beside a journal or a SQLite database; the lock of a dead process is free at once."""

from __future__ import annotations

import re
from contextlib import suppress
from typing import TYPE_CHECKING

from unitrain.tuning.leases.forked import not_inherited
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
        not_inherited(self)

    def held(self) -> bool:
        """Return True: a lock stays as long as its process lives."""
        return True

    def release(self) -> None:
        """Remove the file, and close it."""
        if self._handle is not None:
            self._handle = None
            self._claim.release()

    def handles(self) -> list[int]:
        """Return the open file, for a child that is forked."""
        return [] if self._handle is None else [self._handle]


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
