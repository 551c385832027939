"""Tracks the files and names that a run owns; it never overwrites or removes others."""

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

    Each has an owner within the run: of two ModelCheckpoints, neither touches the other's files. A file counts as
    the run's only while it is what the run wrote; one that an earlier part of the run wrote carries the run's name.

    Attributes:
        run: The name of the run, which its checkpoints carry.
        folder: Where its checkpoints go by default, once one was written.
        rescue: What was written at a signal.
        resumed_at: The batches that the run had done when it was resumed.

    Args:
        written: What is written already, as ``notes`` returns it.
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
        """Return where ``path`` was when the run started: a later ``os.chdir`` must not split its files."""
        return self._here / path

    def default_folder(self, root: str | Path) -> Path:
        """Return the folder of this run's checkpoints below ``root``, which is made for it the first time."""
        if self.folder is None:
            with files.failing_as(CheckpointError, self.at(root) / FOLDER):
                self.folder = files.new_folder(self.at(root), FOLDER)
        return self.folder

    def take(self, path: Path, owner: str, over: Path | None = None) -> Path:
        """Return ``path``, or its next version that is free, and keep it from others until ``wrote`` or ``release``.

        Args:
            path: The name that is wanted.
            owner: Who in the run wants it.
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
        self._written[_key(path)] = (owner, _mark(path))
        claim = self._claims.pop(_key(path), None)
        if claim is not None:
            claim.release()

    def notes(self, paths: Iterable[Path]) -> Notes:
        """Return what is known of some files that are written, for the ledger of another process."""
        return {_key(path): self._written[_key(path)] for path in paths}

    def written_by(self, owner: str) -> set[str]:
        """Return the files that ``owner`` has written."""
        return {path for path, (by, _) in self._written.items() if by == owner}

    def add(self, notes: Notes) -> None:
        """Record what other processes have written, as their ``notes`` returned it."""
        self._written.update(notes)

    def release(self) -> None:
        """Release names that were claimed but not written."""
        while self._claims:
            self._claims.popitem()[1].release()

    def inherit(self, path: Path, owner: str) -> None:
        """Own a file from an earlier part of this run, if it is still unchanged when needed."""
        self._written[_key(path)] = (owner, None)

    def owns(self, path: Path, owner: str) -> bool:
        """Return whether ``owner`` wrote the file that is there now."""
        by, mark = self._written.get(_key(path), (None, None))
        found = _mark(path)
        if by != owner or found is None:
            return False
        if mark is None and self._wrote_before(path):
            mark = found
            self._written[_key(path)] = (owner, mark)
        return mark == found

    def remove(self, path: Path, owner: str) -> None:
        """Remove a file that ``owner`` wrote; of a folder, what a checkpoint is made of. Another's file stays."""
        if self.owns(path, owner):
            remove_checkpoint(path)
        self.forget(path)

    def forget(self, path: Path) -> None:
        """Own a file no longer, which stays as it is."""
        self._written.pop(_key(path), None)

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run must know."""
        return {"run": self.run, "folder": _text(self.folder), "rescue": _text(self.rescue)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue as the run that ``state_dict`` was taken of; a file of an old release names none."""
        self.run = state.get("run") or self.run
        self.folder, self.rescue = _path(state.get("folder")), _path(state.get("rescue"))
        self._lineage = {self.run, state.get("run")}

    def _wrote_before(self, path: Path) -> bool:
        """Return whether this run wrote a file before it was resumed.

        A file that is further on belongs to another continuation of the same checkpoint, and stays.
        """
        run, batch = _origin(path)
        return run in self._lineage and batch <= self.resumed_at


def remove_checkpoint(path: Path) -> None:
    """Remove a file, or of a folder what a checkpoint is made of, and the folder if it is empty then."""
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


def _mark(path: Path) -> tuple[int, ...] | None:
    """Return what changes when a file is replaced or written; None if there is none."""
    try:
        found = (path / INDEX if path.is_dir() else path).stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def _origin(path: Path) -> tuple[str | None, int]:
    """Return the name of the run that a checkpoint carries and the batches it had done; else an empty name."""
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
