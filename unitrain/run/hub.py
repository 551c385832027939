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
    from unitrain.utilities.profiling import Clock, Profile

__all__ = [
    "CustomEvent",
    "Event",
    "EventHub",
    "Handler",
    "InParts",
    "Listener",
    "RunState",
    "Trigger",
    "Triggers",
]

Handler: TypeAlias = "Callable[[Any], object] | Callable[[], object]"
"""Takes the ``RunContext``, or nothing. It is typed Any because ``unitrain.run.context`` imports the hub."""

_EVENTS = tuple(Event)


class InParts(NamedTuple):
    """A checkpoint that is asked for as a folder, into which each process writes what it holds."""

    path: Path


@dataclass(frozen=True)
class CheckpointRequest:
    """A checkpoint that a callback asks for, without its final name: rank 0 finds a free one when it is written.

    Attributes:
        owner: The name of the callback among the run's ``keepers``.
        name: The name of the file, which others may have taken.
        ranked: Whether it is kept for its value, among the best.
        value: Its value, as rank 0 has it.
        sharded: Whether it is a folder, into which each process writes what it holds.
    """

    owner: str
    name: str
    ranked: bool = False
    value: float = field(default=0.0, compare=False)
    sharded: bool = False


class Keeper(Protocol):
    """A callback that requests checkpoints and manages the files itself."""

    def take(self, wanted: CheckpointRequest, run: Any) -> Path | None:
        """Return where to write, on rank 0; None if it is not wanted any more."""

    def state_dict(self) -> dict[str, Any]:
        """Return what it keeps, for the other processes."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Keep what rank 0 keeps."""


class Trackers(Protocol):
    """All trackers of a run at once."""

    def log_metrics(self, metrics: Mapping[str, float]) -> None:
        """Send numbers, at the step where the run is."""

    def log_hyperparams(self, params: Mapping[str, Any]) -> None:
        """Send hyper-parameters."""

    def log_figure(self, name: str, figure: Any) -> None:
        """Send a figure, at the step where the run is."""

    def log_table(self, name: str, table: Table) -> None:
        """Draw a matrix or a curve, and send the figure."""


