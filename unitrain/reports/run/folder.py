"""What there is of a run: its record, its values, its checkpoints; and what is missing."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from unitrain.errors import ConfigError
from unitrain.reports.run.record import FILE, RunRecord, read_record
from unitrain.reports.run.values import Values, read_values
from unitrain.utilities.files import user_path

_VALUES, _CONFIG, _CHECKPOINTS = "metrics.csv", "config.yaml", "checkpoints"
_SUFFIXES = frozenset({".ckpt", ".pt", ".pth", ".safetensors"})
_MOST_FILES, _LARGEST_CONFIG = 500, 1 << 20


class CheckpointFile(NamedTuple):
    """A checkpoint on the disk.

    Attributes:
        path: Where it is.
        size: Its bytes; those of all files if it is a folder.
        written: When it was written.
    """

    path: Path
    size: int
    written: datetime


@dataclass(frozen=True)
class Found:
    """What there is of a run.

    Attributes:
        name: What it is called.
        where: Where it is, for people.
        record: Its record.
        values: Its values, step by step.
        checkpoints: Its checkpoints.
        config: The text of its configuration, if the record has none.
        missing: What is not there, and what a report lacks for want of it.
    """

    name: str
    where: str = ""
    record: RunRecord | None = None
    values: Values = field(default_factory=Values)
    checkpoints: tuple[CheckpointFile, ...] = ()
    config: str = ""
    missing: tuple[str, ...] = ()


def find(given: str | Path) -> Found:
    """Return what there is of a run.

    Args:
        given: A folder of ``unitrain fit``, a folder with a metrics.csv or checkpoints, or a CSV file.

    Raises:
        ConfigError: If there is nothing to report, or a file is damaged.
    """
    path = user_path(given)
    if not path.exists():
        raise ConfigError(f"{path} does not exist.", hint="pass the folder of a run, such as runs/1, or a metrics.csv.")
    if path.is_dir():
        return _in_folder(path)
    if path.name == FILE:
        return _in_folder(path.parent)
    missing = (f"Only {path.name} was given: what was run, and with which releases, is not known.",)
    return Found(
        path.absolute().parent.name or path.name, str(path.absolute()), values=read_values(path), missing=missing
    )


def _in_folder(folder: Path) -> Found:
    record = read_record(folder) if (folder / FILE).exists() else None
    values = read_values(folder / _VALUES) if (folder / _VALUES).exists() else None
    checkpoints = tuple(_checkpoints(folder))
    if record is None and values is None and not checkpoints:
        inside = sorted(one.parent.name for one in folder.glob(f"*/{FILE}"))[-3:]
        hint = (
            f"it holds runs: pass one of them, such as {folder / inside[-1]}." if inside else "pass a folder of a run."
        )
        raise ConfigError(f"{folder} has no {FILE}, no {_VALUES} and no checkpoints.", hint=hint)
    missing = {
        f"There is no {FILE}: what was run, with which releases and how it ended is not known.": record is None,
        f"There is no {_VALUES}: curves have one value per epoch.": values is None,
    }
    return Found(
        folder.absolute().name or str(folder),
        str(folder.absolute()),
        record,
        values or Values(),
        checkpoints,
        "" if record is not None and record.config else _config(folder / _CONFIG),
        tuple(told for told, is_so in missing.items() if is_so),
    )


def _config(path: Path) -> str:
    with suppress(OSError), path.open("rb") as file:
        return file.read(_LARGEST_CONFIG).decode("utf-8", "replace")
    return ""


def _checkpoints(folder: Path) -> list[CheckpointFile]:
    """Return the checkpoints in a run's folder, the newest one last. Their contents are not read."""
    places = [folder / _CHECKPOINTS, *sorted(folder.glob(f"{_CHECKPOINTS}-*")), folder]
    found = []
    for place in places:
        with suppress(OSError), os.scandir(place) as entries:
            found += [
                one
                for one in (
                    checkpoint(Path(one))
                    for one in entries
                    if not one.name.startswith(".") and Path(one).suffix in _SUFFIXES
                )
                if one is not None
            ]
    return sorted(found, key=lambda one: one.written)[-_MOST_FILES:]


def checkpoint(path: Path) -> CheckpointFile | None:
    """Return what the disk says of a checkpoint, a file or a folder; None if there is none."""
    with suppress(OSError):
        parts = [one for one in path.rglob("*") if one.is_file()] if path.is_dir() else [path]
        size = sum(one.stat().st_size for one in parts)
        return CheckpointFile(path, size, datetime.fromtimestamp(path.stat().st_mtime, UTC))
    return None
