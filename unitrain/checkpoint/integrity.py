"""Checks that a file exists, is readable and is intact before torch reads it."""

from __future__ import annotations

import stat
import zipfile
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

from unitrain.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SUFFIX = ".ckpt"
_FOLDER = 0x10
"""The directory bit in a member's attributes; Python's zipfile only checks names, torch's reader checks both."""

_NEIGHBOURS = 20
"""How many other files are checked if one is damaged, newest first."""

_KINDS = {
    stat.S_ISDIR: "a folder",
    stat.S_ISFIFO: "a named pipe, which has no end",
    stat.S_ISSOCK: "a socket",
    stat.S_ISCHR: "a device",
    stat.S_ISBLK: "a device",
}


@contextmanager
def torchs_classes_alone() -> Iterator[None]:
    """Allow only the classes that torch itself allows, not those that other libraries have added.

    The content of a file must not depend on imported libraries, and no library may allow code to run.
    """
    others = torch.serialization.get_safe_globals()
    torch.serialization.clear_safe_globals()
    try:
        yield
    finally:
        torch.serialization.clear_safe_globals()
        torch.serialization.add_safe_globals(others)


def is_folder(path: Path) -> bool:
    """Return whether ``path`` is a folder; False if it cannot be accessed."""
    try:
        return stat.S_ISDIR(path.stat().st_mode)
    except (OSError, ValueError):
        return False


def require_file(path: Path) -> None:
    """Refuse anything that is not a file that this process may read.

    Raises:
        CheckpointError: If there is no such file, it is not a regular file, or it may not be read.
    """
    try:
        mode = path.stat().st_mode
    except PermissionError as error:
        raise unreadable(path, error) from error
    except (OSError, ValueError) as error:  # nothing there, links in a circle, a name that no file has
        why = "" if isinstance(error, FileNotFoundError) else f" ({error})"
        raise CheckpointError(
            f"checkpoint {path} does not exist{why}.{beside(path)}", hint="pass the path of a file."
        ) from error
    if not stat.S_ISREG(mode):
        what = next((name for is_one, name in _KINDS.items() if is_one(mode)), "no file")
        raise CheckpointError(f"{path} is {what}, not a checkpoint.", hint="pass the path of a file.")
    try:
        path.open("rb").close()
    except OSError as error:
        raise unreadable(path, error) from error


def unreadable(path: Path, error: OSError) -> CheckpointError:
    """Return the error for a file that cannot be read, whatever its content."""
    if isinstance(error, PermissionError):
        return CheckpointError(
            f"the checkpoint {path} cannot be read: permission denied.",
            hint=f"chmod u+r {path}, or run as its owner.",
        )
    return CheckpointError(f"the checkpoint {path} could not be read: {error}.", hint="check the disk and try again.")


def verify(path: Path) -> None:
    """Compare every part of the archive with its checksum, without decompressing or loading it.

    Raises:
        CheckpointError: If the file is damaged, or not an archive written by torch.
    """
    try:
        why = _what_is_wrong(path)
    except PermissionError as error:
        raise unreadable(path, error) from error
    except Exception as error:  # a flipped bit makes zipfile raise one of a dozen kinds
        raise damaged(path, str(error) or type(error).__name__) from error
    if why is not None:
        raise damaged(path, why)


def _what_is_wrong(path: Path) -> str | None:
    """Describe what is wrong with the archive at ``path``; its directory is checked first, which reveals zip bombs."""
    with zipfile.ZipFile(path) as archive:
        why = wrong_directory(archive.infolist(), path)
        if why is not None:
            return why
        broken = archive.testzip()
    return None if broken is None else f"{broken} does not match its checksum"


def wrong_directory(members: list[zipfile.ZipInfo], path: Path) -> str | None:
    """Describe what is wrong with the directory of the archive at ``path``; None if nothing is."""
    size = path.stat().st_size
    odd = [one for one in members if one.compress_type or one.compress_size != one.file_size or one.flag_bits & 1]
    for one in sorted(odd, key=lambda one: one.file_size)[-1:]:
        return (
            f"its member {one.filename!r} is compressed or encrypted, {one.compress_size} bytes that would become"
            f" {one.file_size}; torch stores members as they are, so nothing was unpacked"
        )
    if any(one.external_attr & _FOLDER or one.is_dir() for one in members):
        return "a member is marked as a directory, for which torch would return uninitialized memory"
    if sum(one.file_size for one in members) > size:
        return f"its members are larger than the file's {size} bytes"
    if len({one.filename for one in members}) < len(members):
        return "two of its members have the same name"
    return None


def damaged(path: Path, why: str) -> CheckpointError:
    """Return the error for a damaged file, which names the newest good checkpoint beside it."""
    return CheckpointError(f"the checkpoint {path} is damaged: {why}.{beside(path)}", hint="use an older checkpoint.")


def beside(path: Path) -> str:
    """Return a sentence that names the newest good checkpoint in the same folder, if there is one."""
    for other in _files_beside(path):
        try:
            if _what_is_wrong(other) is None:
                return f" The newest valid checkpoint beside it is {other}."
        except Exception:  # noqa: BLE001, S112 - whatever is wrong with a neighbour, it is not what was asked for
            continue
    return ""


def _files_beside(path: Path) -> list[Path]:
    found: list[tuple[float, Path]] = []
    try:
        for other in path.parent.glob(f"*{SUFFIX}"):
            entry = _regular(other)
            if entry is not None and other.name != path.name:
                found.append((entry, other))
    except (OSError, ValueError):
        return []
    return [other for _, other in sorted(found, key=lambda one: one[0], reverse=True)[:_NEIGHBOURS]]


def _regular(path: Path) -> float | None:
    """Return when the file at ``path`` was written; None if it is not a regular file: opening a pipe would block."""
    try:
        entry = path.stat()
    except OSError:
        return None
    return entry.st_mtime if stat.S_ISREG(entry.st_mode) else None
