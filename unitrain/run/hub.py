"""The event hub: calls handlers and counts.

``unitrain.run.events`` names what happens; ``RunState`` holds the counters, and ``EventHub`` keeps them and calls the
handlers. No adapter copies a backend's counters: Ignite counts an iteration before it starts, Lightning sums steps over
optimizers; here there is one meaning.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Never, Protocol, TypeAlias

from unitrain.compat.other_names import STATE
from unitrain.errors import SpecError, nearest, no_attribute
from unitrain.run.events import CustomEvent, Event, Trigger, Triggers
from unitrain.run.filters import binds
from unitrain.utilities.ledger import Ledger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from torch import Tensor

    from unitrain.metrics.tables import Table
    from unitrain.run.filters import EventFilter
    from unitrain.run.saves import CheckpointRequest, InParts, Keeper, UnfinishedSave
    from unitrain.utilities.profiling import Clock, Profile

__all__ = [
    "CustomEvent",
    "Event",
    "EventHub",
    "Handler",
    "Listener",
    "RunState",
    "Trigger",
    "Triggers",
]

Handler: TypeAlias = "Callable[[Any], object] | Callable[[], object]"
"""Takes the ``RunContext``, or nothing. It is typed Any because ``unitrain.run.context`` imports the hub."""

_EVENTS = tuple(Event)


class Trackers(Protocol):
    """All trackers of a run at once."""

    def log_metrics(self, metrics: Mapping[str, float]) -> None:
        """Send numbers at the current step."""

    def log_hyperparams(self, params: Mapping[str, Any]) -> None:
        """Send hyper-parameters."""

    def log_figure(self, name: str, figure: Any) -> None:
        """Send a figure at the current step."""

    def log_table(self, name: str, table: Table) -> None:
        """Draw a matrix or a curve, and send the figure."""


@dataclass(slots=True)
class RunState:
    """The counters and latest values of a run.

    Attributes:
        epoch: The current epoch, from 0.
        step: Number of optimizer steps; a training step in which several optimizers step counts once.
        batch: Number of training batches finished since the run's start.
        loss: The last training loss, a detached 0-dimensional tensor, not divided under accumulation.
        metrics: The latest value of each metric and logged value, by full name (``"val/loss"``).
        tensors: The latest matrices and curves, on the CPU, by full name (``"val/confusion"``, ``"val/roc_fpr"``).

    Example:
        >>> trainer = UnifiedTrainer("reference", max_epochs=2, enable_progress_bar=False)
        >>> _ = trainer.fit(spec, batches)
        >>> trainer.state.epoch, trainer.state.step, trainer.state.batch
        (1, 6, 6)
    """

    epoch: int = 0
    step: int = 0
    batch: int = 0
    loss: Tensor | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    tensors: dict[str, Tensor] = field(default_factory=dict)

    if not TYPE_CHECKING:  # for a type checker, only what is defined exists

        def __getattr__(self, name: str) -> Never:
            """Refuse an unknown attribute, with the one that was meant."""
            raise no_attribute(self, name, "the state of a run", STATE)


class Listener(NamedTuple):
    """The registration of a handler."""

    handler: Handler
    call: Callable[[Any], object]
    accepts: EventFilter | None

    def __reduce__(self) -> tuple[Callable[..., Listener], tuple[Handler, EventFilter | None]]:
        """Travel without ``call``, which may be made here."""
        return _listener, (self.handler, self.accepts)


_RESTARTS: dict[Event, tuple[Event, Event]] = {
    Event.VAL_START: (Event.VAL_BATCH_START, Event.VAL_BATCH_END),
    Event.TEST_START: (Event.TEST_BATCH_START, Event.TEST_BATCH_END),
    Event.PREDICT_START: (Event.PREDICT_BATCH_START, Event.PREDICT_BATCH_END),
}
"""Evaluation batches are counted within one evaluation, as in Ignite's evaluators."""


