"""Atomic file writes, and file names that two writers cannot both claim.

A file being written is named ``.<file>.<host>-<process>-<token>.part`` and locked while its writer lives. So the next
writer into the folder recognises and removes the leftovers of killed processes, and keeps the files of living processes
and of other hosts.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import socket
import uuid
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final, NamedTuple

from unitrain.errors import ConfigError

try:
    import fcntl
except ImportError:  # Windows: without locks nothing is ever taken for left behind
    fcntl = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from unitrain.errors import UnitrainError

HOST: Final = re.sub(r"[^\w-]", "_", socket.gethostname())[:40] or "host"
LONGEST_NAME: Final = 255
"""The maximum length of a file name in bytes."""

_IN_THE_WAY: Final = "there is a file in place of the folder, or a folder in place of the file: choose another path."
_PART: Final = re.compile(rf"\..*\.{re.escape(HOST)}-\d+-[0-9a-f]{{8}}\.part")
_CLAIM: Final = ".claim"
_NO_SYNC: Final = frozenset({errno.EINVAL, errno.EBADF, errno.ENOTSUP, errno.ENOSYS})
"""What file systems answer that write no folder to the disk: those of networks, of FUSE."""
_UNDATED: Final = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}
_SHOWN = 80
"""How many bytes of a file name the name of its partial file repeats."""


def user_path(given: str | Path) -> Path:
    """Return the user's path, with ``~`` expanded.

    Raises:
        ConfigError: If it is not a path.
    """
    if not isinstance(given, (str, os.PathLike)):
        raise ConfigError(f"a path must be a str or a Path; got {given!r}.", hint=_path_of(given))
    return Path(os.path.expanduser(given))  # noqa: PTH111 - an unknown user's is unchanged, as in a shell


def user_file(given: str | Path, option: str, kind: type[UnitrainError]) -> Path:
    """Return the path of a file given as ``option``.

    Raises:
        UnitrainError: As ``kind``, if it is not a path, or is empty, such as an unset variable.
    """
    if not isinstance(given, (str, os.PathLike)):
        raise kind(f"{option} must be a str or a Path; got {given!r}.", hint=_path_of(given))
    if os.fspath(given) == "":
        raise kind(f"{option}='' is not a path.", hint=f"pass the path of a file, or omit {option}.")
    return user_path(given)


def _path_of(given: Any) -> str:
    """Return a hint on the intended path: a ModelCheckpoint has those of its files."""
    if hasattr(given, "best_model_path"):
        return "pass its .best_model_path or .last_model_path."
    return 'for example "runs/digits/last.ckpt".'


@contextmanager
def failing_as(kind: type[UnitrainError], path: Path) -> Iterator[None]:
    """Raise ``kind`` where ``path`` cannot be written: a full disk, missing permissions, a folder in its place."""
    try:
        yield
    except OSError as error:
        raise kind(
            f"{path} could not be written: {error}. An existing file is unchanged.",
            hint=_IN_THE_WAY
            if isinstance(error, (FileExistsError, NotADirectoryError, IsADirectoryError))
            else "check the permissions of the folder and the free disk space.",
        ) from error


def require_folder(kind: type[UnitrainError], path: Path) -> None:
    """Raise ``kind`` if ``path`` cannot be a folder to write to; nothing is created."""
    there = next(one for one in (path.absolute(), *path.absolute().parents) if os.path.lexists(one))
    with failing_as(kind, path):
        if not there.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(there))
        if not os.access(there, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(there))


@contextmanager
def written(path: Path, *, new: bool = False, check: Callable[[Path], object] | None = None) -> Iterator[IO[bytes]]:
    """Yield an open file that atomically replaces ``path`` when the block ends without an error.

    It gets the default permissions of new files (umask).

    Args:
        path: The file. Its folder is created.
        new: Whether to raise FileExistsError instead of replacing an existing file.
        check: Raises if the written file, which is not at ``path`` yet, is invalid.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    sweep(path.parent)
    part, handle = _new_part(path)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
            if check is not None:
                check(part)
            put(part, path, new=new)
        _sync(path.parent)
    finally:
        part.unlink(missing_ok=True)


