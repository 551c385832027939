"""Writes the tensors of steps into a folder."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING

from torch import Tensor

from unitrain.checkpoint.safetensors_file import SUFFIX, packed
from unitrain.errors import ConfigError
from unitrain.utilities.files import failing_as, refuse_existing, require_folder, written

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from unitrain.testing.comparison.recorder import Kept


def require_place(folder: Path, *, overwrite: bool) -> None:
    """Refuse a folder that cannot take the tensors, before anything runs.

    Raises:
        ConfigError: If it cannot be written to, or has files of an earlier comparison that may not be replaced.
        CheckpointError: If safetensors is not installed.
    """
    require_folder(ConfigError, folder)
    packed({})
    earlier = next(iter(sorted(folder.glob(f"*-step-*{SUFFIX}"))), None)
    if earlier is not None:
        refuse_existing(earlier, ConfigError, overwrite=overwrite, hint="choose another folder, or pass overwrite.")


def save_steps(folder: Path, side: str, kept: Mapping[int, Sequence[Kept]], *, overwrite: bool) -> list[Path]:
    """Write a file for each step and return the paths; a tensor is called ``"<kind>/<name>"``.

    A kind that occurs again in a step has a number: ``"output 2/output"``.

    Args:
        folder: The folder.
        side: Name of the side.
        kept: The entries by step.
        overwrite: Whether existing files may be replaced.

    Raises:
        ConfigError: If a file exists, or cannot be written.
        CheckpointError: If safetensors is not installed.
    """
    paths = []
    for number, entries in kept.items():
        path = folder / f"{_file_name(side)}-step-{number}{SUFFIX}"
        refuse_existing(path, ConfigError, overwrite=overwrite, hint="choose another folder, or pass overwrite.")
        with failing_as(ConfigError, path), written(path, new=not overwrite) as file:
            file.write(packed(_tensors(entries)))
        paths.append(path)
    return paths


def _tensors(entries: Sequence[Kept]) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    times: Counter[str] = Counter()
    for kind, _, leaves in entries:
        times[kind] += 1
        label = kind if times[kind] == 1 else f"{kind} {times[kind]}"
        found |= {f"{label}/{name}": value for name, value in leaves if isinstance(value, Tensor)}
    return found


def _file_name(side: str) -> str:
    return re.sub(r"[^\w.-]+", "-", side).strip("-") or "side"