@dataclass(slots=True)
class RunState:
    """Where a run is.

    Attributes:
        epoch: The running epoch, from 0.
        step: Optimizer steps made; one for a training step in which any optimizer stepped.
        batch: Training batches finished since the run's start.
        loss: The last training loss, a detached 0-dimensional tensor; it is not divided under accumulation.
        metrics: The newest value of everything that was measured or logged, by name (``"val/loss"``).
        tensors: The newest matrices and curves that were measured, on the CPU (``"val/confusion"``, ``"val/roc_fpr"``).

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
    """One registration of a handler."""

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
        context: What handlers get as ``run``; set by the adapter before the first event.
        epoch_metrics: What was published since the last EPOCH_START.
        measured_at: After which optimizer step each value was published last, in this process.
        stop_reason: Why the run was asked to stop, or None.
        epoch_length: Training batches of an epoch, or None if unknown.
        validates: Whether the fit has validation data.
        step_metrics: Further values that trackers read when they write the row of a step, by name.
        trackers: Takes rows, figures and hyper-parameters for all trackers while a run is tracked; else None.
        pending_checkpoints: Checkpoints that were asked for and wait for the end of the batch, or of the epoch.
        last_checkpoint: The newest checkpoint that was written.
        files: What the run has written.
        keepers: The callbacks that ask for checkpoints, by the name under which a checkpoint keeps them.
        on_safe_point: Told the content of a checkpoint wherever a run can be resumed from, if anybody wants it.
        clock: Measures the parts of the run, if they are to be measured; set around the run, and kept by ``begin``.
        profile: What the last run that was measured took.
        relay: Told each event that a user fires, after its handlers; for a backend's own handlers.
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
        self.epoch_length = epoch_length
        self.validates = validates
        self.step_metrics: dict[str, Callable[[], float]] = {}
        self.trackers: Trackers | None = None
        self.pending_checkpoints: list[Path | InParts | CheckpointRequest] = []
        self.files = Ledger()
        self.keepers: dict[str, Keeper] = {}
        self.last_checkpoint: Path | None = None
        self.on_safe_point: Callable[[dict[str, Any]], None] | None = None
        self._counts: dict[Event | CustomEvent, int] = dict.fromkeys(_EVENTS, 0)
        self.relay: Callable[[CustomEvent], None] | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the run itself, and whoever serves it: a copy has the counters and the handlers."""
        return {
            **self.__dict__,
            "context": None,
            "keepers": {},
            "trackers": None,
            "on_safe_point": None,
            "relay": None,
            "step_metrics": {},
            "pending_checkpoints": [],
        }

    def on(self, event: Event | CustomEvent | Trigger | Triggers, handler: Handler) -> list[Listener]:
        """Call ``handler`` at each occurrence of ``event``, and return the registrations, for ``remove``.

        Args:
            event: What to wait for.
            handler: Takes the run, or nothing.
        """
        call = _bind(handler)
        made = []
        for trigger in Triggers.of(event):
            listener = Listener(handler, call, trigger.accepts)
            self._listeners[trigger.event] = (*self._listeners.get(trigger.event, ()), listener)
            made.append(listener)
        return made

    def on_decision(self, handler: Handler) -> list[Listener]:
        """Call ``handler`` at the very end of each epoch, when everything that it decides on is known."""
        listener = Listener(handler, _bind(handler), None)
        self._deciders += (listener,)
        return [listener]

    def remove(self, registrations: Iterable[Listener]) -> None:
        """Forget these registrations, and no equal ones."""
        gone = {id(one) for one in registrations}
        self._deciders = tuple(one for one in self._deciders if id(one) not in gone)
        for event, listeners in self._listeners.items():
            self._listeners[event] = tuple(one for one in listeners if id(one) not in gone)

    def decide(self) -> None:
        """End an epoch, after the handlers of EPOCH_END and the schedules that wait for a metric: stop, or save?"""
        self._call(self._deciders, self.state.epoch + 1)

    def off(self, handler: Handler) -> None:
        """Forget ``handler`` wherever it was registered."""
        self._deciders = tuple(one for one in self._deciders if one.handler != handler)
        for event, listeners in self._listeners.items():
            self._listeners[event] = tuple(one for one in listeners if one.handler != handler)

    @property
    def awaits_validation(self) -> bool:
        """Whether there will be a validation and none has run yet."""
        return self.validates and not self._counts[Event.VAL_END]

    def registered(self) -> list[tuple[Trigger, Handler]]:
        """Return what was given to ``on``, to be given to another hub; those of one event keep their order."""
        return [(Trigger(event, one.accepts), one.handler) for event, some in self._listeners.items() for one in some]

    @property
    def handlers(self) -> list[Handler]:
        """The registered handlers of events."""
        return [listener.handler for listeners in self._listeners.values() for listener in listeners]

    def fire(self, event: Event) -> None:
        """Count one occurrence of ``event`` and call those who wait for it.

        Raises:
            RuntimeError: If a handler lets a StopIteration out; both backends would take it for the end of an epoch.
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
        """Count one occurrence of an event that a user fires, and call those who wait for it."""
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
        """Make values known under their full names: to handlers, to the history and to the result.

        Args:
            metrics: The numbers.
            tables: What is not one number; trackers get figures of it.
        """
        self.state.metrics.update(metrics)
        self.epoch_metrics.update(metrics)
        self.measured_at.update(dict.fromkeys(metrics, self.state.step))
        for name, table in (tables or {}).items():
            self.state.tensors.update(table.by_name(name))
            if self.trackers is not None:
                self.trackers.log_table(name, table)

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
        """Return how often ``event`` has occurred in this run."""
        return self._counts.get(event, 0)

    def misspelt(self) -> list[tuple[CustomEvent, CustomEvent]]:
        """Return the events that handlers wait for in vain, each with a fired one of like name that nobody hears."""
        custom = {one for one in (*self._listeners, *self._counts) if isinstance(one, CustomEvent)}
        unheard = {one for one in custom if self._counts.get(one) and not self._listeners.get(one)}
        waiting = sorted(one for one in custom if self._listeners.get(one) and not self._counts.get(one))
        near = ((one, nearest(one, unheard)) for one in waiting)
        return [(one, CustomEvent(name)) for one, name in near if name is not None]

    def request_stop(self, reason: str) -> None:
        """Ask the run to stop after the batch that is running; the first reason is kept."""
        if self.stop_reason is None:
            self.stop_reason = reason


def _event(name: str) -> Event | CustomEvent:
    return Event(name) if name in _EVENTS else CustomEvent(name)


def _listener(handler: Handler, accepts: EventFilter | None) -> Listener:
    return Listener(handler, _bind(handler), accepts)


_NOT_RUN_BY_A_CALL = (inspect.iscoroutinefunction, inspect.isgeneratorfunction, inspect.isasyncgenfunction)


def _bind(handler: Handler) -> Callable[[Any], object]:
    """Return ``handler`` as a function of the run, whether it takes one argument or none."""
    if not callable(handler) or any(kind(handler) for kind in _NOT_RUN_BY_A_CALL):
        raise SpecError(
            f"an event handler must be a plain function, got {handler!r}.",
            hint="def handler(run): ...; without async and yield, which only make an object that nobody runs.",
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
