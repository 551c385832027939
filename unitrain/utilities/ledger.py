"""Tracks the files and names that a run owns, so that it never overwrites or removes others."""

from __future__ import annotations

import json
import os
import re
import shutil
import uuid
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import torch

from unitrain.errors import CheckpointError
from unitrain.utilities import files

if TYPE_CHECKING:
    from collections.abc import Iterable

FOLDER = "checkpoints"
"""The folder for checkpoints below ``default_root_dir``; the next run uses ``checkpoints-2``."""

INDEX, TREE = "index.json", "tree.ckpt"
"""In a sharded checkpoint: the file written last, and the file with everything but the shards."""

DATA = re.compile(r"data-[0-9a-f]{32}")
"""The data folders of a sharded checkpoint."""


Notes: TypeAlias = dict[str, tuple[str, tuple[int, ...] | None]]
"""By the absolute path of a file: who wrote it, and what changes when it is replaced; None if that is not known yet."""


class Ledger:
    """The files of one run.

    Each file has an owner within the run: of two ModelCheckpoints, neither touches the other's files. A file belongs to
    the run only while it is unchanged; files of an earlier part of the run are recognised by the run's name in them.

    Attributes:
        run: Name of the run, stored in its checkpoints.
        folder: Default folder of its checkpoints, once one was written.
        rescue: The file written at a signal.
        resumed_at: Number of batches done when the run was resumed.

    Args:
        written: The files already written, as returned by ``notes``.
    """

    def __init__(self, written: Notes | None = None) -> None:
        self.run = uuid.uuid4().hex
        self._here = Path.cwd()
        self.folder: Path | None = None
        self.rescue: Path | None = None
        self._written = dict(written or {})
        self._claims: dict[str, files.Claim] = {}
        self._lineage: set[str | None] = {self.run}
        self.resumed_at = 0

    def at(self, path: str | Path) -> Path:
        """Resolve ``path`` against the working directory at the run's start: ``os.chdir`` must not split its files."""
        return self._here / path

    def default_folder(self, root: str | Path) -> Path:
        """Return the folder of this run's checkpoints below ``root``, created the first time."""
        if self.folder is None:
            with files.failing_as(CheckpointError, self.at(root) / FOLDER):
                self.folder = files.new_folder(self.at(root), FOLDER)
        return self.folder

    def take(self, path: Path, owner: str, over: Path | None = None) -> Path:
        """Return ``path`` or its next free version, reserved until ``wrote`` or ``release``.

        Args:
            path: The requested name.
            owner: The owner within the run.
            over: A file of this owner that may be replaced, if it is ``path`` or a version of it.
        """
        again = [over] if over is not None and _is_version(over, path) and self.owns(over, owner) else []
        for one in chain(again, files.versions(path)):
            with files.failing_as(CheckpointError, one):
                claim = files.claimed(one)
            if claim is None:
                continue
            if one in again or not os.path.lexists(one):
                self._claims[_key(one)] = claim
                return one
            claim.release()
        raise AssertionError  # pragma: no cover

    def wrote(self, path: Path, owner: str) -> None:
        """Record a written file."""
        self._written[_key(path)] = (owner, mark_of(path))
        claim = self._claims.pop(_key(path), None)
        if claim is not None:
            claim.release()

    def notes(self, paths: Iterable[Path]) -> Notes:
        """Return the notes on written files, for another process's ledger."""
        return {_key(path): self._written[_key(path)] for path in paths}

    def written_by(self, owner: str) -> set[str]:
        """Return the files that ``owner`` has written."""
        return {path for path, (by, _) in self._written.items() if by == owner}

    def add(self, notes: Notes) -> None:
        """Record files written by other processes, from their ``notes``."""
        self._written.update(notes)

    def release(self) -> None:
        """Release reserved names without files."""
        while self._claims:
            self._claims.popitem()[1].release()

    def inherit(self, path: Path, owner: str) -> None:
        """Own a file of an earlier part of this run, if it is still unchanged when needed."""
        self._written[_key(path)] = (owner, None)

    def owns(self, path: Path, owner: str) -> bool:
        """Return whether ``owner`` wrote the current file."""
        by, mark = self._written.get(_key(path), (None, None))
        found = mark_of(path)
        if by != owner or found is None:
            return False
        if mark is None and self._wrote_before(path):
            mark = found
            self._written[_key(path)] = (owner, mark)
        return mark == found

    def remove(self, path: Path, owner: str) -> None:
        """Remove a file that ``owner`` wrote, or the checkpoint in a folder. Other files are kept."""
        if self.owns(path, owner):
            remove_checkpoint(path)
        self.forget(path)

    def forget(self, path: Path) -> None:
        """Stop owning a file, without changing it."""
        self._written.pop(_key(path), None)

    def state_dict(self) -> dict[str, Any]:
        """Return the state for a resumed run."""
        return {"run": self.run, "folder": _text(self.folder), "rescue": _text(self.rescue)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue as the run of ``state_dict``; files of old releases name none."""
        self.run = state.get("run") or self.run
        self.folder, self.rescue = _path(state.get("folder")), _path(state.get("rescue"))
        self._lineage = {self.run, state.get("run")}

    def _wrote_before(self, path: Path) -> bool:
        """Return whether this run wrote a file before it was resumed.

        A file with more progress belongs to another continuation of the same checkpoint, and is kept.
        """
        run, batch = _origin(path)
        return run in self._lineage and batch <= self.resumed_at


def remove_checkpoint(path: Path) -> None:
    """Remove a file, or the checkpoint in a folder and the folder itself if it is then empty."""
    if path.is_symlink() or not path.is_dir():
        path.unlink(missing_ok=True)
        return
    (path / INDEX).unlink(missing_ok=True)
    for one in path.iterdir():
        if DATA.fullmatch(one.name):
            shutil.rmtree(one, ignore_errors=True)
    with suppress(OSError):
        path.rmdir()


def _is_version(one: Path, path: Path) -> bool:
    """Return whether ``one`` is ``path``, or a version of it as ``files.versions`` yields them."""
    number = one.stem.removeprefix(f"{path.stem}-v")
    versioned = number.isdecimal() and one.stem != number
    return one == path or (one.parent == path.parent and one.suffix == path.suffix and versioned)


def mark_of(path: Path) -> tuple[int, ...] | None:
    """Return a marker that changes when a file is replaced or written; None if there is no file."""
    try:
        found = (path / INDEX if path.is_dir() else path).stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def _origin(path: Path) -> tuple[str | None, int]:
    """Return the run's name and number of batches in a checkpoint; else an empty name."""
    try:
        if path.is_dir():
            path = path / json.loads((path / INDEX).read_text(encoding="utf-8"))["data"] / TREE
        hub = torch.load(path, map_location="cpu", weights_only=True, mmap=True)["unitrain"]["hub"]
        return hub.get("files", {}).get("run"), int(hub["batch"])
    except Exception:  # noqa: BLE001 - whatever it is, it is not this run's
        return "", 0


def _key(path: Path) -> str:
    return os.path.abspath(path)  # noqa: PTH100 - a link in the way stays one


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)


def _path(text: str | None) -> Path | None:
    return None if text is None else Path(text)
