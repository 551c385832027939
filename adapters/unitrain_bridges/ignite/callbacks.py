"""Runs Ignite handlers on another backend: a shadow engine mirrors the run and fires its events."""

# ruff: noqa: SLF001 - events are fired as a real engine fires them

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any, NoReturn

from unitrain.callbacks import EpochDecision
from unitrain.errors import ConfigError, UnsupportedFeatureError
from unitrain.run.hub import Event
from unitrain.run.stopping import StopRule
from unitrain_bridges.ignite.options import HOME
from unitrain_ignite._compat import Engine, Events, heard
from unitrain_ignite.stopping import why_terminated

if TYPE_CHECKING:
    from unitrain.run.context import RunContext

REFUSED = {
    "BasicTimeProfiler": "torch.profiler.profile() around trainer.fit(...).",
    "HandlersTimeProfiler": "torch.profiler.profile() around trainer.fit(...).",
}
"""Handlers that measure Ignite's own loop, with alternatives."""

_OWNED = ("epoch", "iteration", "max_epochs", "epoch_length", "batch")
"""State attributes that change a real engine's run when a handler sets them."""


class ShadowEngine(Engine):
    """An engine that runs nothing and mirrors another backend's run.

    Args:
        framework: The backend that runs.
    """

    def __init__(self, framework: str) -> None:
        super().__init__(lambda _engine, _batch: None)
        self._framework = framework

    def run(self, *_: Any, **__: Any) -> NoReturn:
        """Refuse: the run is the backend's."""
        raise self._absent("run")

    def terminate_epoch(self, *_: Any, **__: Any) -> NoReturn:
        """Refuse: other backends cannot end an epoch early."""
        raise self._absent("terminate_epoch")

    def interrupt(self) -> NoReturn:
        """Refuse: other backends cannot pause a run."""
        raise self._absent("interrupt")

    def _absent(self, method: str) -> UnsupportedFeatureError:
        return UnsupportedFeatureError(
            f"a handler called engine.{method}(), but this engine only mirrors a run on {self._framework!r}.",
            hint="use engine.terminate() to stop the run; the others require framework='ignite'.",
        )


