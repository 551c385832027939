"""The callback base class and its subscription to events."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from unitrain.compat.other_names import event_for
from unitrain.errors import SpecError, did_you_mean
from unitrain.run.hub import CustomEvent, Event
from unitrain.utilities.signature import Shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from torch.nn import Module
    from torch.optim import Optimizer

    from unitrain.config import TrainerConfig
    from unitrain.run.context import RunContext
    from unitrain.run.hub import EventHub, Listener, Trigger, Triggers
    from unitrain.spec import TrainSpec


Moment: TypeAlias = "Event | CustomEvent | Trigger | Triggers"
"""The events that a handler can be registered for."""


class Callback(Shown):
    """The base class of callbacks. Override the handlers you need; only those are called.

    Each method is named after its Event and receives the run. A method ``on_<name>`` handles the CustomEvent of that
    name.

    Attributes:
        state_key: Name of its state in a checkpoint; if empty, the name of its class.
        leaves_unused: Whether it may leave trained parameters without a gradient, so that DDP must look for unused
            ones.

    Example:
        >>> class PrintLoss(Callback):
        ...     def on_epoch_end(self, run):
        ...         print(f"epoch {run.state.epoch}: {run.state.metrics['train/loss']:.0f}")
        >>> trainer = UnifiedTrainer("reference", max_epochs=2, enable_progress_bar=False, callbacks=[PrintLoss()])
        >>> _ = trainer.fit(spec, batches)
        epoch 0: 2
        epoch 1: 2
    """

    state_key = ""
    leaves_unused = False

    def on_fit_start(self, run: RunContext) -> None:
        """Handle Event.FIT_START."""

    def on_epoch_start(self, run: RunContext) -> None:
        """Handle Event.EPOCH_START."""

    def on_batch_start(self, run: RunContext) -> None:
        """Handle Event.BATCH_START."""

    def on_backward_end(self, run: RunContext) -> None:
        """Handle Event.BACKWARD_END."""

    def on_optimizer_step(self, run: RunContext) -> None:
        """Handle Event.OPTIMIZER_STEP."""

    def on_batch_end(self, run: RunContext) -> None:
        """Handle Event.BATCH_END."""

    def on_val_start(self, run: RunContext) -> None:
        """Handle Event.VAL_START."""

    def on_val_batch_start(self, run: RunContext) -> None:
        """Handle Event.VAL_BATCH_START."""

    def on_val_batch_end(self, run: RunContext) -> None:
        """Handle Event.VAL_BATCH_END."""

    def on_val_end(self, run: RunContext) -> None:
        """Handle Event.VAL_END."""

    def on_epoch_end(self, run: RunContext) -> None:
        """Handle Event.EPOCH_END."""

    def on_checkpoint_saved(self, run: RunContext) -> None:
        """Handle Event.CHECKPOINT_SAVED."""

    def on_exception(self, run: RunContext) -> None:
        """Handle Event.EXCEPTION; ``run.exception`` is the error."""

    def on_fit_end(self, run: RunContext) -> None:
        """Handle Event.FIT_END."""

    def on_test_start(self, run: RunContext) -> None:
        """Handle Event.TEST_START."""

    def on_test_batch_start(self, run: RunContext) -> None:
        """Handle Event.TEST_BATCH_START."""

    def on_test_batch_end(self, run: RunContext) -> None:
        """Handle Event.TEST_BATCH_END."""

    def on_test_end(self, run: RunContext) -> None:
        """Handle Event.TEST_END."""

    def on_predict_start(self, run: RunContext) -> None:
        """Handle Event.PREDICT_START."""

    def on_predict_batch_start(self, run: RunContext) -> None:
        """Handle Event.PREDICT_BATCH_START."""

    def on_predict_batch_end(self, run: RunContext) -> None:
        """Handle Event.PREDICT_BATCH_END."""

    def on_predict_end(self, run: RunContext) -> None:
        """Handle Event.PREDICT_END."""

    def extra_handlers(
        self,
    ) -> Iterable[tuple[Event | CustomEvent | Trigger | Triggers, Callable[[RunContext], Any]]]:
        """Return further handlers, for events known only when the callback is created."""
        return ()

    def reset_state(self) -> None:
        """Forget earlier runs: called when a fit begins, before a checkpoint's state is loaded."""

    def state_dict(self) -> dict[str, Any]:
        """Return the state that a checkpoint must keep."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state returned by ``state_dict``."""


