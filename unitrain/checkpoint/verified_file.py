"""Reads a file of torch in one pass: each tensor is compared with its checksum as torch reads it.

A second pass for the checksums alone would take as long as the loading. Several threads read a large tensor, because
memory and checksum keep a core busy.
"""

from __future__ import annotations

import os
import struct
import zipfile
import zlib
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from io import SEEK_CUR, SEEK_END, SEEK_SET, RawIOBase
from itertools import pairwise
from threading import Lock
from typing import TYPE_CHECKING, Any, NamedTuple

from unitrain.checkpoint.integrity import wrong_directory

if TYPE_CHECKING:
    from pathlib import Path

_PIECE = 2**18
"""Bytes that are summed up while they are still in the processor's cache."""
_LOG_OF_BLOCK = 22
_BLOCK = 2**_LOG_OF_BLOCK
"""Bytes of a tensor that a thread reads."""
_MOST_THREADS = 8
_POLYNOMIAL, _BITS = 0xEDB88320, 32
_HEADER = struct.Struct("<4s22xHH")
_SIGNATURE = b"PK\3\4"
_UTF8 = 0x800


class DamageError(Exception):
    """A file is damaged; the message says how."""


class _Member(NamedTuple):
    """A part of the archive.

    Attributes:
        name: Its name.
        start: Where its bytes begin.
        size: How many there are.
        checksum: Of them.
    """

    name: str
    start: int
    size: int
    checksum: int


