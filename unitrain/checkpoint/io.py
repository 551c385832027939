"""Writes checkpoint files atomically, and reads them verified and without running code."""

from __future__ import annotations

import shutil
from contextlib import closing, nullcontext
from functools import partial
from pickle import UnpicklingError
from typing import IO, TYPE_CHECKING, Any, cast

import torch

from unitrain.checkpoint.gate import admitted
from unitrain.checkpoint.integrity import damaged, require_file, torchs_classes_alone, unreadable
from unitrain.checkpoint.verified_file import DamageError, VerifiedFile
from unitrain.errors import CheckpointError
from unitrain.utilities.files import linked, written

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from pathlib import Path

_BLOCK = 2**20


def write(path: Path, content: dict[str, Any], lost: list[str] | None = None) -> None:
    """Write ``content`` to ``path`` atomically: a kill at any time leaves the old file or the new one.

    Args:
        path: The file.
        content: The content, which the gate checks: anything that could not be read back raises.
        lost: As in ``gate.admitted``.

    Raises:
        CheckpointError: If the folder cannot be written, the disk is full, or the content cannot be read back; an older
            file is unchanged.
    """
    write_admitted(path, admitted(content, lost))


def write_admitted(path: Path, content: dict[str, Any], *, check: bool = True, in_thread: bool = False) -> None:
    """Write what the gate has admitted, as ``write`` does.

    Args:
        path: The file.
        content: The result of ``gate.admitted``.
        check: Read the file, but for the values of tensors, before it gets its name. That takes as long as to write
            many small tensors, so a run checks the first file that it writes; the gate knows what can be read.
        in_thread: Whether other code runs meanwhile, so that the check leaves alone the classes that torch.load allows.

    Raises:
        CheckpointError: As ``write``.
    """
    readable = partial(_require_readable, classes=nullcontext() if in_thread else torchs_classes_alone())
    write_by(path, lambda file: torch.save(content, file), readable if check else None)


def _require_readable(path: Path, classes: AbstractContextManager[None]) -> None:
    """Read the written file, except for the tensors' values, as every reader will."""
    try:
        with classes:
            torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:
        raise CheckpointError(
            f"the checkpoint could not be read back, so it was not written: {error}",
            hint="use tensors, numbers, strings, lists and dicts in states.",
        ) from error


def write_by(path: Path, save: Callable[[IO[bytes]], object], check: Callable[[Path], object] | None = None) -> None:
    """Call ``save`` with an open file, which atomically replaces ``path``, as ``write`` does.

    Args:
        path: The file.
        save: Writes into the open file.
        check: Raises if the written file, which is not at ``path`` yet, is invalid.

    Raises:
        CheckpointError: As ``write``.
    """
    try:
        with written(path, check=check) as file:
            save(file)
    except (OSError, RuntimeError) as error:  # torch reports a full disk as a RuntimeError
        raise _unwritable(path, error) from error


def repeat(source: Path, path: Path) -> None:
    """Make ``path`` a hard link to the finished file ``source``, or a copy where the file system has no hard links.

    Raises:
        CheckpointError: As ``write``.
    """
    try:
        if not linked(source, path):
            with source.open("rb") as file:
                write_by(path, lambda target: shutil.copyfileobj(file, target, _BLOCK))
    except OSError as error:
        raise _unwritable(path, error) from error


def _unwritable(path: Path, error: Exception) -> CheckpointError:
    cause: BaseException = error
    while not isinstance(cause, OSError) and cause.__context__ is not None:
        cause = cause.__context__  # torch ends its file, which fails too, and reports the position only
    reason = cause if isinstance(cause, OSError) else error
    return CheckpointError(
        f"the checkpoint {path} could not be written: {reason}. An existing file is unchanged.",
        hint="check the permissions of the folder and the free disk space.",
    )


def read(path: Path) -> dict[str, Any]:
    """Return the content of the checkpoint at ``path``, on the CPU.

    Raises:
        CheckpointError: If the file does not exist, is damaged, or contains anything but tensors and plain values; the
            message names the newest good checkpoint beside it.
    """
    require_file(path)
    content = _verified(path)
    if not isinstance(content, dict):
        raise CheckpointError(
            f"{path} is not a checkpoint; it contains a {type(content).__name__}.", hint="pass another file."
        )
    _refuse_instantiator(path, content)
    return content


def _verified(path: Path) -> Any:
    """Return the content of the file at ``path`` as torch reads it, without running code from it.

    Raises:
        CheckpointError: If it is damaged, or contains more than tensors and plain values.
    """
    try:
        with closing(VerifiedFile(path)) as file:
            content = _loaded(path, file)
            file.verify_rest()
    except CheckpointError:
        raise
    except PermissionError as error:
        raise unreadable(path, error) from error
    except Exception as error:  # a flipped bit makes zipfile raise one of a dozen kinds
        raise damaged(path, str(error) or type(error).__name__) from error
    return content


def _loaded(path: Path, file: VerifiedFile) -> Any:
    try:
        with torchs_classes_alone():
            return torch.load(cast("Any", file), map_location="cpu", weights_only=True)
    except UnpicklingError as error:
        raise CheckpointError(
            f"{path} contains more than tensors and plain values, and unitrain does not run code from a file: {error}",
            hint="rewrite it from a trusted program with only tensors and plain values.",
        ) from error
    except Exception as error:
        if file.broken is not None:
            raise DamageError(f"{file.broken} does not match its checksum") from error
        raise damaged(path, f"torch cannot read it ({error})") from error


def _refuse_instantiator(path: Path, content: dict[str, Any]) -> None:
    hparams = content.get("hyper_parameters")
    if isinstance(hparams, dict) and "_instantiator" in hparams:
        raise CheckpointError(
            f"{path} contains the hyper-parameter '_instantiator', which names code to import (CVE-2026-58659).",
            hint="remove it from the file's hyper_parameters, if you trust the rest.",
        )
