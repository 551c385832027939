"""The tracker protocol."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from unitrain.utilities.files import folders_of, new_folder


class Logger(Protocol):
    """A tracker, in the shape of Lightning's ``Logger``; only ``log_metrics`` must be there.

    If a tracker has a method ``begin(rows)``, it is called first with the number of rows that an earlier part of the
    run has written: 0 for a new run, more for a resumed one. ``run_state()`` returns a mapping that identifies the run;
    a checkpoint stores it, and ``load_run_state(state)`` receives it before ``begin`` when a fit is resumed, in a new
    process too. After ``finalize`` more rows may follow: the result of an evaluation after a fit.

    In a study, ``for_trial(name, group)`` returns the tracker for a trial's run, where ``group`` is the value that
    ``begin_group(study_name)`` returned once for the whole study. ``end_trial(state, params, values)`` receives the
    trial's outcome from Optuna, and ``end_group(group)`` ends the study.
    """

    def log_metrics(self, metrics: dict[str, float], step: int) -> None:
        """Log one row of values at the optimizer step ``step``, including ``epoch`` (from 0)."""

    def log_hyperparams(self, params: dict[str, Any]) -> None:
        """Log the spec's ``hparams``."""

    def log_figure(self, name: str, figure: Any, step: int) -> None:
        """Log a matplotlib figure; trackers without this method cause a warning."""

    def save(self) -> None:
        """Write what is not written yet."""

    def finalize(self, status: str) -> None:
        """End the run as ``"success"`` or ``"failed"``."""


class Library:
    """A library imported on first use, by each process for itself: a module cannot be sent to another process.

    Args:
        name: Name of the module.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # what pickle asks for is not the module's
            raise AttributeError(name)
        return getattr(importlib.import_module(self._name), name)


def run_folder(
    save_dir: Path,
    name: str,
    *,
    resumed: bool,
    before: str | None = None,
    copied: Callable[[Path], bool] = lambda _: False,
) -> Path:
    """Return the folder of a run: a new one, ``name``, ``name-2`` and so on, created here so that no other run gets it.

    Args:
        save_dir: Parent directory.
        name: Name of the folder.
        resumed: Whether to continue in the folder of the resumed run.
        before: The folder that the run's checkpoint names. If None, as with checkpoints of old releases, it is the
            newest one. If it is in another ``save_dir``, its files are unchanged, and a new folder is created.
        copied: Returns whether another folder of that name is a copy of it.
    """
    if resumed and before is None:
        return next(iter(folders_of(save_dir, name)), None) or new_folder(save_dir, name)
    if resumed and before is not None:
        recorded, here = Path(before), save_dir / Path(before).name
        if here.is_dir() and (not recorded.exists() or here.samefile(recorded) or copied(here)):  # or renamed
            return here
    return new_folder(save_dir, name)


def group_folder(save_dir: Path, study: str) -> dict[str, str]:
    """Create the folder of a study's trials, and return its name: its parent may differ on other machines."""
    return {"folder": new_folder(Path.cwd() / save_dir, study).name}


def flat(params: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield nested hyper-parameters as ``outer/inner`` and their values."""
    for name, value in params.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{name}/")
        else:
            yield f"{prefix}{name}", value
