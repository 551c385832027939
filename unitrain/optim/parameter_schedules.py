"""Adapts Ignite's parameter schedulers to torch's scheduler interface."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from torch.optim.lr_scheduler import LRScheduler

from unitrain.errors import SpecError

if TYPE_CHECKING:
    from torch.optim import Optimizer


@runtime_checkable
class ParameterScheduler(Protocol):
    """The interface of ``ignite.handlers.param_scheduler``: a call sets the value of the next step."""

    save_history: bool

    def __call__(self, engine: None) -> None:
        """Set the value, and count."""

    def state_dict(self) -> dict[str, Any]:
        """Return the state."""

    def load_state_dict(self, state: Any) -> None:
        """Restore what ``state_dict`` returned."""


class CalledSchedule(LRScheduler):
    """A ParameterScheduler with the interface of torch's schedulers: the first value is set on creation.

    torch's constructor is not run: it would wrap the optimizer's ``step`` and set its own rates.

    Args:
        optimizer: The optimizer.
        called: The Ignite scheduler.

    Raises:
        SpecError: If it needs an engine.
    """

    def __init__(self, optimizer: Optimizer, called: ParameterScheduler) -> None:
        name = type(called).__name__
        if called.save_history:
            raise SpecError(
                f"{name}(save_history=True) writes to the state of an Ignite engine, and a TrainSpec has none.",
                hint="remove save_history and use callbacks=[LRMonitor()].",
            )
        self.optimizer = optimizer
        self.called = called
        self.last_epoch = 0
        try:
            called(None)
        except AttributeError as error:
            raise SpecError(
                f"{name} cannot step without an Ignite engine: {error}.",
                hint='for a metric: LRSchedule(partial(ReduceLROnPlateau, ...), monitor="val/loss").',
            ) from error

    def step(self, epoch: int | None = None) -> None:  # noqa: ARG002 - torch's signature
        """Set the next value."""
        self.called(None)
        self.last_epoch += 1

    def get_last_lr(self) -> list[Any]:
        """Return the learning rates of all groups."""
        return [group["lr"] for group in self.optimizer.param_groups]

    def state_dict(self) -> dict[str, Any]:
        """Return the scheduler's state."""
        return {"last_epoch": self.last_epoch, "called": self.called.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what ``state_dict`` returned."""
        self.last_epoch = state_dict["last_epoch"]
        self.called.load_state_dict(state_dict["called"])
