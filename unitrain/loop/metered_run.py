"""Shared by training and evaluation: the run context that logs to a meter."""

from __future__ import annotations

from typing import TYPE_CHECKING

from unitrain.errors import SpecError
from unitrain.metrics.metric import LOSS, as_float32, as_number
from unitrain.run.context import RunContext

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from unitrain.distributed.strategies.fsdp import Sharded
    from unitrain.loop.meter import StageMeter
    from unitrain.loop.precision import Context


class MeteredRun(RunContext):
    """A run whose logged values go to the meter of the running stage.

    Attributes:
        meter: The meter of the running stage.
        weight: Size of the current batch; None between batches.
        context: Creates the context of a forward pass, or None.
        sharded: The sharded model, if each process has a part of it.
    """

    meter: StageMeter
    weight: int | None = None
    context: Context = None
    sharded: Sharded | None = None

    def log(self, name: str, value: Tensor | float) -> None:
        """Log a value: into the epoch's mean within a batch, immediately elsewhere."""
        if self.weight is None:
            self.hub.publish({self.name_of(self.meter.prefix, name): float(as_number(name, value))})
        else:
            self.meter.log(name, value, self.weight)

    def agree(self) -> None:
        """Do nothing: a separate evaluation cannot be stopped."""

    def batch_values(self) -> dict[str, float]:
        """Read the loss and the logged values of the running training batch from the device."""
        loss = {} if self.state.loss is None else {f"train/{LOSS}": as_float32(self.state.loss)}
        return {**loss, **self.meter.batch_values()}

    def logged_values(self) -> Mapping[str, Tensor | float]:
        """Return the values that the running training batch has logged, by their names without the stage."""
        return self.meter.logged

    def backward(self, loss: Tensor) -> None:  # noqa: ARG002 - refused as a whole
        """Refuse: there is nothing to train."""
        raise not_manual("backward")

    def step(self, name: str | None = None) -> None:  # noqa: ARG002 - refused as a whole
        """Refuse: there is nothing to train."""
        raise not_manual("step")


def not_manual(method: str) -> SpecError:
    """Return the error for ``run.backward`` or ``run.step`` without manual optimization."""
    return SpecError(
        f"run.{method}() belongs to manual optimization.",
        hint="TrainSpec(automatic_optimization=False, training_step=...)",
    )
