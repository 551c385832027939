"""Samplers and pruners by name, and new ones for each trial."""

from __future__ import annotations

import copy
import hashlib
import inspect
from typing import Any

from unitrain.errors import ConfigError, did_you_mean

SAMPLERS = {
    "tpe": "TPESampler",
    "random": "RandomSampler",
    "gp": "GPSampler",
    "cmaes": "CmaEsSampler",
    "nsgaii": "NSGAIISampler",
    "nsgaiii": "NSGAIIISampler",
}
PRUNERS = {"median": "MedianPruner", "successive_halving": "SuccessiveHalvingPruner", "hyperband": "HyperbandPruner"}

Factory = "Callable[[int], Any]"


def is_object(sampler: Any) -> bool:
    """Return whether ``sampler`` is a single object for all trials, whose state other workers do not have."""
    return not isinstance(sampler, str) and not _is_factory(sampler)


def _is_factory(sampler: Any) -> bool:
    return callable(sampler) and not hasattr(sampler, "sample_independent")


def sampler_for(given: Any, seed: int, number: int) -> Any:
    """Return the sampler of a trial.

    Args:
        given: A name, a function ``seed -> sampler``, or a sampler.
        seed: Seed of the study.
        number: Number of the trial. Each trial has its own seed, whichever worker runs it.
    """
    if is_object(given):
        return given
    own = int.from_bytes(hashlib.sha256(f"{seed} {number}".encode()).digest()[:4], "big")
    return _made(given, own)


def _made(given: Any, seed: int) -> Any:
    import optuna  # noqa: PLC0415 - an extra

    if isinstance(given, str):
        return getattr(optuna.samplers, SAMPLERS[given])(seed=seed)
    made = given(seed)
    if not isinstance(made, optuna.samplers.BaseSampler):
        raise ConfigError(
            f"sampler= must return an Optuna sampler for a seed; got a {type(made).__name__}.",
            hint="sampler=lambda seed: optuna.samplers.TPESampler(seed=seed, n_startup_trials=20)",
        )
    return made


def pruner_for(given: Any) -> Any:
    """Return a new pruner for a trial, without state from other trials."""
    import optuna  # noqa: PLC0415 - an extra

    if given is None:
        return optuna.pruners.NopPruner()
    if isinstance(given, str):
        return getattr(optuna.pruners, PRUNERS[given])()
    return copy.deepcopy(given)


def require_sampler(given: Any, n_trials: int | None) -> None:
    """Refuse anything that is not a sampler, and samplers whose trials would depend on the number of workers.

    Raises:
        ConfigError: If it is invalid; the message says what is accepted.
    """
    import optuna  # noqa: PLC0415 - an extra

    if isinstance(given, str) and given not in SAMPLERS:
        raise ConfigError(
            f"sampler={given!r} is unknown.", hint=f"{did_you_mean(given, SAMPLERS)} Or a function: seed -> sampler."
        )
    if inspect.isclass(given) or (not isinstance(given, (str, optuna.samplers.BaseSampler)) and not callable(given)):
        raise ConfigError(
            f"sampler= must be a name, a function of the seed, or an Optuna sampler; got {given!r}.",
            hint='sampler="tpe" or sampler=lambda seed: optuna.samplers.TPESampler(seed=seed)',
        )
    one = given if isinstance(given, optuna.samplers.BaseSampler) else _made(given, 0)
    if isinstance(one, optuna.samplers.QMCSampler):
        raise ConfigError(
            "QMCSampler draws points by a counter that all trials of a study share, so its trials depend on their"
            " order in time.",
            hint='sampler="random" or sampler="tpe"',
        )
    grid = len(one._all_grids) if isinstance(one, optuna.samplers.GridSampler) else None  # noqa: SLF001 - there is no public way
    if grid is not None and n_trials is not None and grid < n_trials:
        raise ConfigError(
            f"the grid has {grid} points, fewer than n_trials={n_trials}.", hint=f"n_trials={grid}, or a larger grid."
        )


def require_pruner(given: Any, objectives: int) -> None:
    """Refuse anything that is not a pruner, and a pruner for several objectives.

    Raises:
        ConfigError: If it is invalid; the message says what is accepted.
    """
    import optuna  # noqa: PLC0415 - an extra

    if given is None:
        return
    if isinstance(given, str) and given not in PRUNERS:
        raise ConfigError(f"pruner={given!r} is unknown.", hint=f"{did_you_mean(given, PRUNERS)} Or None.")
    if not isinstance(given, (str, optuna.pruners.BasePruner)):
        raise ConfigError(
            f"pruner= must be a name, an Optuna pruner or None; got {given!r}.",
            hint='pruner="median" or pruner=optuna.pruners.MedianPruner(n_warmup_steps=3)',
        )
    if objectives > 1:
        raise ConfigError(f"pruner={given!r} needs one objective; monitor= has {objectives}.", hint="pruner=None")
