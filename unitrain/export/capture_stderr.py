"""Captures output of libraries, including direct writes to stderr, for error messages."""

from __future__ import annotations

import os
import sys
import tempfile
import warnings
from contextlib import contextmanager, redirect_stderr
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_STDERR = 2
_TAIL = 1500


@contextmanager
def kept_back() -> Iterator[Callable[[], str]]:
    """Send file descriptor 2 to a temporary file, and drop warnings; yields what returns the end of what was written.

    ExecuTorch logs what is wrong with a file there, and on every start what it looked for in the CPU. It is the
    whole process's, so keep this short, and the user's code out of it.
    """
    sys.stderr.flush()
    before = os.dup(_STDERR)
    with tempfile.TemporaryFile("w+", buffering=1) as said, warnings.catch_warnings(), redirect_stderr(said):
        warnings.simplefilter("ignore")
        os.dup2(said.fileno(), _STDERR)
        try:
            yield lambda: _end(said.fileno())
        finally:
            os.dup2(before, _STDERR)
            os.close(before)


def _end(descriptor: int) -> str:
    size = os.fstat(descriptor).st_size
    return os.pread(descriptor, _TAIL, max(0, size - _TAIL)).decode(errors="replace").strip()