def linked(source: Path, path: Path) -> bool:
    """Give the finished file ``source`` a second name, which atomically replaces ``path``; their bytes are stored once.

    Removing or replacing one name does not change the file of the other.

    Returns:
        Whether it did. If not, such as on a file system without hard links, ``path`` is unchanged.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    sweep(path.parent)
    part = _part_of(path)
    try:
        handle = os.open(source, os.O_RDWR)
    except OSError:
        return False
    try:
        _lock(handle)  # before the second name is there, which would otherwise be taken for left behind
        try:
            part.hardlink_to(source)
        except OSError:
            return False
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
        os.close(handle)
    _sync(path.parent)
    return True


@contextmanager
def workspace(path: Path) -> Iterator[Path]:
    """Yield an empty temporary folder beside ``path``; it is removed afterwards, or by the next writer."""
    path.parent.mkdir(parents=True, exist_ok=True)
    sweep(path.parent)
    folder = _part_of(path)
    folder.mkdir()
    handle = os.open(folder, os.O_RDONLY)
    try:
        _lock(handle)
        yield folder
    finally:
        os.close(handle)
        shutil.rmtree(folder, ignore_errors=True)


def save_figure(figure: Any, path: str | Path, kind: type[UnitrainError]) -> None:
    """Write a matplotlib figure atomically and without the time; the suffix of ``path`` sets the format.

    Raises:
        UnitrainError: As ``kind``, if it cannot be written, or matplotlib does not support the format.
    """
    path = user_path(path)
    ending, known = path.suffix[1:].lower(), figure.canvas.get_supported_filetypes()
    if ending and ending not in known:
        raise kind(f"{path}: matplotlib writes no .{ending} files.", hint=f"one of .{', .'.join(sorted(known))}")
    with failing_as(kind, path), written(path) as file:
        figure.savefig(file, format=ending or None, metadata=_UNDATED.get(ending))


def refuse_existing(path: Path, kind: type[UnitrainError], *, overwrite: bool, hint: str) -> None:
    """Refuse to overwrite a file unless ``overwrite``.

    Raises:
        UnitrainError: As ``kind``, if the file exists.
    """
    if not overwrite and os.path.lexists(path):
        raise kind(f"{path} already exists.", hint=hint)


def put(part: Path, path: Path, *, new: bool = False) -> None:
    """Move a finished file to its name.

    Raises:
        FileExistsError: If ``new`` and the file exists.
    """
    if not new:
        part.replace(path)
        return
    try:
        path.hardlink_to(part)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        if os.path.lexists(path):
            raise FileExistsError(f"{path} exists by now") from None
        part.replace(path)
    else:
        part.unlink()


def sweep(folder: Path) -> None:
    """Remove leftovers of killed processes of this host from ``folder``."""
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if _PART.fullmatch(entry.name) or (entry.name[:1] == "." and entry.name.endswith(_CLAIM)):
                with suppress(OSError):
                    _remove_if_left(Path(entry.path), is_folder=entry.is_dir(follow_symlinks=False))


def new_folder(parent: Path, name: str) -> Path:
    """Create and return the first free folder of ``name``, ``name-2`` and so on; two processes never get the same."""
    parent.mkdir(parents=True, exist_ok=True)
    for number in count(1):
        folder = parent / (name if number == 1 else f"{name}-{number}")
        with suppress(FileExistsError):
            folder.mkdir()
            return folder
    raise AssertionError  # pragma: no cover


def folders_of(parent: Path, name: str) -> list[Path]:
    """Return the folders that ``new_folder`` has made, the newest first."""
    pattern = re.compile(rf"{re.escape(name)}(?:-([2-9]|[1-9]\d+))?")
    found = [(pattern.fullmatch(one.name), one) for one in (parent.iterdir() if parent.is_dir() else ())]
    numbered = [(int(match[1] or 1), one) for match, one in found if match is not None and one.is_dir()]
    return [one for _, one in sorted(numbered, reverse=True)]


def versions(path: Path) -> Iterator[Path]:
    """Yield ``path`` and its next versions, ``name-v1.ckpt`` and so on, as Lightning names them."""
    yield path
    for number in count(1):
        yield path.with_name(f"{path.stem}-v{number}{path.suffix}")


class Claim(NamedTuple):
    """A reserved file name; a file ``.<name>.claim`` tells other writers."""

    marker: Path
    handle: int

    def release(self) -> None:
        """Release the name."""
        self.marker.unlink(missing_ok=True)
        os.close(self.handle)


def claimed(path: Path) -> Claim | None:
    """Reserve a name, or return None if another writer has it; a claim of a killed process is taken over."""
    marker = _marker(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    found = _marked(marker)
    if found is None:
        with suppress(OSError):
            _remove_if_left(marker, is_folder=False)
        found = _marked(marker)
    return found


def _marked(marker: Path) -> Claim | None:
    """Make the claim file, unless there is one.

    It gets its name once it is complete: nobody may remove a claim without a host, which a killed process would leave.
    """
    part, handle = _new_part(marker)
    try:
        os.write(handle, HOST.encode())
        marker.hardlink_to(part)
    except FileExistsError:
        os.close(handle)
        return None
    except OSError:  # a file system without hard links
        os.close(handle)
        return _marked_directly(marker)
    finally:
        part.unlink(missing_ok=True)
    return Claim(marker, handle)


def _marked_directly(marker: Path) -> Claim | None:
    try:
        handle = os.open(marker, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o666)
    except FileExistsError:
        return None
    _lock(handle)
    os.write(handle, HOST.encode())
    if not _is_linked(handle):  # somebody took it for left behind before it was locked
        os.close(handle)
        return None
    return Claim(marker, handle)


def is_claimed(path: Path) -> bool:
    """Return whether another writer has reserved the name; claims of killed processes of this host do not count."""
    with suppress(OSError):
        _remove_if_left(_marker(path), is_folder=False)
    return os.path.lexists(_marker(path))


def _marker(path: Path) -> Path:
    """Return the claim file of ``path``."""
    shown = path.name if len(os.fsencode(path.name)) < LONGEST_NAME - 10 else _digest(path.name)
    return path.with_name(f".{shown}{_CLAIM}")


def _remove_if_left(path: Path, *, is_folder: bool) -> None:
    """Remove a leftover file, whose lock is free. A claim of another host is kept."""
    if fcntl is None:
        return
    handle = os.open(path, os.O_RDONLY if is_folder else os.O_RDWR)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not os.path.samestat(os.fstat(handle), path.stat()):
            return  # its owner has released it, and another writer has the name now
        if path.name.endswith(_CLAIM) and os.read(handle, 2 * len(HOST)) != HOST.encode():
            return
        if is_folder:
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink()
    finally:
        os.close(handle)


def _new_part(path: Path) -> tuple[Path, int]:
    """Return a new part file for ``path``, open and locked."""
    while True:
        part = _part_of(path)
        handle = os.open(part, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o666)
        _lock(handle)
        if _is_linked(handle):
            return part, handle
        os.close(handle)  # somebody took it for left behind before it was locked


def _part_of(path: Path) -> Path:
    shown = os.fsencode(path.name)[:_SHOWN].decode("utf-8", "ignore")
    return path.with_name(f".{shown}.{HOST}-{os.getpid()}-{uuid.uuid4().hex[:8]}.part")


def _lock(handle: int) -> None:
    if fcntl is not None:
        with suppress(OSError):  # a file system without locks, where nothing is taken for left behind either
            fcntl.flock(handle, fcntl.LOCK_EX)


def _is_linked(handle: int) -> bool:
    return os.fstat(handle).st_nlink > 0


def _digest(name: str) -> str:
    return hashlib.sha256(os.fsencode(name)).hexdigest()[:32]


def _sync(folder: Path) -> None:
    """Sync a folder to disk, if its file system supports that."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:  # it may be written but not listed; Windows opens no folder
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_SYNC:
            raise
    finally:
        os.close(descriptor)
