"""What a script wrote below its working folder, with what is volatile left out."""

from __future__ import annotations

import csv
import re
from collections import Counter
from typing import TYPE_CHECKING

import torch

from tests.bridges.trace import digest

if TYPE_CHECKING:
    from pathlib import Path

EVENTS = re.compile(r"events\.out\.tfevents\..*")
VOLATILE_KEYS = {
    # when a file was written, by which release and how long it took, is no part of what it says
    "pytorch-lightning_version",
    "time_elapsed",
    "version",
}


def everything(folder: Path) -> dict:
    """Return what is in each file below ``folder``, by its name without what is volatile."""
    paths = sorted((path for path in folder.rglob("*") if path.is_file()), key=_in_time)
    names = Counter(_name(path, folder) for path in paths)
    seen: Counter[str] = Counter()
    found = {}
    for path in paths:
        name = _name(path, folder)
        seen[name] += 1
        found[name if names[name] == 1 else f"{name} #{seen[name]}"] = _contents(path)
    return found


def _in_time(path: Path) -> list:
    """Return what sorts files as they were written: their names may end with a time and a number."""
    return [(int(part), "") if part.isdigit() else (0, part) for part in re.split(r"(\d+)", str(path))]


def _name(path: Path, folder: Path) -> str:
    return EVENTS.sub("events.out.tfevents", str(path.relative_to(folder)))


def _contents(path: Path):
    reader = READERS.get(path.suffix, _text)
    return _scalars(path) if EVENTS.match(path.name) else reader(path)


def _table(path: Path):
    with path.open(newline="") as file:
        return [{key: value for key, value in row.items() if value} for row in csv.DictReader(file)]


def _text(path: Path):
    return path.read_bytes().decode(errors="replace")


def _scalars(path: Path):
    """Return (tag, step, value) of a file of tensorboard's, in their order."""
    from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader

    rows = []
    for event in LegacyEventFileLoader(str(path)).Load():
        for value in event.summary.value:
            kind = value.WhichOneof("value")
            rows.append((value.tag, event.step, value.simple_value if kind == "simple_value" else kind))
    return rows


def _checkpoint(path: Path):
    leaves: dict = {}
    _flatten(torch.load(path, map_location="cpu", weights_only=False), "", leaves)
    return leaves


def _flatten(value, key: str, leaves: dict) -> None:
    """Put each leaf of a checkpoint's tree into ``leaves``: tensors as digests, plain values as they are."""
    for name, part in _parts(value):
        if name not in VOLATILE_KEYS:
            _flatten(part, f"{key}/{_placeless(str(name))}", leaves)
    if not isinstance(value, (dict, list, tuple, torch.nn.Module)):
        leaves[key] = _leaf(value)


def _parts(value) -> list:
    if isinstance(value, torch.nn.Module):
        value = value.state_dict()
    if isinstance(value, dict):
        return list(value.items())
    return list(enumerate(value)) if isinstance(value, (list, tuple)) else []


def _leaf(value) -> str:
    if isinstance(value, torch.Tensor):
        return digest(value)
    if isinstance(value, str):
        return _placeless(value)
    return repr(value) if isinstance(value, (bool, int, float, type(None))) else type(value).__qualname__


def _placeless(text: str) -> str:
    """Cut the folders from what may be a path: the working folder is another one each time."""
    return re.sub(r"(/[^\s'\"/]+)+/", "", text)


READERS = {".csv": _table, ".ckpt": _checkpoint, ".pt": _checkpoint, ".pth": _checkpoint}
