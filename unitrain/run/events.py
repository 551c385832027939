"""Events, and triggers that filter their occurrences."""

from __future__ import annotations

import re
from enum import EnumType, StrEnum
from keyword import iskeyword
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Never, Self

from unitrain.compat.other_names import event_for
from unitrain.errors import SpecError, did_you_mean, refuse_unknown
from unitrain.run.filters import predicate

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from unitrain.run.filters import EventFilter

_FILTERS = ("every", "once", "before", "after", "event_filter")


class _Filtered:
    """The shared base of Event and CustomEvent."""

    __slots__ = ()

    @property
    def _shown(self) -> str:
        raise NotImplementedError

    def __call__(
        self,
        *,
        every: int | None = None,
        once: int | Sequence[int] | None = None,
        before: int | None = None,
        after: int | None = None,
        event_filter: EventFilter | None = None,
        **unknown: Never,
    ) -> Trigger:
        """Return this event restricted to some of its occurrences.

        Args:
            every: Every n-th occurrence; can be combined with ``before`` and ``after``.
            once: The n-th occurrence only, or a list of occurrences.
            before: Occurrences with a lower count than this.
            after: Occurrences with a higher count than this.
            event_filter: ``(run, count) -> bool``; cannot be combined with other filters.
            **unknown: Always raises; the error suggests the intended name.

        Raises:
            SpecError: If nothing is given, a number is below 1, or exclusive filters are mixed.
        """
        refuse_unknown(unknown, _FILTERS, f"{self._shown}()", SpecError)
        event: Any = self
        return Trigger(event, predicate(every, once, before, after, event_filter))

    def __or__(self, other: Event | CustomEvent | Trigger | Triggers) -> Triggers:
        """Return the union of two events."""
        event: Any = self
        return Triggers.of(event) | other


class _Named(EnumType):
    """Suggests the nearest name for an unknown attribute."""

    if not TYPE_CHECKING:  # a type checker knows the members

        def __getattr__(cls, name: str) -> Any:
            if name.startswith("_"):
                return super().__getattr__(name)
            near = did_you_mean(name.upper(), cls.__members__)
            ours = event_for(name)
            raise AttributeError(f"Event has no member {name!r}.\nHint: {near if ours is None else f'Event.{ours}'}")


class Event(_Filtered, StrEnum, metaclass=_Named):
    """An event of a run. Call it to filter its occurrences; join two with ``|``.

    Counting starts from 1, as in Ignite: ``Event.EPOCH_END(once=3)`` is the epoch with index 2. Training events are
    counted over the whole run; the counts of evaluation batches restart with each evaluation.

    Example:
        >>> trainer = UnifiedTrainer("reference", max_epochs=4, enable_progress_bar=False)
        >>> @trainer.on(Event.EPOCH_END(every=2) | Event.FIT_END)
        ... def report(run):
        ...     print(run.state.epoch)
        >>> _ = trainer.fit(spec, batches)
        1
        3
        3
    """

    FIT_START = "fit_start"
    EPOCH_START = "epoch_start"
    BATCH_START = "batch_start"
    BACKWARD_END = "backward_end"
    OPTIMIZER_STEP = "optimizer_step"
    BATCH_END = "batch_end"
    VAL_START = "val_start"
    VAL_BATCH_START = "val_batch_start"
    VAL_BATCH_END = "val_batch_end"
    VAL_END = "val_end"
    EPOCH_END = "epoch_end"
    CHECKPOINT_SAVED = "checkpoint_saved"
    EXCEPTION = "exception"
    FIT_END = "fit_end"
    TEST_START = "test_start"
    TEST_BATCH_START = "test_batch_start"
    TEST_BATCH_END = "test_batch_end"
    TEST_END = "test_end"
    PREDICT_START = "predict_start"
    PREDICT_BATCH_START = "predict_batch_start"
    PREDICT_BATCH_END = "predict_batch_end"
    PREDICT_END = "predict_end"

    __hash__ = str.__hash__  # as it compares; an Enum's own is a Python call, and a step looks some 16 of them up

    @property
    def _shown(self) -> str:
        return f"Event.{self.name}"