class EventHub:
    """Counts events and calls their handlers, in the order in which they were registered.

    Attributes:
        state: The counters and values that handlers read.
        context: The ``run`` passed to handlers; set by the adapter before the first event.
        epoch_metrics: The values published since the last EPOCH_START.
        measured_at: Optimizer step after which each value was last published, in this process.
        stop_reason: Reason of the request to stop, or None.
        within_epoch: Whether the epoch that ended was stopped before its last batch.
        epoch_length: Number of training batches of an epoch, or None if unknown.
        validates: Whether the fit has validation data.
        step_metrics: Further values that trackers read for the row of a step, by name.
        trackers: Receives rows, figures and hyper-parameters for all trackers of a tracked run; else None.
        pending_checkpoints: Requested checkpoints, to be written at the end of the batch or the epoch.
        unfinished_save: The save that a thread is writing.
        last_checkpoint: The last written checkpoint.
        files: The files of the run.
        keepers: The callbacks that request checkpoints, by the name of their state in a checkpoint.
        on_safe_point: Called with the content of a checkpoint wherever the run could be resumed, if set.
        clock: Measures the parts of a profiled run; set around the run, and kept by ``begin``.
        profile: The profile of the last measured run.
        batch_output: Called with the output and the target of each training batch that has them, if set.
        relay: Called with each custom event after its handlers; for a backend's own handlers.
    """

    def __init__(self) -> None:
        self._listeners: dict[Event | CustomEvent, tuple[Listener, ...]] = dict.fromkeys(_EVENTS, ())
        self._deciders: tuple[Listener, ...] = ()
        self.clock: Clock | None = None
        self.profile: Profile | None = None
        self.begin()

    def begin(self, epoch_length: int | None = None, *, validates: bool = False) -> None:
        """Start a new run: fresh counters, the same handlers."""
        self.state = RunState()
        self.context: Any = None
        self.epoch_metrics: dict[str, float] = {}
        self.measured_at: dict[str, int] = {}
        self.stop_reason: str | None = None
        self.within_epoch = False
        self.epoch_length = epoch_length
        self.validates = validates
        self.step_metrics: dict[str, Callable[[], float]] = {}
        self.trackers: Trackers | None = None
        self.batch_output: Callable[[Any, Any], None] | None = None
        self.pending_checkpoints: list[Path | InParts | CheckpointRequest] = []
        self.unfinished_save: UnfinishedSave | None = None
        self.files = Ledger()
        self.keepers: dict[str, Keeper] = {}
        self.last_checkpoint: Path | None = None
        self.on_safe_point: Callable[[dict[str, Any]], None] | None = None
        self._counts: dict[Event | CustomEvent, int] = dict.fromkeys(_EVENTS, 0)
        self.relay: Callable[[CustomEvent], None] | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Drop the run and its helpers: a copy has the counters and the handlers."""
        return {
            **self.__dict__,
            "context": None,
            "keepers": {},
            "trackers": None,
            "batch_output": None,
            "on_safe_point": None,
            "relay": None,
            "step_metrics": {},
            "pending_checkpoints": [],
            "unfinished_save": None,
        }

    def on(self, event: Event | CustomEvent | Trigger | Triggers, handler: Handler) -> list[Listener]:
        """Call ``handler`` at each occurrence of ``event``; return the registrations, for ``remove``.

        Args:
            event: The event, with or without a filter.
            handler: A function of the run, or without arguments.
        """
        call = _bind(handler)
        made = []
        for trigger in Triggers.of(event):
            listener = Listener(handler, call, trigger.accepts)
            self._listeners[trigger.event] = (*self._listeners.get(trigger.event, ()), listener)
            made.append(listener)
        return made

    def on_decision(self, handler: Handler) -> list[Listener]:
        """Call ``handler`` at the very end of each epoch, after all other handlers and schedules."""
        listener = Listener(handler, _bind(handler), None)
        self._deciders += (listener,)
        return [listener]

    def remove(self, registrations: Iterable[Listener]) -> None:
        """Remove exactly these registrations."""
        gone = {id(one) for one in registrations}
        self._deciders = tuple(one for one in self._deciders if id(one) not in gone)
        for event, listeners in self._listeners.items():
            if not gone.isdisjoint(map(id, listeners)):
                self._listeners[event] = tuple(one for one in listeners if id(one) not in gone)

    def decide(self) -> None:
        """End an epoch, after the handlers of EPOCH_END and the schedules that wait for a metric: stop, or save?"""
        self._call(self._deciders, self.state.epoch + 1)

    def off(self, handler: Handler) -> None:
        """Remove all registrations of ``handler``."""
        self._deciders = tuple(one for one in self._deciders if one.handler != handler)
        for event, listeners in self._listeners.items():
            self._listeners[event] = tuple(one for one in listeners if one.handler != handler)

    @property
    def awaits_validation(self) -> bool:
        """Whether there will be a validation but none has run yet."""
        return self.validates and not self._counts[Event.VAL_END]

    def registered(self) -> list[tuple[Trigger, Handler]]:
        """Return the arguments given to ``on``, for another hub, in order per event."""
        return [(Trigger(event, one.accepts), one.handler) for event, some in self._listeners.items() for one in some]

    @property
    def handlers(self) -> list[Handler]:
        """The registered handlers of events."""
        return [listener.handler for listeners in self._listeners.values() for listener in listeners]

    def fire(self, event: Event) -> None:
        """Count one occurrence of ``event`` and call its handlers.

        Raises:
            RuntimeError: If a handler raises StopIteration, which both backends would take for the end of an epoch.
        """
        counts = self._counts
        counts[event] += 1
        if event in _RESTARTS:
            for restarted in _RESTARTS[event]:
                counts[restarted] = 0
        listeners = self._listeners[event]
        if listeners:
            self._call(listeners, counts[event])

    def fire_custom(self, event: CustomEvent) -> None:
        """Count one occurrence of a custom event and call its handlers."""
        count = self._counts[event] = self._counts.get(event, 0) + 1
        listeners = self._listeners.get(event)
        if listeners:
            self._call(listeners, count)
        if self.relay is not None:
            self.relay(event)

    def _call(self, listeners: tuple[Listener, ...], count: int) -> None:
        context = self.context
        clock = self.clock
        if context is None:
            raise RuntimeError("an event was fired before the adapter set hub.context")
        try:
            for listener in listeners:
                if listener.accepts is None or listener.accepts(context, count):
                    if clock is None:
                        listener.call(context)
                    else:
                        clock.handle(listener.handler, listener.call, context)
        except StopIteration as error:
            raise RuntimeError("a handler raised StopIteration, which would silently end the epoch") from error

    def publish(self, metrics: dict[str, float], tables: Mapping[str, Table] | None = None) -> None:
        """Publish values by full name to handlers, the history and the result.

        Args:
            metrics: The numbers.
            tables: Non-scalar values, of which trackers get figures.
        """
        self.state.metrics.update(metrics)
        self.epoch_metrics.update(metrics)
        self.measured_at.update(dict.fromkeys(metrics, self.state.step))
        for name, table in (tables or {}).items():
            self.state.tensors.update(table.by_name(name))
            if self.trackers is not None:
                self.trackers.log_table(name, table)

    def finish_save(self) -> None:
        """Wait for the files that a thread writes, and announce them."""
        if self.unfinished_save is not None:
            self.unfinished_save.finish()

    def state_dict(self) -> dict[str, Any]:
        """Return the counters and values, for a checkpoint."""
        state = self.state
        return {
            "epoch": state.epoch,
            "step": state.step,
            "batch": state.batch,
            "metrics": dict(state.metrics),
            "epoch_metrics": dict(self.epoch_metrics),
            "files": self.files.state_dict(),
            **({"tensors": dict(state.tensors)} if state.tensors else {}),
            "counts": {event.value: count for event, count in self._counts.items() if count},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state returned by ``state_dict``."""
        self.state = RunState(state["epoch"], state["step"], state["batch"], metrics=dict(state["metrics"]))
        self.state.tensors = dict(state.get("tensors", {}))
        self.epoch_metrics = dict(state["epoch_metrics"])
        self.files.load_state_dict(state.get("files", {}))
        self.files.resumed_at = state["batch"]
        self._counts.update({_event(name): count for name, count in state["counts"].items()})
        self._counts[Event.FIT_START] = 0

    def occurred(self, event: Event | CustomEvent) -> int:
        """Return the number of occurrences of ``event`` in this run."""
        return self._counts.get(event, 0)

    def misspelt(self) -> list[tuple[CustomEvent, CustomEvent]]:
        """Return events with handlers that never fired, each with a fired event of similar name without handlers."""
        custom = {one for one in (*self._listeners, *self._counts) if isinstance(one, CustomEvent)}
        unheard = {one for one in custom if self._counts.get(one) and not self._listeners.get(one)}
        waiting = sorted(one for one in custom if self._listeners.get(one) and not self._counts.get(one))
        near = ((one, nearest(one, unheard)) for one in waiting)
        return [(one, CustomEvent(name)) for one, name in near if name is not None]

    def request_stop(self, reason: str) -> None:
        """Request a stop after the current batch; the first reason is kept."""
        if self.stop_reason is None:
            self.stop_reason = reason


