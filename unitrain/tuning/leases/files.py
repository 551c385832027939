"""Leases as locked files, beside a journal or a SQLite database; the lock of a dead process is free at once."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from typing import TYPE_CHECKING

from unitrain.errors import ConfigError
from unitrain.tuning.leases.forked import not_inherited

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from pathlib import Path

    from unitrain.tuning.storage.address import Address

_SAFE = re.compile(r"[^\w.-]")


class FileLease:
    """A locked file. Its content and owner do not matter: only the lock counts.

    Args:
        path: The file.
        handle: The open and locked file.
    """

    def __init__(self, path: Path, handle: int) -> None:
        self._path = path
        self._handle: int | None = handle
        not_inherited(self)

    def held(self) -> bool:
        """Return True: a lock stays as long as its process lives."""
        return True

    def release(self) -> None:
        """Remove the file, and unlock it."""
        handle, self._handle = self._handle, None
        if handle is not None:
            self._path.unlink(missing_ok=True)
            os.close(handle)

    def handles(self) -> list[int]:
        """Return the open file, for a child that is forked."""
        return [] if self._handle is None else [self._handle]


class FileLeases:
    """The leases of a study.

    Args:
        folder: Folder of the files.
        study: Name of the study.
    """

    def __init__(self, folder: Path, study: str) -> None:
        self._folder = folder
        self._study = _SAFE.sub("_", study)

    def take(self, name: str) -> FileLease | None:
        """Return the lease of ``name``, or None if a living worker has it."""
        path = self._folder / f"{self._study}.{name}.lock"
        try:
            handle = os.open(path, os.O_CREAT | os.O_RDWR, 0o666)
        except FileNotFoundError:  # nobody has a lease: there is no folder yet, or another worker has just removed it
            self._folder.mkdir(parents=True, exist_ok=True)
            return self.take(name)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(handle), path.stat()):
                return FileLease(path, handle)
        except (BlockingIOError, FileNotFoundError):
            pass
        os.close(handle)  # another has it, or has just removed it
        return None

    def close(self) -> None:
        """Remove the folder, if nobody has a lease."""
        with suppress(OSError):
            self._folder.rmdir()


def require_locks(address: Address) -> None:
    """Refuse a study in a file where files cannot be locked.

    Raises:
        ConfigError: On Windows, which does not have such locks.
    """
    if fcntl is None:
        raise ConfigError(
            f"storage={str(address)!r}: a study in a file needs file locks, which Windows does not have.",
            hint='storage="redis://HOST/0" or storage="postgresql://USER@HOST/DB"',
        )


def make(address: Address, study: str) -> FileLeases:
    """Return the leases of a study stored in a file."""
    return FileLeases(address.path.with_name(f"{address.path.name}.leases"), study)
