"""Compares a folder with its manifest."""

from __future__ import annotations

import hashlib
import os
import stat
from typing import TYPE_CHECKING, Any, Final

from unitrain.deployment.bundle.manifest import ARCHIVE, LARGEST, MANIFEST, parsed
from unitrain.errors import DeployError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

_BLOCK: Final = 2**20
_AGAIN: Final = "write the bundle again, or unpack its archive again."


def verified(folder: Path) -> dict[str, Any]:
    """Return the manifest of a folder that holds exactly what it lists.

    Raises:
        DeployError: If a file differs, is missing, is a link, or is not listed.
    """
    try:
        manifest = parsed(_small(folder / MANIFEST))
        found = dict(_files_of(folder, ""))
        _require_all(folder, manifest["files"], found)
        for name, one in manifest["files"].items():
            _require_same(folder, name, one, found[name])
    except OSError as error:
        raise DeployError(f"{folder} cannot be read: {error.strerror}.", hint="check the path.") from error
    return manifest


def _small(path: Path) -> bytes:
    """Return the text of a manifest.

    Raises:
        DeployError: If there is none.
    """
    try:
        found = path.lstat()
    except FileNotFoundError:
        hint = 'unitrain.bundle("model.onnx", "out/") writes one.'
        raise DeployError(f"{path.parent} is not a bundle: it has no {MANIFEST}.", hint=hint) from None
    if not stat.S_ISREG(found.st_mode) or found.st_size > LARGEST:
        raise DeployError(f"{path} is not the manifest of a bundle: not a file, or too large.", hint=_AGAIN)
    return path.read_bytes()


def _files_of(folder: Path, within: str) -> Iterator[tuple[str, int]]:
    """Yield the files below a folder with their sizes.

    Raises:
        DeployError: If there is anything but files and folders.
    """
    with os.scandir(folder / within) as entries:
        for entry in entries:
            name, found = f"{within}{entry.name}", entry.stat(follow_symlinks=False)
            if stat.S_ISDIR(found.st_mode):
                yield from _files_of(folder, f"{name}/")
            elif stat.S_ISREG(found.st_mode):
                yield name, found.st_size
            else:
                raise DeployError(f"{name} in {folder} is a link or a device.", hint=_AGAIN)


def _require_all(folder: Path, listed: Mapping[str, Any], found: Mapping[str, int]) -> None:
    missing = sorted(listed.keys() - found.keys())
    if missing:
        raise DeployError(f"{missing[0]} is missing in {folder}.", hint=_AGAIN)
    more = sorted(found.keys() - listed.keys() - {MANIFEST, ARCHIVE})
    if more:
        raise DeployError(f"{more[0]!r:.100} in {folder} is not part of the bundle.", hint="move it elsewhere.")


def _require_same(folder: Path, name: str, listed: Mapping[str, Any], size: int) -> None:
    if size != listed["size"] or sha256_of(folder / name) != listed["sha256"]:
        raise DeployError(f"{name} in {folder} was changed: its sha256 is not that of {MANIFEST}.", hint=_AGAIN)


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()
