"""One trial: a fit that is begun, or resumed where its last worker left it, and its end in the study."""

from __future__ import annotations

import math
import warnings
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import torch

from unitrain.backends.registry import find_trackers
from unitrain.callbacks.comparison import improved
from unitrain.compat.optuna_redis import ServerAwayError
from unitrain.errors import ConfigError, SpecError
from unitrain.run.stopping import SIGNAL
from unitrain.spec import TrainSpec
from unitrain.trainer import UnifiedTrainer
from unitrain.tuning.arguments import require_options
from unitrain.tuning.finders.search_fit import untouched
from unitrain.tuning.plan import BEST, StudyPlan, data_for_trial, depends_on_trial, for_trial
from unitrain.tuning.pruning import Pruning
from unitrain.tuning.study_trial import LeaseLostError, StorageLostError, StudyTrial
from unitrain.tuning.trial_checkpoints import TrialCheckpoint, best_kept, newest_checkpoint
from unitrain.utilities.copies import copied
from unitrain.utilities.rng import preserved_rng, seed_everything

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from unitrain.callbacks import Callback
    from unitrain.run.result import FitResult
    from unitrain.tuning.queue import Taken
    from unitrain.tuning.trackers import StudyTrackers
    from unitrain.tuning.trial_checkpoints import Stop


@dataclass(frozen=True)
class TrialContext:
    """The objects that a worker shares between its trials.

    Attributes:
        plan: The study.
        storage: The open storage.
        halt: Whether the worker should stop.
        trackers: Trackers of the study.
        models: The models and optimizers of earlier trials of this process, with their numbers.
        known: What this process has learned of the study's first trials, as ``VisibleTrials`` takes it.
    """

    plan: StudyPlan
    storage: Any
    halt: Stop
    trackers: StudyTrackers | None = None
    models: WeakKeyDictionary[Any, int] = field(default_factory=WeakKeyDictionary)
    known: list[Any] = field(default_factory=list)


def _trial(context: TrialContext, taken: Taken) -> StudyTrial:
    trial = StudyTrial(context.plan, taken.trial_id, taken.number, context.storage, taken.lease, known=context.known)
    trial.trackers = context.trackers
    return trial


def give_up(context: TrialContext, taken: Taken) -> None:
    """Fail a trial in which too many workers have died, and tell its trackers."""
    import optuna  # noqa: PLC0415 - an extra

    trial = _trial(context, taken)
    trial.tell(None, optuna.trial.TrialState.FAIL, f"its worker died {taken.deaths} times")
    try:  # only now: a function of the user's may be what its workers died in
        loggers = options_of(context.plan, trial.suggests).get("loggers") or ()
    except Exception as error:  # noqa: BLE001 - whatever it is, the trial has ended
        warnings.warn(f"the trackers of trial {taken.number} were not told of its end: {error!r}", stacklevel=2)
    else:
        if isinstance(loggers, (list, tuple)):
            trial.tracked(loggers)
            trial.tell_trackers()


def run_trial(context: TrialContext, taken: Taken) -> bool:
    """Run a trial to its end and store the outcome; return False if a signal interrupted it, to be resumed.

    Args:
        context: The worker's shared objects.
        taken: The trial.

    Raises:
        LeaseLostError: If another worker has the trial now.
        StorageLostError: If the storage failed; the trial can be resumed.
        Exception: Any error that the trial raised, unless listed in ``catch``; the trial has then failed.
    """
    import optuna  # noqa: PLC0415 - an extra

    states = optuna.trial.TrialState
    trial = _trial(context, taken)
    try:
        values = _values_of(context, trial)
    except optuna.TrialPruned:
        trial.tell(None, states.PRUNED)
    except (LeaseLostError, StorageLostError, ServerAwayError) as error:
        with suppress(Exception):  # the trial has ended, or the storage is still away
            trial.survive() if isinstance(error, LeaseLostError) else trial.park()
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
    """Run the trial, and return its values: of its last epoch, or of its best; None if a signal interrupted it."""
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
        options = options_of(plan, trial.suggests)
        require_options(options)
        ours: list[Callback] = [Pruning(trial, name) for name in plan.monitor]
        ours.append(TrialCheckpoint(folder, context.halt))
        if plan.value == BEST:
            ours.append(best_kept(folder, plan))
        if isinstance(options.get("loggers"), (list, tuple)) and options["loggers"]:
            options["loggers"] = trial.tracked(options["loggers"])
            spec = replace(spec, hparams={**trial.params, **(spec.hparams or {})})
        given = {"enable_progress_bar": False, **options, "callbacks": (*options.get("callbacks", ()), *ours)}
        framework = for_trial(plan.framework, trial.suggests)
        trainer = UnifiedTrainer(framework, **given, seed=plan.seed, default_root_dir=folder)
        if context.halt.reason is not None:
            return None
        return trainer.fit(spec, train, val, ckpt_path=newest_checkpoint(folder))


def options_of(plan: StudyPlan, trial: Any) -> dict[str, Any]:
    """Return the trainer's options for a trial."""
    found = dict(plan.trainer(trial)) if callable(plan.trainer) else fresh_options(plan.trainer)
    if "loggers" in found:
        found["loggers"] = find_trackers(found["loggers"])
    return found


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
        shared = isinstance(one, (torch.nn.Module, torch.optim.Optimizer))  # else it is made for each trial
        first = context.models.setdefault(one, trial.number) if shared else trial.number
        if first != trial.number:
            raise SpecError(
                f"make_spec returned the {what} of trial {first}, which is already trained.",
                hint=f"create a new {what} inside make_spec.",
            )
    return spec


def require_spec(made: Any) -> TrainSpec:
    """Return what ``make_spec`` made.

    Raises:
        SpecError: If it is not a TrainSpec.
    """
    if not isinstance(made, TrainSpec):
        raise SpecError(
            f"make_spec must return a TrainSpec; got a {type(made).__name__}.",
            hint="def make_spec(trial): return TrainSpec(model=..., loss=..., optimizer=...)",
        )
    return made