class IgniteHandler(EpochDecision):
    """An Ignite handler that follows a run of another backend.

    Its engine fires the events of a real one that runs the same spec, with the same numbers. Reading data is no event
    of a run: GET_BATCH_STARTED comes with GET_BATCH_COMPLETED, when the batch is there. ``engine.terminate()`` asks for
    the end as ``run.stop()`` does: the batch that has begun is finished, and minima hold.

    Attributes:
        native: The handler.

    Args:
        handler: An object with ``attach(engine)``.
        framework: The backend that runs.
    """

    _within = False

    def __init__(self, handler: Any, framework: str) -> None:
        self.native = handler
        self.state_key = f"{HOME}.{type(handler).__name__}"
        self._framework = framework

    def reset_state(self) -> None:
        """Attach the handler to a new engine, as each run on Ignite has one.

        Raises:
            ConfigError: If it handles EXCEPTION_RAISED: on Ignite that swallows errors, and training continues.
        """
        self._engine = engine = ShadowEngine(self._framework)
        self.native.attach(engine)
        if heard(engine, Events.EXCEPTION_RAISED):
            raise ConfigError(
                f"the handler {type(self.native).__name__} handles Events.EXCEPTION_RAISED, which swallows errors"
                f" and lets training continue.",
                hint="handle unitrain's Event.EXCEPTION; the error is raised after it.",
            )
        self._within = self._over = self._exhausted = self._ended = False

    def state_dict(self) -> dict[str, Any]:
        """Return the handler's state."""
        keep = getattr(self.native, "state_dict", None)
        return dict(keep()) if callable(keep) else {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the handler's state."""
        if state:
            self.native.load_state_dict(state)

    def on_fit_start(self, run: RunContext) -> None:
        """Begin, where an earlier run stood if this one continues with it."""
        state, hub = self._engine.state, run.hub
        state.epoch, state.iteration = hub.occurred(Event.EPOCH_END), hub.state.batch
        state.max_epochs = sys.maxsize if run.config.epochs is None else run.config.epochs
        state.epoch_length = length = hub.epoch_length
        self._first = state.iteration % length if length else state.iteration
        self._by_hand = hub.epoch_length is None
        self._engine._init_timers(state)
        self._begun = time.time()
        self._fire(run, Events.STARTED)

    def on_epoch_start(self, run: RunContext) -> None:
        """Begin an epoch."""
        if self._over:
            return
        self._within = True
        self._counter, self._first = self._first, 0
        self._engine.state.epoch += 1
        self._epoch_begun = time.time()
        self._fire(run, Events.EPOCH_STARTED)

    def on_batch_start(self, run: RunContext) -> None:
        """Fetch a batch and begin an iteration."""
        if not self._within:  # the epoch continues with an earlier run's, so unitrain has announced it there
            self._by_hand = True
            self.on_epoch_start(run)
        if self._over:
            return
        state = self._engine.state
        state.batch = None
        goes_on = self._fire(run, Events.GET_BATCH_STARTED)
        if goes_on and self._exhausted:
            goes_on = self._fire(run, Events.DATALOADER_STOP_ITERATION)
        self._exhausted = False
        if goes_on:
            state.batch, state.output = run.batch, None
            goes_on = self._fire(run, Events.GET_BATCH_COMPLETED)
        if goes_on:
            state.iteration += 1
            self._counter += 1
            self._fire(run, Events.ITERATION_STARTED)

    def on_batch_end(self, run: RunContext) -> None:
        """End an iteration."""
        if self._over:
            return
        state: Any = self._engine.state
        state.output = run.state.loss
        self._fire(run, Events.ITERATION_COMPLETED)

    def on_val_end(self, run: RunContext) -> None:
        """Publish the metrics so far to handlers of the epoch's end, as on Ignite."""
        if self._within and not self._over:
            self._engine.state.metrics.update(run.hub.epoch_metrics)

    def on_epoch_end(self, run: RunContext) -> None:
        """End an epoch; unitrain ends one of no trusted length, and one that is cut short, by hand."""
        self._ended = not self._over
        if self._over:
            return
        state = self._engine.state
        self._exhausted = self._counter == state.epoch_length and not self._by_hand
        if not self._exhausted:
            self._fire(run, Events.TERMINATE_SINGLE_EPOCH, iter_counter=self._counter)
        state.times[Events.EPOCH_COMPLETED.name] = time.time() - self._epoch_begun
        self._fire(run, Events.EPOCH_COMPLETED)
        self._within = False

    def decide(self, run: RunContext) -> None:
        """Publish the epoch's metrics to Ignite's own handlers."""
        if self._ended:
            self._engine.state.metrics.update(run.hub.epoch_metrics)

    def on_fit_end(self, run: RunContext) -> None:
        """End."""
        engine = self._engine
        if self._over or StopRule(run.config, run.hub).granted(run.hub.occurred(Event.EPOCH_END)):
            engine._fire_event(Events.TERMINATE)
        engine.state.times[Events.COMPLETED.name] = time.time() - self._begun
        if engine.should_terminate != "skip_completed":
            engine._fire_event(Events.COMPLETED)

    def _fire(self, run: RunContext, event: Events, **further: Any) -> bool:
        """Fire an event, apply its handlers' requests, and return whether the engine continues.

        Raises:
            UnsupportedFeatureError: If one changed what would change the run of a real engine.
        """
        engine = self._engine
        before = [getattr(engine.state, name) for name in _OWNED]
        engine._fire_event(event, **further)
        for name, value in zip(_OWNED, before, strict=True):
            if getattr(engine.state, name) is not value:
                raise self._changed(name)
        if engine.should_terminate:
            self._over = True
            run.hub.request_stop(why_terminated(engine))
        return not self._over

    def _changed(self, name: str) -> UnsupportedFeatureError:
        return UnsupportedFeatureError(
            f"the handler {type(self.native).__name__} set engine.state.{name}, which has no effect: the engine only"
            f" mirrors a run on {self._framework!r}.",
            hint="use engine.terminate() to stop the run; the rest requires framework='ignite'.",
        )


def refuse_named(handler: Any, framework: str) -> None:
    """Refuse a handler that works in Ignite's own loop only.

    Raises:
        UnsupportedFeatureError: If it is not supported; the hint names an alternative.
    """
    for cls in type(handler).__mro__:
        if cls.__name__ in REFUSED and cls.__module__.startswith("ignite."):
            raise UnsupportedFeatureError(
                f"the handler {type(handler).__name__} measures Ignite's own loop, which does not run on"
                f" {framework!r}.",
                hint=REFUSED[cls.__name__],
            )
