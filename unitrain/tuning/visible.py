"""What the sampler and the pruner of a trial see of its study.

They see the finished trials whose number is at least ``parallel`` less than the trial's own, however many workers
there are and in whatever order these finish. That is what makes a study the same for any number of workers.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Container, Sequence


class VisibleTrials:
    """A storage of Optuna as one trial sees it; what it does not limit is the storage's own.

    Attributes:
        notes: What the sampler and the pruner have noted about the trial, until it ends.

    Args:
        storage: Of the study.
        study_id: Of the study.
        trial_id: Of the trial, which may be written to.
        number: Of the trial.
        parallel: How many trials may run at once; the last ones of them are not seen.
    """

    def __init__(self, storage: Any, study_id: int, trial_id: int, number: int, parallel: int) -> None:
        self._storage = storage
        self._trial_id = trial_id
        self._study_id = study_id
        everything = storage.get_all_trials(study_id, deepcopy=False)
        finished = [one for one in everything if one.state.is_finished()]
        self._seen = [one for one in finished if one.number <= number - parallel]
        self._study_attrs: dict[str, Any] = copy.deepcopy(storage.get_study_system_attrs(study_id))
        self.notes: dict[str, Any] = {}

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
        found = self._storage.get_trial(trial_id)
        if trial_id == self._trial_id and self.notes:
            found = copy.copy(found)
            found.system_attrs = {**found.system_attrs, **self.notes}
        return found

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
