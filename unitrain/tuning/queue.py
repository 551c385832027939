"""The trials of a study as a queue shared by any number of workers.

Whoever creates a study fills it with waiting trials; nobody else adds any, so there are exactly ``n_trials``. A worker
takes the first trial that has no lease and whose visible trials are finished. That may be a running trial whose worker
has died: the new worker continues it.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch

from unitrain.errors import ConfigError
from unitrain.tuning.leases.lease import alone
from unitrain.tuning.storage.at_once import add_trials
from unitrain.utilities.warning import warn_caller

if TYPE_CHECKING:
    from collections.abc import Iterator

    from unitrain.tuning.leases.lease import Lease, Leases
    from unitrain.tuning.plan import StudyPlan

OURS = "unitrain"
"""The study's attribute with its identity, and the mark of the trials that unitrain made."""
DEATHS, PARKED, SURVIVED = "unitrain:deaths", "unitrain:parked", "unitrain:survived:"
"""How many workers seemed to have died in a trial; whether the last one left it in order; and the marks of those who
only lost their lease, each with a name of its own, since two may write at once."""


@dataclass(frozen=True)
class Taken:
    """A trial that this worker has.

    Attributes:
        trial_id: Identity of the trial in the storage.
        number: Number of the trial.
        lease: The lease of the trial.
        deaths: Number of workers that have died in it.
    """

    trial_id: int
    number: int
    lease: Lease
    deaths: int


class TrialQueue:
    """The trials of one study.

    Args:
        study: The Optuna study.
        leases: The leases of its trials.
    """

    def __init__(self, study: Any, leases: Leases) -> None:
        self.study = study
        self._storage: Any = study._storage  # noqa: SLF001 - Optuna has no public way to a trial by its state
        self._study_id: int = study._study_id  # noqa: SLF001 - as above
        self._leases = leases
        self._finished = 0  # so many of the first trials, which stay as they are

    def fill(self, plan: StudyPlan, *, chosen: bool = True) -> tuple[StudyPlan, dict[str, Any]]:
        """Create the study's identity if it has none, and add the missing trials.

        Args:
            plan: The study.
            chosen: Whether the user chose ``parallel``; if not, it is that of the study's first call.

        Returns:
            The plan as the study has it, and the study's identity.

        Raises:
            ConfigError: If the study was begun with other arguments.
        """
        with alone(self._leases, "study"):
            known: dict[str, Any] = self.study.user_attrs.get(OURS, {})
            plan = _settled(plan, known, chosen=chosen)
            if not known:
                earlier = [one.number for one in self._strangers() if one.state.is_finished()]
                known = {**plan.identity(), "id": uuid.uuid4().hex, "earlier": earlier}
                self.study.set_user_attr(OURS, known)
            require_same(plan, known)
            plan = replace(plan, earlier=tuple(known.get("earlier", ())))
            self._warn_of_strangers(plan)
            self._add_missing(plan)
        return plan, known

    def _add_missing(self, plan: StudyPlan) -> None:
        ours = list(self.trials())
        fixed = [one.system_attrs.get("fixed_params") for one in ours]
        new = [dict(one) for one in plan.warm_start if dict(one) not in fixed]
        if plan.n_trials is not None and new and len(ours) + len(new) > plan.n_trials:
            raise ConfigError(
                f"the study has {len(ours)} of n_trials={plan.n_trials} trials; warm_start= adds {len(new)}.",
                hint=f"n_trials={len(ours) + len(new)}",
            )
        missing = [{"fixed_params": one} for one in new] + [{}] * ((plan.n_trials or 0) - len(ours) - len(new))
        add_trials(self.study, list(map(_waiting, missing)))

    def _strangers(self) -> list[Any]:
        """Return the trials that unitrain did not make."""
        everything = self._storage.get_all_trials(self._study_id, deepcopy=False)
        return [one for one in everything if not one.system_attrs.get(OURS)]

    def _warn_of_strangers(self, plan: StudyPlan) -> None:
        unseen = [one.number for one in self._strangers() if one.number not in plan.earlier]
        if unseen:
            warn_caller(
                f"the study {plan.study_name!r} has {len(unseen)} trials (the first is {unseen[0]}) that tune() did not"
                " make, and that were not finished when it began. Its sampler and pruner do not see them, since nobody"
                " knows when they end."
            )

    def trials(self) -> Iterator[Any]:
        """Yield the trials that unitrain made, in order."""
        for one in self._storage.get_all_trials(self._study_id, deepcopy=False):
            if one.system_attrs.get(OURS):
                yield one

    def take(self, parallel: int) -> Taken | None:
        """Return a trial that can run now, or None."""
        first = None
        for one in self._unfinished():
            first = one.number if first is None else first
            if one.number - parallel >= first:
                return None  # it would not see all that it is to see
            lease = self._leases.take(str(one.number))
            if lease is None:
                continue
            trial_id = one._trial_id  # noqa: SLF001 - Optuna has no public name for it
            deaths = self._begun(trial_id)
            if deaths is not None:
                return Taken(trial_id, one.number, lease, deaths)
            lease.release()
        return None

    def done(self) -> bool:
        """Return whether all trials are finished."""
        return next(self._unfinished(), None) is None

    def _unfinished(self) -> Iterator[Any]:
        """Yield the unfinished trials that unitrain made, in order; the first ones that finished are looked at once."""
        everything = self._storage.get_all_trials(self._study_id, deepcopy=False)
        for index in range(self._finished, len(everything)):
            one = everything[index]
            if one.state.is_finished():
                self._finished += index == self._finished
            elif one.system_attrs.get(OURS):
                yield one

    def _begun(self, trial_id: int) -> int | None:
        """Set a trial running, and return how many workers have died in it; None if it cannot be taken."""
        import optuna  # noqa: PLC0415 - an extra

        states = optuna.trial.TrialState
        found = self._storage.get_trial(trial_id)  # what was true before we had the lease may not be any more
        if found.state == states.WAITING:
            return 0 if self._storage.set_trial_state_values(trial_id, states.RUNNING) else None
        if found.state != states.RUNNING:
            return None
        counted = int(found.system_attrs.get(DEATHS, 0))
        survived: int = sum(one.startswith(SURVIVED) for one in found.system_attrs)
        if found.system_attrs.get(PARKED):
            self._storage.set_trial_system_attr(trial_id, PARKED, False)
            return counted - survived
        self._storage.set_trial_system_attr(trial_id, DEATHS, counted + 1)
        return counted + 1 - survived


def _waiting(attrs: dict[str, Any]) -> Any:
    import optuna  # noqa: PLC0415 - an extra

    return optuna.trial.create_trial(state=optuna.trial.TrialState.WAITING, system_attrs={OURS: True, **attrs})


def _settled(plan: StudyPlan, known: dict[str, Any], *, chosen: bool) -> StudyPlan:
    """Return the plan with what an earlier call has settled for the study, where this call does not say."""
    if not chosen:
        plan = replace(plan, parallel=known.get("parallel", plan.parallel))
    share = max(1, torch.get_num_threads() // plan.parallel)
    return replace(plan, threads=known.get("threads", share))


def require_same(plan: StudyPlan, known: dict[str, Any]) -> None:
    """Refuse to continue a study with arguments that make it another one.

    Raises:
        ConfigError: If an argument differs; the message shows both values.
    """
    for name, given in plan.identity().items():
        if known.get(name) != given:
            raise ConfigError(
                f"the study {plan.study_name!r} was begun with {name}={known.get(name)!r}; got {name}={given!r}.",
                hint=f"{name}={known.get(name)!r}, or another study_name=.",
            )
