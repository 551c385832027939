"""Puts a finished folder in its place at once: nobody ever sees half of one."""

from __future__ import annotations

import ctypes
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from unitrain.deployment.bundle.manifest import MANIFEST
from unitrain.deployment.bundle.verify import verified
from unitrain.errors import DeployError
from unitrain.utilities.files import claimed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_HERE: Final = -100
_EXCHANGE: Final = 2


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Let no other process write to a folder meanwhile.

    Raises:
        DeployError: If one does.
    """
    claim = claimed(folder)
    if claim is None:
        raise DeployError(f"another process is writing {folder}.", hint="try again when it has finished.")
    try:
        yield
    finally:
        claim.release()


def require_place(folder: Path) -> None:
    """Refuse a folder that may not be replaced: all but an empty one and an unchanged bundle.

    Raises:
        DeployError: If something else is there.
    """
    if not os.path.lexists(folder):
        return
    if folder.is_symlink() or not folder.is_dir():
        raise DeployError(f"{folder} is not a folder.", hint="choose a folder that does not exist yet.")
    if not any(folder.iterdir()):
        return
    hint = "choose another folder, or remove this one if nobody needs it."
    if not (folder / MANIFEST).is_file():
        raise DeployError(f"{folder} is not empty, and unitrain.bundle() did not write it.", hint=hint)
    try:
        verified(folder)
    except DeployError as error:
        reason = str(error).partition("\n")[0]
        raise DeployError(
            f"{folder} is kept, since unitrain.bundle() did not leave it so: {reason}", hint=hint
        ) from error


def put(made: Path, folder: Path) -> None:
    """Move a finished folder to its name; what was there moves to the name of ``made``.

    Raises:
        DeployError: If something else is there by now.
    """
    require_place(folder)
    if not folder.exists():
        made.rename(folder)
    elif not _exchanged(made, folder):
        old = made.with_name(f"{made.name}.old")
        folder.rename(old)
        made.rename(folder)
        old.rename(made)


def _exchanged(one: Path, other: Path) -> bool:
    """Exchange two folders in one step, and return whether this system can."""
    try:
        exchange = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError, TypeError):  # not Linux
        return False
    done: int = exchange(_HERE, os.fsencode(one), _HERE, os.fsencode(other), _EXCHANGE)
    return done == 0
