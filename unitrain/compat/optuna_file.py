"""An Optuna journal in a file: it reads only what is new, and detects a file that lost records.

The format and the lock are those of Optuna's ``JournalFileBackend``, so each can work on the other's file.
"""

from __future__ import annotations

import json
import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from unitrain.compat.optuna_lock import JournalLock
from unitrain.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator


_to_disk: Final = getattr(os, "fdatasync", os.fsync)  # the times of the file need not be there
_BINARY: Final = getattr(os, "O_BINARY", 0)  # Windows


class FileJournal:
    """The records of studies in a file, a line each, for ``optuna.storages.JournalStorage``.

    Args:
        path: The file; it is created if it does not exist.
        links: Optuna's ``JournalFileSymlinkLock``.
    """

    def __init__(self, path: str, links: Any) -> None:
        self._path = path
        self._lock = JournalLock(path, links)
        Path(path).open("ab").close()
        found = Path(path).stat()
        self._inode = found.st_dev, found.st_ino
        self._number = self._offset = 0  # of the first record that was not read, and where it begins
        self._newest = b""
        self._news = b""  # what the last append has found and added

    def __repr__(self) -> str:
        """Return the path."""
        return f"FileJournal({self._path!r})"

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Append records: all of them, or none.

        Raises:
            ConfigError: If the file has lost records that were read before; then nothing is written.
        """
        lines = "".join(f"{json.dumps(one, separators=(',', ':'))}\n" for one in logs).encode()
        with self._opened(os.O_RDWR | os.O_APPEND) as handle, self._lock.held(handle):
            unread = self._unread(handle)
            whole = unread[: unread.rfind(b"\n") + 1]
            end = self._offset + len(whole)
            if len(unread) > len(whole):  # its writer died in the middle of a record
                os.ftruncate(handle, end)
            try:
                _write(handle, lines)
            except OSError:  # such as a full disk
                os.ftruncate(handle, end)
                raise
        self._news = whole + lines

    @contextmanager
    def _opened(self, flags: int) -> Iterator[int]:
        """Open the file, which is not created again."""
        try:
            handle = os.open(self._path, flags | _BINARY)
        except FileNotFoundError:
            raise self._went_back() from None
        try:
            yield handle
        finally:
            os.close(handle)

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:
        """Yield the records from a number on.

        Raises:
            ConfigError: If the file has lost records that were read before, or a record is damaged.
        """
        news, self._news = self._news, b""
        if log_number_from != self._number:
            self._number, self._offset, self._newest = 0, 0, b""
            news = b""
        if not news and self._size() > self._offset:
            with self._opened(os.O_RDONLY) as handle:
                news = self._unread(handle)
        for line in news.splitlines(keepends=True):
            if not line.endswith(b"\n"):
                return  # another process is writing it, or died while it did
            record = self._parsed(line)
            self._number, self._offset, self._newest = self._number + 1, self._offset + len(line), line
            if self._number > log_number_from:
                yield record

    def _parsed(self, line: bytes) -> dict[str, Any]:
        try:
            found: dict[str, Any] = json.loads(line)
        except ValueError as error:
            raise ConfigError(
                f"line {self._number + 1} of the study file {self._path} is damaged: {error}.",
                hint="restore the file, or use a new one.",
            ) from error
        return found

    def _size(self) -> int:
        """Return the size of the file.

        Raises:
            ConfigError: If it is another file, or shorter than what was read.
        """
        try:
            found = os.stat(self._path)  # noqa: PTH116 - a Path takes twice as long, and each look at the study comes here
        except FileNotFoundError:
            raise self._went_back() from None
        return self._required(found).st_size

    def _required(self, found: os.stat_result) -> os.stat_result:
        if (found.st_dev, found.st_ino) != self._inode or found.st_size < self._offset:
            raise self._went_back()
        return found

    def _unread(self, handle: int) -> bytes:
        """Return what follows the newest record that was read.

        Raises:
            ConfigError: If that record is no longer there.
        """
        size, known = self._required(os.fstat(handle)).st_size, len(self._newest)
        found = _read(handle, self._offset - known, size)
        if not found.startswith(self._newest):
            raise self._went_back()
        return found[known:]

    def _went_back(self) -> ConfigError:
        return ConfigError(
            f"the study file {self._path} was removed, replaced or cut: it lost records that this process has read."
            " Nothing was written.",
            hint="restore the newest file, or use a new study_name=.",
        )


def _read(handle: int, start: int, end: int) -> bytes:
    os.lseek(handle, start, os.SEEK_SET)
    found = os.read(handle, end - start)
    while len(found) < end - start:  # a single call returns at most 2 GiB
        more = os.read(handle, end - start - len(found))
        if not more:
            break
        found += more
    return found


def _write(handle: int, text: bytes) -> None:
    """Write ``text`` to the end of the file, and to the disk."""
    view = memoryview(text)
    while view:
        view = view[os.write(handle, view) :]
    _to_disk(handle)
