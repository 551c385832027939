"""What compiled libraries write past Python, straight to the process's standard error, kept for the error message."""

from __future__ import annotations

import os
import sys
import tempfile
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_STDERR = 2
_TAIL = 1500


@contextmanager
def kept_back() -> Iterator[Callable[[], str]]:
    """Send file descriptor 2 to a temporary file; yields what returns the end of what was written.

    ExecuTorch logs what is wrong with a file there, and on every start what it looked for in the CPU. It is the
    whole process's, so keep this short.
    """
    sys.stderr.flush()
    before = os.dup(_STDERR)
    with tempfile.TemporaryFile() as said:
        os.dup2(said.fileno(), _STDERR)
        try:
            yield lambda: _end(said.fileno())
        finally:
            sys.stderr.flush()
            os.dup2(before, _STDERR)
            os.close(before)


def _end(descriptor: int) -> str:
    size = os.fstat(descriptor).st_size
    return os.pread(descriptor, _TAIL, max(0, size - _TAIL)).decode(errors="replace").strip()
