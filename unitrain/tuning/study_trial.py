"""A trial of a study: reports values, asks the pruner, and stores the final state."""

from __future__ import annotations

import copy
import math
import time
import uuid
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from unitrain.compat.optuna_redis import ServerAwayError
from unitrain.errors import UnitrainError
from unitrain.tuning.plan import StudyPlan
from unitrain.tuning.queue import PARKED, SURVIVED
from unitrain.tuning.samplers import is_object, pruner_for, sampler_for
from unitrain.tuning.trackers import end_trial
from unitrain.tuning.visible import VisibleTrials

if TYPE_CHECKING:
    from collections.abc import Iterator

    from unitrain.tuning.trackers import StudyTrackers

_ASK_EVERY = 0.5
"""Seconds between two questions whether the lease is still ours."""


class LeaseLostError(UnitrainError):
    """Another worker has taken the trial over, since this one was stopped for too long."""


class StorageLostError(UnitrainError):
    """The storage failed in the middle of a trial, which stays as it is, to be resumed."""


class StudyTrial:
    """A trial of a study, for ``Pruning`` and for its worker. A copy in another process connects by itself.

    Args:
        plan: The study.
        trial_id: The trial's identity in the storage.
        number: Number of the trial.
        storage: The open storage; None opens it when it is needed.
        lease: The lease of the trial, if this process holds it.
        known: What the worker has learned of earlier trials, as ``VisibleTrials`` takes it.
    """

    def __init__(
        self,
        plan: StudyPlan,
        trial_id: int,
        number: int,
        storage: Any = None,
        lease: Any = None,
        *,
        known: list[Any] | None = None,
    ) -> None:
        self._plan = plan
        self._trial_id = trial_id
        self.number = number
        self._lease = lease
        self._known = known
        self._asked = -math.inf
        self._study: Any = None
        self._trial: Any = None
        self.trackers: StudyTrackers | None = None
        self._loggers: list[Any] = []
        if storage is not None:
            self._connect(storage)

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel without the connection and the lease; only rank 0 of the run makes a new one."""
        plan = self._plan
        bare = {"make_spec": None, "train": None, "val": None, "trainer": None, "sampler": "random", "catch": ()}
        return StudyTrial, (StudyPlan(**{**vars(plan), **bare}), self._trial_id, self.number)

    def _connect(self, storage: Any) -> None:
        import optuna  # noqa: PLC0415 - an extra

        plan, number = self._plan, self.number
        study_id = storage.get_study_id_from_name(plan.study_name)
        view = VisibleTrials(
            storage, study_id, self._trial_id, number, plan.parallel, earlier=plan.earlier, known=self._known
        )
        sampler = sampler_for(plan.sampler, plan.seed, number)
        self._study = optuna.Study(plan.study_name, view, sampler, pruner_for(plan.pruner))
        self._trial = optuna.trial.Trial(self._study, self._trial_id)
        if not is_object(plan.sampler):
            self._draw_again(view)
        self._judged, self._verdict = -1, False

    def _draw_again(self, view: VisibleTrials) -> None:
        """Let the sampler of a resumed trial draw its stored parameters again.

        Parameters share a random number generator: without this, the next ones would not be those of an uninterrupted
        trial.
        """
        stored = self._trial._cached_frozen_trial  # noqa: SLF001 - Optuna has no public way
        if not stored.distributions:
            return
        view.again = copy.copy(stored)
        view.again.params, view.again.distributions = {}, {}
        self._trial._cached_frozen_trial = view.again  # noqa: SLF001
        try:
            for name, distribution in stored.distributions.items():
                self._trial._suggest(name, distribution)  # noqa: SLF001
        finally:
            view.again = None
            self._trial._cached_frozen_trial = stored  # noqa: SLF001

    @property
    def suggests(self) -> Any:
        """Optuna's trial, for the functions of the user."""
        return self._trial

    @property
    def values(self) -> dict[int, float]:
        """What was reported, by epoch."""
        found: dict[int, float] = self._study._storage.get_trial(self._trial_id).intermediate_values  # noqa: SLF001
        return found

    @property
    def params(self) -> dict[str, Any]:
        """The parameters that were suggested."""
        return dict(self._trial.params)

    def tracked(self, loggers: Any) -> list[Any]:
        """Return the trackers of this trial."""
        name = self._plan.run_name(self.number)
        self._loggers = list(loggers) if self.trackers is None else self.trackers.of_trial(loggers, name)
        return self._loggers

    def report(self, value: float, step: int) -> None:
        """Store the value of an epoch, unless the run that is resumed has stored it.

        Raises:
            LeaseLostError: If another worker has the trial now.
        """
        if self._study is None:
            self._connect(self._plan.address.opened())
        with storage_in_use():
            self._require_lease()
            if len(self._plan.monitor) == 1:
                self._trial.report(value, step)  # does nothing if the step has a value

    def _require_lease(self) -> None:
        now = time.monotonic()
        if now < self._asked + _ASK_EVERY:
            return
        self._asked = now
        if not self._is_ours():
            raise LeaseLostError(f"trial {self.number} was taken over by another worker.", hint="nothing is lost.")

    def _is_ours(self) -> bool:
        return self._lease is None or self._lease.held()

    def should_prune(self) -> bool:
        """Return what the pruner says of the newest value.

        It is asked about each value in turn, also about those that were reported before the run was resumed, since
        a pruner may note something at each.
        """
        if self._plan.pruner is None:
            return False
        view = self._study._storage  # noqa: SLF001
        with storage_in_use():
            now = view.get_trial(self._trial_id)
        for step in sorted(one for one in now.intermediate_values if one > self._judged):
            self._judged, self._verdict = step, self._study.pruner.prune(self._study, _as_of(now, step, view.notes))
        return self._verdict

    def tell(self, values: list[float] | None, state: Any, reason: str = "") -> None:
        """End the trial in the study, unless another worker has ended it, or has it now, and this one only failed."""
        import optuna  # noqa: PLC0415 - an extra

        if reason and not self._is_ours():
            return
        try:
            self.should_prune()
            if reason:
                self._study._storage.set_trial_system_attr(self._trial_id, "fail_reason", reason)  # noqa: SLF001
            self._study.tell(self._trial, values, state, skip_if_finished=True)
        except RuntimeError:  # a sampler that has no more points asks for the end of `optimize`, which does not run
            if not self._study._storage.get_trial(self._trial_id).state.is_finished():  # noqa: SLF001
                raise
        except optuna.exceptions.UpdateFinishedTrialError:
            return
        self.tell_trackers()

    def tell_trackers(self) -> None:
        """Tell the trackers how the trial has ended."""
        if self._loggers:
            end_trial(self._loggers, self._study._storage.get_trial(self._trial_id), self._plan.monitor)  # noqa: SLF001

    def survive(self) -> None:
        """Note that the worker, which lost its lease, lives: whoever took the trial over has counted a death."""
        self._study._storage._storage.set_trial_system_attr(self._trial_id, f"{SURVIVED}{uuid.uuid4().hex}", True)  # noqa: SLF001

    def park(self) -> None:
        """Note that the worker released the trial cleanly, to be resumed."""
        if self._is_ours():
            self._study._storage._storage.set_trial_system_attr(self._trial_id, PARKED, True)  # noqa: SLF001


def _as_of(trial: Any, step: int, notes: dict[str, Any]) -> Any:
    """Return the stored trial as it was when ``step`` was reported, with the pruner's notes."""
    if not notes and step == max(trial.intermediate_values):
        return trial
    then = copy.copy(trial)
    then.intermediate_values = {at: value for at, value in trial.intermediate_values.items() if at <= step}
    then.system_attrs = {**trial.system_attrs, **notes}
    return then


@contextmanager
def storage_in_use() -> Iterator[None]:
    """Tell a failing storage from a failing trial.

    Raises:
        LeaseLostError: If another worker has ended the trial.
        StorageLostError: If the storage fails.
    """
    import optuna  # noqa: PLC0415 - an extra

    try:
        yield
    except optuna.exceptions.UpdateFinishedTrialError as error:
        raise LeaseLostError("another worker has ended the trial.", hint="nothing is lost.") from error
    except Exception as error:
        if isinstance(error, UnitrainError) and not isinstance(error, ServerAwayError):
            raise
        raise StorageLostError(
            f"the storage of the study failed: {type(error).__name__}: {error}", hint="call again to resume the study."
        ) from error