def _event(name: str) -> Event | CustomEvent:
    return Event(name) if name in _EVENTS else CustomEvent(name)


def _listener(handler: Handler, accepts: EventFilter | None) -> Listener:
    return Listener(handler, _bind(handler), accepts)


_NOT_RUN_BY_A_CALL = (inspect.iscoroutinefunction, inspect.isgeneratorfunction, inspect.isasyncgenfunction)


def _bind(handler: Handler) -> Callable[[Any], object]:
    """Return ``handler`` as a function of the run, whether it takes an argument or not."""
    if not callable(handler) or any(kind(handler) for kind in _NOT_RUN_BY_A_CALL):
        raise SpecError(
            f"an event handler must be a plain function, got {handler!r}.",
            hint="def handler(run): ...; without async and yield, which only create an object that is never run.",
        )
    try:
        signature = inspect.signature(handler)
    except ValueError:  # some builtins have none
        return handler  # type: ignore[return-value]
    takes_any = any(one.kind is one.VAR_POSITIONAL for one in signature.parameters.values())
    # Defaults count as no argument: in `lambda name=name: ...` they are bound values, not a place for the run.
    if binds(signature) and not takes_any:
        return lambda _: handler()  # type: ignore[call-arg]
    if binds(signature, None):
        return handler  # type: ignore[return-value]
    raise SpecError(
        f"the event handler {handler!r} must take the run context or nothing; its signature is {signature}.",
        hint="bind further arguments with functools.partial.",
    )
