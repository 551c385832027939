"""The tracker protocol."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from unitrain.utilities.files import folders_of, new_folder


class Logger(Protocol):
    """A tracker, in the shape of Lightning's ``Logger``; only ``log_metrics`` must be there.

    A tracker with a method ``begin(rows)`` is told, before anything else, how many rows an earlier part of the run has
    written: 0 for a new run, more for one that is resumed. One with ``run_state()`` returns a mapping by which it knows
    its run again; a checkpoint keeps it, and ``load_run_state(state)`` gets it before ``begin`` when a fit is resumed,
    in a new process too. After ``finalize`` more may come: the result of an evaluation that follows a fit.

    In a study, a tracker with ``for_trial(name, group)`` returns one for the run of a trial, ``group`` being what its
    ``begin_group(study_name)`` returned once for the whole study. ``end_trial(state, params, values)`` tells the
    trial's tracker how Optuna has it, and ``end_group(group)`` that the study is done.
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
    """A library that is imported when it is first used, by each process for itself: a module cannot be sent to one.

    Args:
        name: The module's name.
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
    """Return the folder of a run: a new one, ``name``, ``name-2`` and so on, made here so that no other run gets it.

    Args:
        save_dir: Where it is.
        name: What it is called.
        resumed: Whether to continue in the folder of the run that is resumed.
        before: That folder, as its checkpoint names it. Without one, as of an old release, it is the last that there
            is. If it is in another ``save_dir``, that run's files are unchanged, and a new folder is made.
        copied: Tells whether another folder of that name is a copy of it.
    """
    if resumed and before is None:
        return next(iter(folders_of(save_dir, name)), None) or new_folder(save_dir, name)
    if resumed and before is not None:
        recorded, here = Path(before), save_dir / Path(before).name
        if here.is_dir() and (not recorded.exists() or here.samefile(recorded) or copied(here)):  # or renamed
            return here
    return new_folder(save_dir, name)


def group_folder(save_dir: Path, study: str) -> dict[str, str]:
    """Make the folder of a study's trials, and return its name: other machines have it below a path of their own."""
    return {"folder": new_folder(Path.cwd() / save_dir, study).name}


def flat(params: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield nested hyper-parameters as ``outer/inner`` and their values."""
    for name, value in params.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{name}/")
        else:
            yield f"{prefix}{name}", value