class VerifiedFile(RawIOBase):
    """A file for ``torch.load``, which gives out no tensor that does not match its checksum.

    Everything but tensors is verified at once, so that nothing damaged is unpickled.

    Attributes:
        broken: The member that did not match, of which torch has got nothing.

    Args:
        path: The file.

    Raises:
        DamageError: If the directory of the archive, or anything but a tensor, is damaged.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._file = path.open("rb", buffering=0)
        self._lock = Lock()
        self._threads: ThreadPoolExecutor | None = None
        self._at = 0
        self.broken: str | None = None
        try:
            self._size = os.fstat(self._file.fileno()).st_size
            self._unread = {one.start: one for one in self._members(path) if one.size}
            for one in [one for one in self._unread.values() if "/data/" not in one.name]:
                self._verify(one)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the file, and end the threads."""
        if self._threads is not None:
            self._threads.shutdown()
        self._file.close()
        super().close()

    def verify_rest(self) -> None:
        """Verify what torch has not read.

        Raises:
            DamageError: If it is damaged.
        """
        for one in list(self._unread.values()):
            self._verify(one)

    def _members(self, path: Path) -> list[_Member]:
        with zipfile.ZipFile(self._file) as archive:
            infos = archive.infolist()
            why = wrong_directory(infos, path)
        if why is not None:
            raise DamageError(why)
        found = sorted(map(self._member, infos), key=lambda one: one.start)
        for one, following in pairwise(found):
            if one.start + one.size > following.start:
                raise DamageError(f"{one.name} and {following.name} overlap")
        for one in found:
            if not one.size and one.checksum:
                raise DamageError(f"{one.name} does not match its checksum")
        return found

    def _member(self, info: zipfile.ZipInfo) -> _Member:
        """Return where a member is, whose own header repeats its name."""
        header = bytearray(_HEADER.size)
        self._filled(memoryview(header), info.header_offset)  # what is missing stays zero
        signature, length, extra = _HEADER.unpack(header)
        start = info.header_offset + _HEADER.size
        name = bytearray(length)
        self._filled(memoryview(name), start)
        if signature != _SIGNATURE or name != info.orig_filename.encode("utf-8" if info.flag_bits & _UTF8 else "cp437"):
            raise DamageError(f"the header of {info.filename} does not match the directory")
        return _Member(info.filename, start + length + extra, info.file_size, info.CRC)

    def _verify(self, one: _Member) -> None:
        if self._read(memoryview(bytearray(one.size)), one.start) != one.size or one.start in self._unread:
            raise DamageError(f"{one.name} does not match its checksum")

    # --- what torch calls ---------------------------------------------------------------------------------------------

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def tell(self) -> int:
        """Return the position."""
        return self._at

    def seek(self, offset: int, whence: int = SEEK_SET, /) -> int:
        """Set the position."""
        self._at = offset + {SEEK_SET: 0, SEEK_CUR: self._at, SEEK_END: self._size}[whence]
        return self._at

    def readinto(self, buffer: Any, /) -> int:
        """Fill ``buffer``; return 0, which ends the loading, if it is a whole member that does not match."""
        count = self._read(memoryview(buffer).cast("B"), self._at)
        self._at += count
        return count

    def _read(self, view: memoryview, start: int) -> int:
        member = self._unread.get(start)
        if member is None or member.size != len(view):
            return self._filled(view, start)[0]
        count, checksum = self._in_parallel(view, start)
        if count != member.size or checksum != member.checksum:
            self.broken = member.name
            return 0
        del self._unread[start]
        return count

    def _in_parallel(self, view: memoryview, start: int) -> tuple[int, int]:
        """Fill ``view`` from several threads if it is large; return how many bytes there were, and their checksum."""
        whole = len(view) // _BLOCK
        if whole < 2 or _cores() == 1:  # noqa: PLR2004 - a single block has nothing beside it
            return self._filled(view, start)
        if self._threads is None:
            self._threads = ThreadPoolExecutor(min(_cores(), _MOST_THREADS))
        parts = [
            self._threads.submit(self._filled, view[at : at + _BLOCK], start + at)
            for at in range(0, whole * _BLOCK, _BLOCK)
        ]
        done = [part.result() for part in parts]  # all, before the memory may go away
        count, checksum = sum(one for one, _ in done), 0
        for _, one in done:
            checksum = _times(_beyond_a_block(), checksum) ^ one
        more, checksum = self._filled(view[whole * _BLOCK :], start + whole * _BLOCK, checksum)
        return count + more, checksum

    def _filled(self, view: memoryview, start: int, checksum: int = 0) -> tuple[int, int]:
        """Fill ``view`` with what is at ``start``; return the number of bytes, and the checksum continued by them."""
        done = 0
        while done < len(view):
            piece = view[done : done + _PIECE]
            count = self._piece(piece, start + done)
            if not count:
                break
            checksum = zlib.crc32(piece[:count], checksum)
            done += count
        return done, checksum

    def _piece(self, piece: memoryview, start: int) -> int:
        if hasattr(os, "preadv"):
            return os.preadv(self._file.fileno(), [piece], start)
        with self._lock:  # Windows only reads where the file's one position is
            self._file.seek(start)
            return self._file.readinto(piece) or 0


@cache
def _cores() -> int:
    """Return how many processors this process may use."""
    allowed = getattr(os, "sched_getaffinity", None)
    return len(allowed(0)) if allowed is not None else os.cpu_count() or 1


Matrix = tuple[int, ...]
"""A linear map of checksums: of each bit, what becomes of it."""


def _times(matrix: Matrix, checksum: int) -> int:
    found = 0
    for column in matrix:
        if checksum & 1:
            found ^= column
        checksum >>= 1
    return found


@cache
def _beyond_a_block() -> Matrix:
    """Return what a block of other bytes behind them makes of the checksum of some bytes, as zlib's crc32_combine does.

    The checksum of both is this, plus (without carry) the checksum of the block alone.
    """
    matrix: Matrix = (_POLYNOMIAL, *(1 << bit for bit in range(_BITS - 1)))  # of a single bit
    for _ in range(_LOG_OF_BLOCK + 3):  # of twice as many each time; a byte has 2 ** 3
        matrix = tuple(_times(matrix, column) for column in matrix)
    return matrix
