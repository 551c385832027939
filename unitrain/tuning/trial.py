"""One trial: a fit that is begun, or resumed where its last worker left it, and its end in the study."""

from __future__ import annotations

import copy
import math
import re
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol
from weakref import WeakKeyDictionary

import torch

from unitrain.callbacks import Callback, ModelCheckpoint
from unitrain.callbacks.comparison import improved
from unitrain.errors import ConfigError, SpecError, UnitrainError
from unitrain.run.stopping import SIGNAL
from unitrain.spec import TrainSpec
from unitrain.trainer import UnifiedTrainer
from unitrain.tuning.arguments import require_options
from unitrain.tuning.finders.search_fit import untouched
from unitrain.tuning.plan import BEST, StudyPlan, data_for_trial, depends_on_trial, for_trial
from unitrain.tuning.pruning import Pruning
from unitrain.tuning.queue import PARKED
from unitrain.tuning.samplers import pruner_for, sampler_for
from unitrain.tuning.trackers import end_trial
from unitrain.tuning.visible import VisibleTrials
from unitrain.utilities.copies import copied
from unitrain.utilities.rng import preserved_rng, seed_everything

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from unitrain.run.context import RunContext
    from unitrain.run.result import FitResult
    from unitrain.tuning.queue import Taken
    from unitrain.tuning.trackers import StudyTrackers

_ASK_EVERY = 0.5
"""Seconds between two questions whether the lease is still ours."""
_SAVE_EVERY = 2.0
"""Seconds between two checkpoints of a trial, at the ends of epochs."""


class LeaseLostError(UnitrainError):
    """Another worker has taken the trial over, since this one was stopped for too long."""


class StorageLostError(UnitrainError):
    """The storage failed in the middle of a trial, which stays as it is, to be resumed."""


class Stop(Protocol):
    """Says whether all is to stop.

    Attributes:
        reason: Why, or None.
    """

    reason: str | None


@dataclass(frozen=True)
class TrialContext:
    """What a worker has for its trials.

    Attributes:
        plan: The study.
        storage: The open storage.
        halt: Whether the worker is to stop.
        trackers: Those of the study.
        models: The models and optimizers of earlier trials of this process, with their numbers.
    """

    plan: StudyPlan
    storage: Any
    halt: Stop
    trackers: StudyTrackers | None = None
    models: WeakKeyDictionary[Any, int] = field(default_factory=WeakKeyDictionary)


