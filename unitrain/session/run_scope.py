"""Sets up what surrounds a run: listeners, display, profiling, error handling and the result."""

from __future__ import annotations

import time
from contextlib import closing, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from unitrain.callbacks import ModelCheckpoint, ProgressBar, register
from unitrain.errors import ConfigError
from unitrain.reports.run.facts import RunFacts, remember
from unitrain.run.hub import Event
from unitrain.run.result import FitResult
from unitrain.run.stopping import CUT, INTERRUPT, MAX_EPOCHS, PRUNED, USER, StopRule
from unitrain.utilities.profiling import MOVE, SIMPLE, Clock, made_profiler

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from unitrain.backends.protocol import EvalJob, FitJob
    from unitrain.callbacks import Callback, History
    from unitrain.data.sources import DataSource
    from unitrain.run.hub import EventHub


@contextmanager
def listening(hub: EventHub, callback: Callback, *, shows: bool = True) -> Iterator[None]:
    """Register ``callback`` temporarily; a progress bar only where progress is shown."""
    registrations = register(hub, callback) if shows or not isinstance(callback, ProgressBar) else []
    try:
        yield
    finally:
        hub.remove(registrations)


_STATE = ("reset_state", "load_state_dict")


def with_state(callbacks: Iterable[Any]) -> Iterator[Any]:
    """Yield the objects that keep the state of a run: callbacks, or the framework's callbacks that ours wrap."""
    for callback in callbacks:
        one = getattr(callback, "native", callback)
        if any(_defined_by(type(one), name) not in ("", "Callback") for name in _STATE):
            yield one


def _defined_by(kind: type, name: str) -> str:
    """Return the name of the class that defines a method; unitrain's base and Lightning's have the same name."""
    return next((base.__name__ for base in kind.__mro__ if name in vars(base)), "")


@contextmanager
def progress(hub: EventHub, *, wanted: bool) -> Iterator[None]:
    """Show a progress bar, if requested."""
    if not wanted:
        yield
        return
    with closing(ProgressBar()) as bar, listening(hub, bar):
        yield


@contextmanager
def loaders_noted(hub: EventHub) -> Iterator[list[str | None]]:
    """Yield a list that collects the loader name of each predicted batch."""
    names: list[str | None] = []
    registrations = hub.on(Event.PREDICT_BATCH_END, lambda run: names.append(run.loader_name))
    try:
        yield names
    finally:
        hub.remove(registrations)


def by_loader(job: EvalJob, own: list[Any], names: list[str | None]) -> Any:
    """Return the predictions of all processes: a list, or lists by the loader's name if there are several.

    Args:
        job: The prediction.
        own: The predictions of this process, one item per batch.
        names: Name of each batch's loader.
    """
    loaders = [source.name for source in job.data]
    parts = job.team.all_gather_object(list(zip(names, own, strict=True)))
    found = {loader: [one for part in parts for name, one in part if name == loader] for loader in loaders}
    return found.get(None, found)


def require_returned(code: Any, *, wanted: bool) -> None:
    """Refuse ``return_predictions=False`` for a framework's own code.

    Raises:
        ConfigError: If predictions are not to be returned.
    """
    if not wanted:
        raise ConfigError(
            f"return_predictions=False requires a TrainSpec; the predictions of a {type(code).__name__} are"
            f" collected by its own framework.",
            hint="remove it.",
        )


@contextmanager
def profiled(profiler: Any, hub: EventHub, batch_end: Event, *, shows: bool) -> Iterator[None]:
    """Profile a run according to ``profiler=``.

    Args:
        profiler: The trainer's option.
        hub: The hub whose clock is set, or whose batches step torch's profiler.
        batch_end: The event that ends a batch of this run.
        shows: Whether to print the profile, if the run does not fail.
    """
    if profiler is None:
        yield
    elif profiler == SIMPLE:
        hub.clock = clock = Clock()
        try:
            yield
        finally:
            hub.clock, hub.profile = None, clock.report()
        if shows:
            print(hub.profile)  # noqa: T201 - that is what it is for
    else:
        with _by_torch(made_profiler(profiler), hub, batch_end):
            yield


@contextmanager
def _by_torch(profiler: Any, hub: EventHub, batch_end: Event) -> Iterator[None]:
    profiler.start()
    registrations = hub.on(batch_end, profiler.step)
    try:
        yield
    finally:
        hub.remove(registrations)
        profiler.stop()


def fit_on_the_clock(job: FitJob) -> FitJob:
    """Return ``job`` with its data profiled, if the run is."""
    clock = job.hub.clock
    if clock is None:
        return job
    return replace(job, train=_timed(job.train, clock), val=tuple(_timed(one, clock) for one in job.val))


def evaluation_on_the_clock(job: EvalJob) -> EvalJob:
    """Return ``job`` with its data profiled, if the run is."""
    clock = job.hub.clock
    return job if clock is None else replace(job, data=[_timed(one, clock) for one in job.data])


def _timed(source: DataSource, clock: Clock) -> DataSource:
    place = None if source.place is None else clock.timed(MOVE, source.place)
    return replace(source, clock=clock, place=place)


def announce(hub: EventHub, error: BaseException) -> None:
    """Notify the handlers of EXCEPTION; if one fails itself, add a note to the error."""
    if hub.context is None:
        return
    hub.context.exception = error
    try:
        hub.fire(Event.EXCEPTION)
    except Exception as second:  # noqa: BLE001 - the first error is the one to raise
        error.add_note(f"unitrain: a handler of EXCEPTION failed too: {second!r}")


def outcome(job: FitJob, history: History, backend: tuple[str, Any]) -> FitResult:
    """Return the result of a fit; ``backend`` is its name and its real object."""
    hub, config, rows = job.hub, job.config, history.rows
    stopped = hub.stop_reason if StopRule(config, hub).granted(len(rows)) else None
    savers = (one.best_model_path for one in job.callbacks.values() if isinstance(one, ModelCheckpoint))
    result = FitResult(
        metrics=dict(hub.state.metrics),
        history=rows,
        epoch=hub.state.epoch,
        step=hub.state.step,
        stopped_by=USER if stopped == INTERRUPT else stopped or MAX_EPOCHS,
        framework=backend[0],
        native=backend[1],
        best_checkpoint=next(savers, None),
        last_checkpoint=hub.last_checkpoint,
        tensors=dict(hub.state.tensors),
        profile=hub.profile if config.profiler == SIMPLE else None,
    )
    seconds = time.perf_counter() - history.log.began
    cut = stopped in CUT
    facts = RunFacts(config, job.spec, config.seed, seconds, history.log, job.device, job.team.size, interrupted=cut)
    remember(result, facts)
    return result


def unless_pruned(result: FitResult) -> FitResult:
    """Return the result of a fit.

    Raises:
        optuna.TrialPruned: If a ``Pruning`` callback stopped it; its ``result`` is the result.
    """
    if result.stopped_by != PRUNED:
        return result
    from optuna import TrialPruned  # noqa: PLC0415 - an extra, which whoever prunes has imported

    error = TrialPruned(f"the trial was pruned in epoch {result.epoch}.")
    error.result = result
    raise error