class EpochDecision(Callback):
    """A callback that uses the epoch's metrics to decide whether to stop or to save.

    It is called last: after the handlers of EPOCH_END, which may log its metric, and after schedules with a monitor, so
    that a saved checkpoint is the state in which the next epoch starts.
    """

    def decide(self, run: RunContext) -> None:
        """Decide, at the very end of an epoch."""
        raise NotImplementedError

    def asked(self) -> str | None:
        """Return the reason of its request to stop that also holds in a resumed run, if it has made one."""
        return None


class Preparer(Callback):
    """A callback that checks a fit, and may change its optimizers, before anything else uses them.

    Attributes:
        arranges: Whether it changes the optimizers' groups; such callbacks come first.
    """

    arranges = False

    def prepare(self, spec: TrainSpec, config: TrainerConfig, optimizers: Mapping[str, Optimizer]) -> None:
        """Refuse an invalid fit; called before schedules are created and a checkpoint is loaded.

        Args:
            spec: The spec of the fit.
            config: The trainer's options.
            optimizers: The optimizers by name; their groups may be changed.
        """
        raise NotImplementedError

    def resume_ended(self, model: Module, *, midway: bool) -> bool:  # noqa: ARG002 - for those who override it
        """Return whether the end of a resumed run without remaining steps is still to come.

        Args:
            model: The trained model.
            midway: Whether the checkpoint was written within the last epoch.

        Raises:
            CheckpointError: If the end is still to come, and cannot be run.
        """
        return False


def prepare(
    callbacks: Iterable[Any], spec: TrainSpec, config: TrainerConfig, optimizers: Mapping[str, Optimizer]
) -> None:
    """Call ``prepare`` of all callbacks that have it; arguments as in ``Preparer``."""
    preparers = [one for one in callbacks if isinstance(one, Preparer)]
    for callback in sorted(preparers, key=lambda one: not one.arranges):
        callback.prepare(spec, config, optimizers)


_HANDLERS = {f"on_{event}": event for event in Event}


def register(hub: EventHub, callback: Callback) -> list[Listener]:
    """Make ``callback`` listen to ``hub``, and return its registrations, for ``hub.remove``.

    Raises:
        SpecError: If it has a method ``on_...`` without an event of that name.
    """
    custom = _custom(callback)
    found: list[Listener] = []
    for name, event in _HANDLERS.items():
        if getattr(type(callback), name) is not getattr(Callback, name):
            found += hub.on(event, getattr(callback, name))
    for name, event_of_user in custom.items():
        found += hub.on(event_of_user, getattr(callback, name))
    for triggers, handler in callback.extra_handlers():
        found += hub.on(triggers, handler)
    if isinstance(callback, EpochDecision):
        found += hub.on_decision(callback.decide)
    return found


def _custom(callback: Callback) -> dict[str, CustomEvent]:
    """Return the custom events that ``callback`` has methods for, by method.

    Raises:
        SpecError: If there is no event for a method ``on_...``.
    """
    found: dict[str, CustomEvent] = {}
    for name in dir(callback):
        if not name.startswith("on_") or name in _HANDLERS or not callable(getattr(callback, name)):
            continue
        event = CustomEvent.named(name.removeprefix("on_"))
        if event is None:
            ours = event_for(name)
            near = did_you_mean(name, [*_HANDLERS, *(f"on_{one}" for one in CustomEvent.declared())])
            raise SpecError(
                f"{type(callback).__name__}.{name} does not match any event and would never be called.",
                hint=near if ours is None else f"def on_{ours.lower()}(self, run).",
            )
        found[name] = event
    return found


def named(callbacks: Iterable[Callback]) -> dict[str, Callback]:
    """Return ``callbacks`` by the name of their state in a checkpoint; the second of a name is ``Name#2``."""
    found: dict[str, Callback] = {}
    for callback in callbacks:
        name, number = callback.state_key or type(callback).__name__, 1
        while (key := name if number == 1 else f"{name}#{number}") in found:
            number += 1
        found[key] = callback
    return found
