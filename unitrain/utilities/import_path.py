"""Lets a command import the modules of its user."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


@contextmanager
def importable(named: Iterable[str | None] = ()) -> Iterator[None]:
    """Let modules in the current directory be imported, as ``python -m`` does; a console script does not.

    Processes that are started within get this path too.

    Args:
        named: What is named on the command line; modules beside the file of each ``FILE.py:NAME`` are found as well.
    """
    before = sys.path[:]
    files = [Path(one.rpartition(":")[0]) for one in named if one is not None and ".py:" in one]
    sys.path[:0] = dict.fromkeys([*(str(one.expanduser().resolve().parent) for one in files), str(Path.cwd())])
    try:
        yield
    finally:
        sys.path[:] = before