class CustomEvent(_Filtered, str):
    """A user-defined event, fired by ``run.fire(event)`` or ``trainer.fire(event)``.

    It can be filtered and joined like an ``Event``; it is counted over the whole run, and a checkpoint stores the
    count. A Callback handles it in a method ``on_<name>``. Two events with the same name are the same event.

    Args:
        name: A lower-case Python identifier that is not the name of an ``Event``.

    Raises:
        SpecError: If the name is invalid.

    Example:
        >>> DRIFTED = CustomEvent("drifted")
        >>> DRIFTED(every=2).event.name
        'drifted'
    """

    __slots__ = ()
    _declared: ClassVar[dict[str, Any]] = {}
    __hash__ = str.__hash__

    def __new__(cls, name: str) -> Self:
        """Return the event of that name."""
        if not isinstance(name, str) or not name.isidentifier() or name != name.lower() or iskeyword(name):
            raise SpecError(
                f"CustomEvent() takes a name in lower case, of letters, digits and _; got {name!r}.",
                hint=_proper(name),
            )
        if name in tuple(Event):
            raise SpecError(
                f"CustomEvent({name!r}): Event.{name.upper()}, a built-in event, has that name.",
                hint="choose another name.",
            )
        event: Self = cls._declared.setdefault(name, super().__new__(cls, name))
        return event

    def __reduce__(self) -> tuple[type[CustomEvent], tuple[str]]:
        """Be the event of that name in another process too."""
        return CustomEvent, (str(self),)

    @property
    def _shown(self) -> str:
        return repr(self)

    def __repr__(self) -> str:
        """Return how it was made."""
        return f"CustomEvent({str(self)!r})"

    @classmethod
    def named(cls, name: str) -> CustomEvent | None:
        """Return the event of that name, if there is one."""
        return cls._declared.get(name)

    @classmethod
    def declared(cls) -> tuple[str, ...]:
        """Return the names of all that were made."""
        return tuple(cls._declared)

    @property
    def name(self) -> str:
        """The name."""
        return str(self)

    value = name


def _proper(name: object) -> str:
    """Return how to spell ``name`` as a CustomEvent, or an example."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name) if isinstance(name, str) else ""
    proper = re.sub(r"\W+", "_", words).strip("_").lower()
    if proper in tuple(Event):
        return f"Event.{proper.upper()}, a built-in event."
    good = proper.isidentifier() and not iskeyword(proper)
    return f'CustomEvent("{proper if good else "drifted"}")'


def require_custom(event: object) -> CustomEvent:
    """Return ``event`` if a user may fire it.

    Raises:
        SpecError: If it is not a CustomEvent.
    """
    if isinstance(event, CustomEvent):
        return event
    if isinstance(event, Event):
        raise SpecError(
            f"fire() got the built-in Event.{event.name}; it takes a CustomEvent.", hint='fire(CustomEvent("drifted"))'
        )
    near = did_you_mean(str(event), CustomEvent.declared())
    raise SpecError(
        f"fire() takes a CustomEvent; got {event!r}.",
        hint=f'MINE = CustomEvent("mine"); of the existing ones, {near}',
    )


class Trigger(NamedTuple):
    """An event and the rule that says which of its occurrences count (None: all)."""

    event: Event | CustomEvent
    accepts: EventFilter | None = None

    def __or__(self, other: Event | CustomEvent | Trigger | Triggers) -> Triggers:
        return Triggers.of(self) | other


class Triggers(tuple[Trigger, ...]):
    """Several triggers with one handler."""

    __slots__ = ()

    @classmethod
    def of(cls, event: Event | CustomEvent | Trigger | Triggers) -> Triggers:
        """Return ``event`` in its general form.

        Raises:
            SpecError: If it is none of the three kinds.
        """
        if isinstance(event, Triggers):
            return event
        if isinstance(event, (Event, CustomEvent)):
            return cls((Trigger(event),))
        if isinstance(event, Trigger):
            return cls((event,))
        raise SpecError(
            f"on() got {event!r}, a {type(event).__name__}; it takes an event, a filtered one, or several joined by |.",
            hint=f"trainer.on(Event.{event_for(getattr(event, 'name', event)) or 'EPOCH_END(every=2)'}, handler)",
        )

    def __or__(self, other: Event | CustomEvent | Trigger | Triggers) -> Triggers:
        return Triggers((*self, *Triggers.of(other)))


WHEN: Mapping[Event, str] = {
    Event.FIT_START: "A fit starts.",
    Event.EPOCH_START: "An epoch starts; not fired for an epoch that a resumed run finishes.",
    Event.BATCH_START: "A training batch is on the device; the model has not been called.",
    Event.BACKWARD_END: "The gradients of a batch are computed, not yet clipped.",
    Event.OPTIMIZER_STEP: "An optimizer has stepped.",
    Event.BATCH_END: "A training batch is done, including its step and metrics.",
    Event.VAL_START: "A validation starts.",
    Event.VAL_BATCH_START: "A validation batch is on the device.",
    Event.VAL_BATCH_END: "A validation batch is done.",
    Event.VAL_END: "A validation has ended, and its metrics are available.",
    Event.EPOCH_END: "An epoch has ended, including its validation; EarlyStopping and ModelCheckpoint decide after it.",
    Event.CHECKPOINT_SAVED: "A checkpoint was written.",
    Event.EXCEPTION: "The run fails; the error is in `run.exception` and is raised afterwards.",
    Event.FIT_END: "A fit ends without error.",
    Event.TEST_START: "`test()` begins.",
    Event.TEST_BATCH_START: "A test batch is on the device.",
    Event.TEST_BATCH_END: "A test batch is done.",
    Event.TEST_END: "`test()` has ended, and its metrics are available.",
    Event.PREDICT_START: "`predict()` begins.",
    Event.PREDICT_BATCH_START: "A batch to predict is on the device.",
    Event.PREDICT_BATCH_END: "A batch has been predicted.",
    Event.PREDICT_END: "`predict()` has ended.",
}
"""When each event fires, for the documentation."""
