"""The arguments of a study as one object."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from unitrain.tuning.storage.address import Address

MINIMIZE, MAXIMIZE = "minimize", "maximize"
LAST, BEST = "last", "best"
FORMAT = 1
"""Of what a study keeps of itself; a later release raises it if it reads that differently."""


@dataclass(frozen=True, kw_only=True)
class StudyPlan:
    """A study as every worker knows it.

    Attributes:
        make_spec: Makes the spec of a trial.
        train: Training data, or a function of the trial.
        val: Validation data, or a function of the trial.
        trainer: Options of ``UnifiedTrainer``, or a function of the trial.
        framework: The backend, or a function of the trial.
        monitor: The objectives.
        directions: ``"minimize"`` or ``"maximize"``, one for each.
        value: Whether the ``"last"`` or the ``"best"`` epoch's value is the trial's.
        n_trials: Total number of trials; None means the existing ones.
        address: Address of the storage.
        study_name: Name of the study in the storage.
        sampler: A name, a function of the seed, or an object.
        pruner: A name, an object, or None.
        seed: Seeds the samplers, initial weights and fits.
        parallel: A trial sees the finished trials numbered at least this much below its own.
        threads: Number of torch threads of each trial, which affects the bits of a sum.
        retries: Number of times a trial may lose its worker before it counts as failed.
        catch: Errors that fail only their trial.
        warm_start: Parameters of the first trials.
        dirpath: The folder of the trials' checkpoints.
        earlier: The numbers of finished trials of the user's own, which the study had before; samplers know them, too.
    """

    make_spec: Any
    train: Any
    val: Any
    trainer: Any
    framework: Any
    monitor: tuple[str, ...]
    directions: tuple[str, ...]
    value: str
    n_trials: int | None
    address: Address
    study_name: str
    sampler: Any
    pruner: Any
    seed: int
    parallel: int
    threads: int
    retries: int
    catch: tuple[type[Exception], ...]
    warm_start: tuple[Mapping[str, Any], ...]
    dirpath: Path = field(repr=False)
    earlier: tuple[int, ...] = field(default=(), repr=False)

    @property
    def mode(self) -> str:
        """``"min"`` or ``"max"``, of the first objective."""
        return self.directions[0][:3]

    def identity(self) -> dict[str, Any]:
        """Return what all calls for one study must have in common."""
        return {
            "format": FORMAT,
            "seed": self.seed,
            "parallel": self.parallel,
            "monitor": list(self.monitor),
            "value": self.value,
            "threads": self.threads,
            "sampler": _name_of(self.sampler),
            "pruner": _name_of(self.pruner),
        }

    @staticmethod
    def run_name(number: int) -> str:
        """Return the name of a trial's run."""
        return f"trial-{number:05d}"

    def rank(self, trial: Any) -> tuple[Any, ...]:
        """Return what sorts trials that have values: the complete ones first, the better ones first."""
        signs = [1 if one == MINIMIZE else -1 for one in self.directions]
        values = [sign * value for sign, value in zip(signs, trial.values, strict=False)]
        return (trial.state.name != "COMPLETE", values, trial.number)

    def folder(self, number: int) -> Path:
        """Return the folder of a trial."""
        return self.dirpath / self.run_name(number)


class StudyOutcome(Protocol):
    """A study as pictures and pages see it; ``TuneResult`` is one."""

    @property
    def plan(self) -> StudyPlan:
        """The arguments of the study."""

    @property
    def study(self) -> Any:
        """The Optuna study."""

    @property
    def trials(self) -> list[Any]:
        """The trials of the study."""

    @property
    def best_trial(self) -> Any:
        """The best trial."""

    def plot(self, path: str | Path) -> None:
        """Write the picture of the study."""


def _name_of(given: Any) -> str | None:
    """Return what a sampler or a pruner is called, with the plain settings of an object."""
    if given is None or isinstance(given, str):
        return given
    if inspect.isroutine(given):
        return f"{given.__module__}.{given.__qualname__}".removeprefix("__mp_main__.").removeprefix("__main__.")
    plain = {name: one for name, one in sorted(vars(given).items()) if isinstance(one, (int, float, str, bool))}
    shown = ", ".join(f"{name.lstrip('_')}={one!r}" for name, one in plain.items())
    return f"{type(given).__name__}({shown})"


def for_trial(given: Any, trial: Any) -> Any:
    """Return an argument as it is in a trial: what a function of the trial returns, or the argument itself."""
    return given(trial) if callable(given) else given


def data_for_trial(given: Any, trial: Any) -> Any:
    """Return data as it is in a trial; a function that makes a loader for each epoch is data itself."""
    return given(trial) if depends_on_trial(given) else given


def depends_on_trial(given: Any) -> bool:
    """Return whether data is a function with a single parameter that is called ``trial``."""
    if not callable(given):
        return False
    try:
        return list(inspect.signature(given).parameters) == ["trial"]
    except (TypeError, ValueError):
        return False
