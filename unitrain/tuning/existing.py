"""Looks up an existing study by its storage and name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from unitrain.errors import BackendNotInstalledError, ConfigError, did_you_mean, install_hint
from unitrain.tuning.plan import StudyPlan
from unitrain.tuning.queue import OURS
from unitrain.tuning.result import TuneResult
from unitrain.tuning.storage.address import Address, hurry


def existing_study(storage: str, study_name: str) -> TuneResult:
    """Return the current state of a study; nothing is written.

    Raises:
        ConfigError: If there is no such study, or it was not created by ``tune``.
        BackendNotInstalledError: If optuna, or the client of the storage, is not installed.
    """
    study, address = _loaded(storage, study_name)
    known = study.user_attrs.get(OURS)
    if known is None:
        raise ConfigError(
            f"the study {study_name!r} was not created by unitrain.tune.", hint="optuna.load_study() reads any study."
        )
    plan = StudyPlan(
        make_spec=None,
        train=None,
        val=None,
        trainer={},
        framework=None,
        monitor=tuple(known["monitor"]),
        directions=tuple(one.name.lower() for one in study.directions),
        n_trials=None,
        address=address,
        study_name=study_name,
        retries=0,
        catch=(),
        warm_start=(),
        dirpath=Path("runs") / study_name,
        **{name: known.get(name) for name in ("value", "sampler", "pruner", "seed", "parallel", "threads")},
    )
    return TuneResult(study, plan, "")


def _loaded(storage: str, study_name: str) -> tuple[Any, Address]:
    try:
        import optuna  # noqa: PLC0415 - an extra
    except ModuleNotFoundError as error:
        raise BackendNotInstalledError("studies require optuna.", hint=install_hint("tune")) from error
    address = Address.of(storage)
    if address.url is None:
        raise ConfigError("a study in memory ends with its process.", hint="journal:///study.log")
    if address.kind in ("journal", "sqlite") and not address.path.exists():
        raise ConfigError(f"there is no file {address.path}.", hint="run the command in the folder of the study.")
    opened = address.opened()
    try:
        found = optuna.load_study(storage=opened, study_name=study_name)
    except KeyError:
        names = optuna.study.get_all_study_names(opened)
        raise ConfigError(f"{address} has no study {study_name!r}.", hint=did_you_mean(study_name, names)) from None
    hurry(opened)
    return found, address
