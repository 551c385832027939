"""Writes and reads checkpoint files: all or nothing, verified, and never running code that is in them."""

from __future__ import annotations

import os
import tempfile
import zipfile
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import torch

from unitrain.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Callable

SUFFIX = ".ckpt"


def write(path: Path, content: dict[str, Any]) -> None:
    """Write ``content`` to ``path``: a kill at any instant leaves the old file or the new one.

    Raises:
        CheckpointError: If the folder cannot be written or the disk is full; an older file stays as it was.
    """
    write_by(path, lambda file: torch.save(content, file))


def write_by(path: Path, save: Callable[[IO[bytes]], object]) -> None:
    """Write to ``path`` what ``save`` puts into the open file, as ``write`` does: all or nothing.

    Raises:
        CheckpointError: As ``write``.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    except OSError as error:
        raise _unwritable(path, error) from error
    part = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            save(file)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
        _sync_folder(path.parent)
    except (OSError, RuntimeError) as error:  # torch reports a full disk as a RuntimeError
        raise _unwritable(path, error) from error
    finally:
        part.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _unwritable(path: Path, error: Exception) -> CheckpointError:
    return CheckpointError(
        f"the checkpoint {path} could not be written: {error}. A file that was there before is untouched.",
        hint="check the folder's permissions and the free space.",
    )


def read(path: Path) -> dict[str, Any]:
    """Return the content of the checkpoint at ``path``, on the CPU.

    Raises:
        CheckpointError: If there is none, it is damaged, or it holds anything but tensors and plain values; the message
            names the newest good checkpoint beside it.
    """
    require_file(path)
    verify(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise CheckpointError(
            f"{path} holds more than tensors and plain values, and unitrain does not run code from a file: {error}",
            hint="write it anew from a trusted program, with tensors and plain values only.",
        ) from error
    if not isinstance(content, dict):
        raise CheckpointError(
            f"{path} is no checkpoint; it holds a {type(content).__name__}.", hint="give another file."
        )
    _refuse_instantiator(path, content)
    return content


def require_file(path: Path) -> None:
    """Refuse a path where there is no file.

    Raises:
        CheckpointError: If there is none.
    """
    if not path.is_file():
        raise CheckpointError(f"there is no checkpoint {path}.{_beside(path)}", hint="give the path of a file.")


def verify(path: Path) -> None:
    """Compare every part of the file with its checksum, which torch writes into the archive.

    Raises:
        CheckpointError: If the file is damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            broken = archive.testzip()
    except (zipfile.BadZipFile, OSError, EOFError) as error:
        raise damaged(path, str(error)) from error
    if broken is not None:
        raise damaged(path, f"{broken} does not match its checksum")


def damaged(path: Path, why: str) -> CheckpointError:
    """Return the error for a file that is not whole; it names the newest good checkpoint beside it."""
    return CheckpointError(f"the checkpoint {path} is damaged: {why}.{_beside(path)}", hint="take an older checkpoint.")


def _beside(path: Path) -> str:
    """Return a sentence that names the newest good checkpoint in the same folder."""
    others = [one for one in path.parent.glob(f"*{SUFFIX}") if one != path] if path.parent.is_dir() else []
    for other in sorted(others, key=lambda one: one.stat().st_mtime, reverse=True):
        try:
            with zipfile.ZipFile(other) as archive:
                if archive.testzip() is None:
                    return f" The newest good one beside it is {other}."
        except (zipfile.BadZipFile, OSError):
            continue
    return ""


def _refuse_instantiator(path: Path, content: dict[str, Any]) -> None:
    hparams = content.get("hyper_parameters")
    if isinstance(hparams, dict) and "_instantiator" in hparams:
        raise CheckpointError(
            f"{path} carries the hyper-parameter '_instantiator', which names code to import (CVE-2026-58659).",
            hint="remove it from the file's hyper_parameters, if you trust the rest.",
        )
