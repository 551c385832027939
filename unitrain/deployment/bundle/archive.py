"""The tar of a bundle as clouds take it: the files at its root, no folders, the same bytes each time.

It is read by the 512-byte headers alone: the extensions by which an archive could mislead its reader (links, devices,
sparse files, long names, folders) are refused, and nothing is written until all of it has been verified.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import shutil
import tarfile
import zlib
from typing import IO, TYPE_CHECKING, Any, Final, NamedTuple

from unitrain.deployment.bundle.manifest import LARGEST, MANIFEST, SERVE, parsed, refuse_path
from unitrain.errors import DeployError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

LIMIT: Final = 2**34
"""Bytes of all files of a bundle."""

_BLOCK: Final = tarfile.BLOCKSIZE
_CHUNK: Final = 2**20
_END: Final = bytes(_BLOCK)
_NORMAL: Final = (tarfile.REGTYPE, tarfile.AREGTYPE)
_KINDS: Final = {
    tarfile.LNKTYPE: "a hard link",
    tarfile.SYMTYPE: "a link",
    tarfile.CHRTYPE: "a device",
    tarfile.BLKTYPE: "a device",
    tarfile.FIFOTYPE: "a pipe",
    tarfile.DIRTYPE: "a folder",
    tarfile.GNUTYPE_SPARSE: "a sparse file",
}
_HINT: Final = "take an archive that unitrain.bundle(archive=True) wrote."


def mode_of(name: str) -> int:
    """Return the permissions of a file."""
    return 0o755 if name == SERVE else 0o644


def write(folder: Path, names: Mapping[str, Any], file: IO[bytes]) -> None:
    """Write the archive of a folder: the manifest first, then the files that it lists, sorted."""
    with (
        gzip.GzipFile("", "wb", 6, file, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.GNU_FORMAT) as archive,
    ):
        for name in (MANIFEST, *sorted(names)):
            member = tarfile.TarInfo(name)
            member.size, member.mode, member.mtime = (folder / name).stat().st_size, mode_of(name), 0
            with (folder / name).open("rb") as content:
                archive.addfile(member, content)


def inspected(path: Path) -> dict[str, Any]:
    """Return the manifest of an archive whose files are exactly those that it lists; nothing is written.

    Raises:
        DeployError: If it is not an archive of ``bundle()``, unchanged.
    """
    return _read(path, lambda _: _Nowhere())


def unpacked(path: Path, folder: Path) -> dict[str, Any]:
    """Unpack a verified archive into an empty folder, and return its manifest.

    Raises:
        DeployError: As ``inspected``; nothing is written then. If there is no space for it.
    """
    sizes = [one["size"] for one in inspected(path)["files"].values()]
    free = shutil.disk_usage(folder).free
    if sum(sizes) + LARGEST > free:
        raise DeployError(f"{path.name} takes {sum(sizes)} bytes, and {free} are free.", hint="free some space.")

    def create(name: str) -> IO[bytes]:
        place = folder / name
        place.parent.mkdir(parents=True, exist_ok=True)
        made = place.open("xb")
        place.chmod(mode_of(name))
        return made

    return _read(path, create)


class _Nowhere(io.BytesIO):
    """Takes what is only inspected."""

    def write(self, data: Any) -> int:
        return len(data)


class _Member(NamedTuple):
    name: str
    size: int


def _read(path: Path, create: Callable[[str], IO[bytes]]) -> dict[str, Any]:
    try:
        with gzip.open(path, "rb") as packed:
            return _verified(packed, create)  # type: ignore[arg-type] # it reads
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DeployError(f"{path.name} is not a complete .tar.gz: {error}.", hint=_HINT) from error
    except OSError as error:
        raise DeployError(f"{path} cannot be read or unpacked: {error.strerror}.", hint="check the path.") from error


def _verified(packed: IO[bytes], create: Callable[[str], IO[bytes]]) -> dict[str, Any]:
    members = _members(packed)
    first = next(members, None)
    if first is None or first.name != MANIFEST or first.size > LARGEST:
        raise DeployError(f"the archive does not begin with {MANIFEST}.", hint=_HINT)
    text = b"".join(_content(packed, first))
    manifest = parsed(text)
    expected = dict(manifest["files"])
    if sum(one["size"] for one in expected.values()) > LIMIT:
        raise DeployError(f"the archive has more than {LIMIT} bytes unpacked.", hint=_HINT)
    for member in members:
        _copy(packed, member, expected.pop(member.name, None), create)
    if expected:
        raise DeployError(f"{min(expected)} is missing in the archive.", hint=_HINT)
    with create(MANIFEST) as file:
        file.write(text)
    return manifest


def _members(packed: IO[bytes]) -> Iterator[_Member]:
    """Yield the members; each must be read before the next.

    Raises:
        DeployError: If one is anything but a file within the folder.
    """
    while (block := _exactly(packed, _BLOCK)) != _END:
        try:
            header = tarfile.TarInfo.frombuf(block, "utf-8", "strict")
        except (tarfile.HeaderError, UnicodeError) as error:
            raise DeployError(f"the archive is damaged: {error}.", hint=_HINT) from error
        reason = refuse_path(header.name)
        if header.type not in _NORMAL:
            reason = f"it is {_KINDS.get(header.type, 'an extension of the format')}"
        if reason is not None or header.size < 0:
            raise DeployError(f"the archive holds {header.name!r:.80}: {reason}.", hint=_HINT)
        yield _Member(header.name, header.size)
    rest = packed.read(tarfile.RECORDSIZE + 1)
    if len(rest) > tarfile.RECORDSIZE or rest.strip(b"\0"):
        raise DeployError("the archive goes on after its end.", hint=_HINT)


def _copy(packed: IO[bytes], member: _Member, listed: Any, create: Callable[[str], IO[bytes]]) -> None:
    if listed is None:
        raise DeployError(
            f"the archive holds {member.name!r:.80} twice, or it is not listed in {MANIFEST}.", hint=_HINT
        )
    if member.size != listed["size"]:
        raise DeployError(f"{member.name} in the archive has {member.size} bytes, not {listed['size']}.", hint=_HINT)
    digest = hashlib.sha256()
    with create(member.name) as file:
        for chunk in _content(packed, member):
            digest.update(chunk)
            file.write(chunk)
    if digest.hexdigest() != listed["sha256"]:
        raise DeployError(
            f"{member.name} in the archive was changed: its sha256 is not that of {MANIFEST}.", hint=_HINT
        )


def _content(packed: IO[bytes], member: _Member) -> Iterator[bytes]:
    left = member.size
    while left:
        chunk = _exactly(packed, min(left, _CHUNK))
        left -= len(chunk)
        yield chunk
    _exactly(packed, -member.size % _BLOCK)


def _exactly(packed: IO[bytes], size: int) -> bytes:
    found = packed.read(size)
    if len(found) < size:
        raise EOFError("it ends early")
    return found