class TrialCheckpoint(ModelCheckpoint):
    """Keeps the state to resume a trial from: at the end of an epoch, not too often, and at the end of the fit.

    Args:
        folder: Of the trial.
        halt: Whether the worker is to stop; the fit's own handlers know of the signals that come later.
    """

    saves_at_interrupt = True
    on_batch_end = Callback.on_batch_end  # it is not called after each batch, which would cost a trial time

    def __init__(self, folder: Path, halt: Stop | None = None) -> None:
        super().__init__(folder, save_top_k=0, save_last=True)
        self._halt = halt
        self._saved = time.monotonic()

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what is of this process."""
        return {**vars(self), "_halt": None}

    def on_fit_start(self, run: RunContext) -> None:
        """Start the clock; stop at once if a signal came before the fit."""
        self._saved = time.monotonic()
        if self._halt is not None and self._halt.reason is not None:
            run.hub.stop_reason = SIGNAL

    def decide(self, run: RunContext) -> None:
        """Write, if it is time; of several clocks that of rank 0 counts."""
        if run.rank == 0 and time.monotonic() >= self._saved + _SAVE_EVERY:
            self._saved = time.monotonic()
            self._want(run, _LAST)

    def on_fit_end(self, run: RunContext) -> None:
        """Write the end, unless a signal cut the fit, which has a checkpoint of its own."""
        if run.hub.stop_reason != SIGNAL:
            self._want(run, _LAST)


_LAST = "last.ckpt"


class StudyTrial:
    """A trial of a study, for ``Pruning`` and for its worker. A copy in another process connects by itself.

    Args:
        plan: The study.
        trial_id: The trial's identity in the storage.
        number: Its number.
        storage: The open storage; None opens it when it is needed.
        lease: The right to the trial, where this process holds it.
    """

    def __init__(self, plan: StudyPlan, trial_id: int, number: int, storage: Any = None, lease: Any = None) -> None:
        self._plan = plan
        self._trial_id = trial_id
        self.number = number
        self._lease = lease
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
        view = VisibleTrials(storage, study_id, self._trial_id, number, plan.parallel)
        sampler = sampler_for(plan.sampler, plan.seed, number)
        self._study = optuna.Study(plan.study_name, view, sampler, pruner_for(plan.pruner))
        self._trial = optuna.trial.Trial(self._study, self._trial_id)
        self._judged, self._verdict = -1, False

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
        self._require_lease()
        if len(self._plan.monitor) == 1:
            with _storage_in_use():
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
        with _storage_in_use():
            now = view.get_trial(self._trial_id)
        for step in sorted(one for one in now.intermediate_values if one > self._judged):
            then = copy.copy(now)
            then.intermediate_values = {at: value for at, value in now.intermediate_values.items() if at <= step}
            then.system_attrs = {**now.system_attrs, **view.notes}
            self._judged, self._verdict = step, self._study.pruner.prune(self._study, then)
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
        end_trial(self._loggers, self._study._storage.get_trial(self._trial_id), self._plan.monitor)  # noqa: SLF001

    def park(self) -> None:
        """Note that the worker left the trial in order, to be resumed."""
        if self._is_ours():
            self._study._storage._storage.set_trial_system_attr(self._trial_id, PARKED, True)  # noqa: SLF001


@contextmanager
def _storage_in_use() -> Iterator[None]:
    """Tell a failing storage from a failing trial.

    Raises:
        StorageLostError: If the storage fails.
    """
    try:
        yield
    except UnitrainError:
        raise
    except Exception as error:
        raise StorageLostError(
            f"the storage of the study failed: {type(error).__name__}: {error}", hint="call again to resume the study."
        ) from error


def _trial(context: TrialContext, taken: Taken) -> StudyTrial:
    trial = StudyTrial(context.plan, taken.trial_id, taken.number, context.storage, taken.lease)
    trial.trackers = context.trackers
    return trial


def give_up(context: TrialContext, taken: Taken) -> None:
    """Fail a trial in which too many workers have died."""
    import optuna  # noqa: PLC0415 - an extra

    trial = _trial(context, taken)
    if not callable(context.plan.trainer):
        trial.tracked(fresh_options(context.plan.trainer).get("loggers") or ())
    trial.tell(None, optuna.trial.TrialState.FAIL, f"its worker died {taken.deaths} times")


def run_trial(context: TrialContext, taken: Taken) -> bool:
    """Run a trial to its end, and store that; return False if a signal cut it, to be resumed.

    Args:
        context: What the worker has.
        taken: The trial.

    Raises:
        LeaseLostError: If another worker has the trial now.
        StorageLostError: If the storage failed; the trial can be resumed.
        Exception: What the trial raised, unless ``catch`` has it; the trial has failed then.
    """
    import optuna  # noqa: PLC0415 - an extra

    states = optuna.trial.TrialState
    trial = _trial(context, taken)
    try:
        values = _values_of(context, trial)
    except optuna.TrialPruned:
        trial.tell(None, states.PRUNED)
    except (LeaseLostError, StorageLostError):
        raise
    except Exception as error:
        trial.tell(None, states.FAIL, f"{type(error).__name__}: {error}")
        if not isinstance(error, context.plan.catch):
            raise
    except BaseException:  # a second Ctrl-C
        trial.park()
        raise
    else:
        if values is None:
            trial.park()
            return False
        wrong = _nan(context.plan.monitor, values)
        trial.tell(None if wrong else values, states.FAIL if wrong else states.COMPLETE, wrong)
    return True


def _nan(names: Sequence[str], values: Sequence[float]) -> str:
    """Return which values are not numbers, in words."""
    return ", ".join(f"{name} is {one}" for name, one in zip(names, values, strict=True) if math.isnan(one))


def _values_of(context: TrialContext, trial: StudyTrial) -> list[float] | None:
    """Run the trial, and return its values: of its last epoch, or of its best; None if a signal cut it."""
    result, plan = _fitted(context, trial), context.plan
    if result is None or result.stopped_by == SIGNAL:
        return None
    if len(plan.monitor) > 1:
        return [result.metrics[name] for name in plan.monitor]
    reported = [value for _, value in sorted(trial.values.items())]
    if not reported:
        raise ConfigError(
            f"trial {trial.number} ended before {plan.monitor[0]!r} was measured.", hint="train at least one epoch."
        )
    best = reported[-1]
    if plan.value == BEST:
        for value in reported:
            best = value if math.isnan(best) or improved(value, best, plan.mode) else best
    return [best]


def _fitted(context: TrialContext, trial: StudyTrial) -> FitResult | None:
    """Run the fit of a trial, from its newest checkpoint if it has one; None if all is to stop before it begins."""
    plan = context.plan
    folder = plan.folder(trial.number)
    with surroundings(plan):
        seed_everything(plan.seed)
        spec = _spec(context, trial)
        train, val = (data_for_trial(one, trial.suggests) for one in (plan.train, plan.val))
        options = (
            dict(for_trial(plan.trainer, trial.suggests)) if callable(plan.trainer) else fresh_options(plan.trainer)
        )
        require_options(options)
        ours = [Pruning(trial, name) for name in plan.monitor] + [TrialCheckpoint(folder, context.halt)]
        if plan.value == BEST:
            ours.append(ModelCheckpoint(folder, "best", monitor=plan.monitor[0], mode=plan.mode))  # type: ignore[arg-type]
        if isinstance(options.get("loggers"), (list, tuple)) and options["loggers"]:
            options["loggers"] = trial.tracked(options["loggers"])
            spec = replace(spec, hparams={**trial.params, **(spec.hparams or {})})
        given = {"enable_progress_bar": False, **options, "callbacks": (*options.get("callbacks", ()), *ours)}
        framework = for_trial(plan.framework, trial.suggests)
        trainer = UnifiedTrainer(framework, **given, seed=plan.seed, default_root_dir=folder)
        if context.halt.reason is not None:
            return None
        return trainer.fit(spec, train, val, ckpt_path=newest_checkpoint(folder))


def newest_checkpoint(folder: Path) -> Path | None:
    """Return the checkpoint of a trial that was written last."""
    found = [(one.stat().st_mtime_ns, one) for one in folder.glob("*.ckpt") if _OURS.fullmatch(one.name)]
    return max(found)[1] if found else None


_OURS = re.compile(r"(last|best|interrupted)(-v\d+)?\.ckpt")
"""What a trial resumes from; the user's own callbacks may write other files beside."""


