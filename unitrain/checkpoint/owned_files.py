"""Decides which files a resumed run still owns: those in its folder, even a renamed one."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from unitrain.callbacks import ModelCheckpoint

if TYPE_CHECKING:
    from collections.abc import Iterable

    from unitrain.backends.protocol import FitJob

SIGNAL = "signal"
"""The owner of checkpoints written on a signal."""


def own_again(job: FitJob, path: Path) -> None:
    """Make the run own the files of the checkpoint's run, if both write into the same folder.

    A renamed or copied folder is recognised by the checkpoint read from it. Files in other folders are never replaced
    or removed.
    """
    files = job.hub.files
    path = files.at(path)
    keepers = {name: one for name, one in job.callbacks.items() if isinstance(one, ModelCheckpoint)}
    written = [one for keeper in keepers.values() for one in keeper.written_paths()]
    before = _folder_then(path, [*written, *filter(None, [files.rescue])], files.folder)

    def moved(one: Path) -> Path:
        if before is None:
            return one
        there = Path(os.path.normpath(path.parent / os.path.relpath(one, before)))
        return there if there.parent.exists() else one

    if files.folder is not None:
        folder = moved(files.folder / path.name).parent
        root = files.at(job.config.default_root_dir)
        there = folder.exists() and root.exists() and folder.parent.resolve() == root.resolve()
        files.folder = root / folder.name if there else None
    for name, keeper in keepers.items():
        keeper.continue_in(files, name, moved)
    if files.rescue is not None:
        files.rescue = moved(files.rescue)
        if files.rescue.parent in {keeper.target(files) for keeper in keepers.values()} | {files.folder}:
            files.inherit(files.rescue, SIGNAL)
    for name, state in job.team.all_gather_object({name: one.state_dict() for name, one in keepers.items()})[0].items():
        keepers[name].load_state_dict(state)  # rank 0 has looked at the folder for all
    files.folder = job.team.all_gather_object(files.folder)[0]


def _folder_then(path: Path, written: Iterable[Path], default: Path | None) -> Path | None:
    """Return the original name of the folder of the checkpoint at ``path``; None if unknown."""
    same = [one.parent for one in written if one.name == path.name]
    named = [one for one in (*(one.parent for one in written), default) if one is not None]
    here = os.path.abspath(path.parent)  # noqa: PTH100 - a link in the way stays one
    if any(os.path.abspath(one) == here for one in named):  # noqa: PTH100
        return path.parent
    return next(iter(same), next((one for one in named if one.name == path.parent.name), None))
