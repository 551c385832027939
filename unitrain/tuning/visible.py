"""The part of a study that a trial's sampler and pruner see.

They see the study's finished trials numbered at least ``parallel`` below the trial's own, whatever the number of
workers and the order in which trials finish. So a study has the same trials for any number of workers. Of trials made
by others, they see those that were finished before the study's first call.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from unitrain.tuning.queue import OURS

if TYPE_CHECKING:
    from collections.abc import Container, Sequence


class VisibleTrials:
    """An Optuna storage as one trial sees it; everything that it does not limit is passed on.

    Attributes:
        notes: Notes of the sampler and the pruner about the trial, until it ends.
        again: The trial as it is shown while its sampler draws again what is stored; None at all other times.

    Args:
        storage: Storage of the study.
        study_id: Identity of the study in the storage.
        trial_id: Identity of the trial, the only one that may be written to.
        number: Number of the trial.
        parallel: Finished trials of the study's own numbered at least this much below the trial's are visible.
        earlier: Numbers of the visible trials that others made.
        known: What the views of this process have learned of the first trials, which stay as they are: each that is
            seen, and None for each that is not. It is continued.
    """

    def __init__(
        self,
        storage: Any,
        study_id: int,
        trial_id: int,
        number: int,
        parallel: int,
        *,
        earlier: Sequence[int] = (),
        known: list[Any] | None = None,
    ) -> None:
        self._storage = storage
        self._trial_id = trial_id
        self._study_id = study_id
        known = [] if known is None else known
        everything, end = storage.get_all_trials(study_id, deepcopy=False), max(0, number - parallel + 1)
        for one in everything[len(known) : end]:  # a trial's number is its place
            if one.system_attrs.get(OURS) and not one.state.is_finished():
                break
            known.append(one if _is_seen(one, earlier) else None)
        start = min(len(known), end)
        rest = [one for one in everything[start:] if one.number < end or one.number in earlier]
        self._seen = [one for one in known[:start] if one is not None]
        self._seen += [one for one in rest if _is_seen(one, earlier)]
        self._study_attrs: dict[str, Any] = copy.deepcopy(storage.get_study_system_attrs(study_id))
        self.notes: dict[str, Any] = {}
        self.again: Any = None

    def __getattr__(self, name: str) -> Any:
        """Return what the storage has."""
        return getattr(self._storage, name)

    def get_study_id_from_name(self, study_name: str) -> int:  # noqa: ARG002 - Optuna's
        """Return the study's identity."""
        return self._study_id

    def get_all_trials(self, study_id: int, deepcopy: bool = True, states: Container[Any] | None = None) -> list[Any]:  # noqa: ARG002 - Optuna's
        """Return the trials that are seen, and the trial itself."""
        found = [one for one in (*self._seen, self.get_trial(self._trial_id)) if states is None or one.state in states]
        return copy.deepcopy(found) if deepcopy else found

    def get_n_trials(self, study_id: int, state: Any = None) -> int:
        """Return how many of them there are."""
        states = (state,) if state is not None and not isinstance(state, tuple) else state
        return len(self.get_all_trials(study_id, deepcopy=False, states=states))

    def get_trial(self, trial_id: int) -> Any:
        """Return a trial; the trial itself with what its pruner noted."""
        if trial_id == self._trial_id and self.again is not None:
            return self.again
        found = self._storage.get_trial(trial_id)
        if trial_id == self._trial_id and self.notes:
            found = copy.copy(found)
            found.system_attrs = {**found.system_attrs, **self.notes}
        return found

    def set_trial_param(self, trial_id: int, param_name: str, param_value_internal: float, distribution: Any) -> None:
        """Store a parameter, unless it is the repetition of a stored one."""
        if self.again is None:
            self._storage.set_trial_param(trial_id, param_name, param_value_internal, distribution)

    def get_study_system_attrs(self, study_id: int) -> dict[str, Any]:  # noqa: ARG002 - Optuna's
        """Return the notes of the sampler about the study, as far as this trial's own has made them."""
        return self._study_attrs

    def set_study_system_attr(self, study_id: int, key: str, value: Any) -> None:  # noqa: ARG002 - Optuna's
        """Note something about the study for this trial only, since other trials see other trials."""
        self._study_attrs[key] = value

    def get_trial_system_attrs(self, trial_id: int) -> dict[str, Any]:
        """Return the notes about a trial."""
        found: dict[str, Any] = self.get_trial(trial_id).system_attrs
        return found

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        """Note something about the trial; it is stored when the trial ends, so that a resumed trial notes it again."""
        if trial_id == self._trial_id:
            self.notes[key] = value
        else:
            self._storage.set_trial_system_attr(trial_id, key, value)

    def keep_notes(self) -> None:
        """Store the notes about the trial; other trials read them."""
        for key, value in self.notes.items():
            self._storage.set_trial_system_attr(self._trial_id, key, value)

    def set_trial_state_values(self, trial_id: int, state: Any, values: Sequence[float] | None = None) -> bool:
        """Store the end of the trial, after the notes."""
        self.keep_notes()
        ended: bool = self._storage.set_trial_state_values(trial_id, state, values)
        return ended


def _is_seen(trial: Any, earlier: Sequence[int]) -> bool:
    return trial.state.is_finished() and bool(trial.system_attrs.get(OURS) or trial.number in earlier)