def options_of(plan: StudyPlan, trial: Any) -> dict[str, Any]:
    """Return the trainer's options for a trial."""
    return dict(plan.trainer(trial)) if callable(plan.trainer) else fresh_options(plan.trainer)


def fresh_options(options: Any) -> dict[str, Any]:
    """Return the trainer's options with callbacks and loggers that no earlier trial has used."""
    return copied("trainer=", dict(options), "trainer=lambda trial: {...} makes new objects for each trial.")


@contextmanager
def surroundings(plan: StudyPlan) -> Iterator[None]:
    """Give each trial the same surroundings, and put them back: threads, random states, the position of the data."""
    with ExitStack() as stack:
        stack.callback(torch.set_num_threads, torch.get_num_threads())
        torch.set_num_threads(plan.threads)
        stack.enter_context(preserved_rng())
        for data in (plan.train, plan.val):
            if data is not None and not depends_on_trial(data):
                stack.enter_context(untouched(data))
        yield


def _spec(context: TrialContext, trial: StudyTrial) -> TrainSpec:
    """Return the spec of a trial.

    Raises:
        SpecError: If it is none, or has the model or the optimizer of an earlier trial.
    """
    spec = require_spec(context.plan.make_spec(trial.suggests))
    for what, one in (("model", spec.model), ("optimizer", spec.optimizer)):
        used = isinstance(one, (torch.nn.Module, torch.optim.Optimizer)) and context.models.setdefault(
            one, trial.number
        )
        if used is not False and used != trial.number:
            raise SpecError(
                f"make_spec returned the {what} of trial {used}, which is trained already.",
                hint=f"make a new {what} inside make_spec.",
            )
    return spec


def require_spec(made: Any) -> TrainSpec:
    """Return what ``make_spec`` made.

    Raises:
        SpecError: If it is no spec.
    """
    if not isinstance(made, TrainSpec):
        raise SpecError(
            f"make_spec must return a TrainSpec; got a {type(made).__name__}.",
            hint="def make_spec(trial): return TrainSpec(model=..., loss=..., optimizer=...)",
        )
    return made
