"""The metrics of one stage in an epoch."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from torch import Tensor

from unitrain.distributed.collectives import SINGLE_PROCESS
from unitrain.errors import SpecError
from unitrain.loop.misfits import check_metric, explain_metric
from unitrain.metrics.class_names import shape_of
from unitrain.metrics.metric import (
    LOSS,
    Mean,
    as_float32,
    as_number,
    clash,
    detached,
    full_name,
    reserved,
    stage_metric,
)
from unitrain.metrics.tables import Table, pieces

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    import torch

    from unitrain.distributed.collectives import Collectives
    from unitrain.metrics.metric import MetricLike


class StageMeter:
    """Everything one stage measures in an epoch, under its prefix: the loss, the logged values, the metrics.

    Attributes:
        prefix: Prefix of the names.
        loss: The mean of the loss.
        tables: Non-scalar values of the last ``compute``, by full name.
        on_output: Called with the detached output and the target of each batch, if set.

    Args:
        prefix: ``"train"``, ``"val"`` or ``"test"``.
        metrics: The spec's metrics by name; the meter works on copies.
        team: The processes whose values are combined.
    """

    def __init__(self, prefix: str, metrics: Mapping[str, MetricLike], team: Collectives = SINGLE_PROCESS) -> None:
        self.prefix = prefix
        self._metrics = {name: stage_metric(name, given) for name, given in metrics.items()}
        self._shapes = {name: shape_of(given) for name, given in metrics.items()}
        self.tables: dict[str, Table] = {}
        self._measured = list(self._metrics.values())
        self._reserved = reserved(prefix, metrics)
        self._team = team
        self.on_output: Callable[[Any, Any], None] | None = None
        self.loss = Mean()
        self._logged: dict[str, Mean] = {}
        self._batch: dict[str, Tensor | float] = {}
        self._updated = False

    def batch_start(self) -> None:
        """Clear the values logged in the previous batch."""
        self._batch.clear()

    @property
    def logged(self) -> Mapping[str, Tensor | float]:
        """The values logged in the current batch, unread, by their names without the prefix."""
        return self._batch

    def batch_values(self) -> dict[str, float]:
        """Return the values logged in the current batch, as they enter the means, by full name."""
        return {full_name(self.prefix, name): as_float32(value) for name, value in self._batch.items()}

    def reset(self, device: torch.device) -> None:
        """Start an epoch."""
        self.loss.reset()
        self._logged.clear()
        self._updated = False
        for measured in self._measured:
            measured.reset(device)

    def add_output(self, output: Any, target: Any, weight: int) -> None:
        """Add the output and target of a batch of ``weight`` samples."""
        if self.on_output is not None:
            self.on_output(detached(output), target)
        if self._measured:
            output = detached(output)
            if not self._updated:
                self._updated = True
                for name, measured in self._metrics.items():
                    check_metric(name, measured.given, (output, target))
            for measured in self._measured:
                try:
                    measured.update(output, target, weight)
                except Exception as error:
                    name = next(name for name, one in self._metrics.items() if one is measured)
                    explain_metric(error, name, measured.given, (output, target))
                    raise

    def add_values(self, values: Mapping[str, Tensor | float], weight: int) -> None:
        """Add named values of a batch.

        Raises:
            SpecError: If a value has the name of a metric or is not a number.
        """
        for name, value in values.items():
            self.log(name, value, weight)

    def log(self, name: str, value: Tensor | float, weight: int) -> None:
        """Add one value of a batch under ``name``."""
        mean = self._logged.get(name)
        if mean is None:
            if full_name(self.prefix, name) in self._reserved:
                raise clash(full_name(self.prefix, name))
            mean = self._logged[name] = Mean()
        number = as_number(name, value)
        self._batch[name] = number.detach() if isinstance(number, Tensor) else number
        mean.add(number, weight)

    def compute(self) -> dict[str, float]:
        """Return all values of the epoch, over all processes, by full name, except those without any update."""
        found: dict[str, float] = {}
        self.tables = {}
        for name, value in self._computed():
            full = full_name(self.prefix, name)
            if full in found:
                raise clash(full)
            if isinstance(value, Table):
                self.tables[full] = value
            elif value is not None:
                found[full] = float(value)
        return found

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the epoch's metrics, for a checkpoint."""
        return {
            "loss": self.loss.state_dict(),
            "logged": {name: mean.state_dict() for name, mean in self._logged.items()},
            "metrics": {name: measured.state_dict() for name, measured in self._metrics.items()},
            "updated": self._updated,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state returned by ``state_dict``."""
        self.loss.load_state_dict(state["loss"])
        self._updated = state["updated"]
        for name, mean in state["logged"].items():
            self._logged[name] = Mean()
            self._logged[name].load_state_dict(mean)
        for name, measured in self._metrics.items():
            measured.load_state_dict(state["metrics"][name])

    def memory(self) -> dict[str, Any]:
        """Return the state of metrics that persists over epochs, by name, for a checkpoint."""
        return {name: kept for name, measured in self._metrics.items() if (kept := measured.memory())}

    def remember(self, kept: Mapping[str, Any]) -> None:
        """Restore the state returned by ``memory``."""
        for name in self._metrics.keys() & kept.keys():
            self._metrics[name].remember(kept[name])

    def _computed(self) -> Iterator[tuple[str, Any]]:
        team = self._team
        loss = self.loss.compute(team)
        means = [self.loss, *self._logged.values(), *(one.mean for one in self._measured if one.mean is not None)]
        weigh = {mean.weighs for mean in means} - {None}
        updated, counted, weighed = team.all_reduce_max([self._updated, bool(weigh), True in weigh])
        if counted and not weighed:
            raise SpecError(
                f"each batch of {self.prefix!r} has 0 samples by its count, so the means have no weight.",
                hint="let TrainSpec(batch_size=) return the number of samples; omit it to count them automatically.",
            )
        if self._metrics and not updated and loss is not None:
            warnings.warn(
                f"the metrics {', '.join(self._metrics)} are not computed for {self.prefix!r}: its step does"
                ' not return "output" and "target".',
                stacklevel=2,
            )
        yield LOSS, loss
        for name in dict.fromkeys(name for names in team.all_gather_object(list(self._logged)) for name in names):
            yield name, self._logged.get(name, Mean()).compute(team)
        for name, measured in self._metrics.items() if updated else ():
            yield from pieces(name, measured.compute(team), self._shapes[name])


class SharedMeter(StageMeter):
    """The values shared by several loaders of a stage: those logged under a name with a slash.

    Args:
        prefix: The stage.
        team: As in StageMeter.
    """

    def __init__(self, prefix: str, team: Collectives) -> None:
        super().__init__(prefix, {}, team)
        self._reserved = frozenset()


class LoaderMeter(StageMeter):
    """The metrics of one of several loaders.

    Args:
        prefix: The stage and the loader's name.
        metrics: As in StageMeter.
        team: As in StageMeter.
        shared: Receives values logged under a name with a slash, which all loaders share.
    """

    def __init__(self, prefix: str, metrics: Mapping[str, MetricLike], team: Collectives, shared: SharedMeter) -> None:
        super().__init__(prefix, metrics, team)
        self._shared = shared

    def log(self, name: str, value: Tensor | float, weight: int) -> None:
        """Add one value of a batch under ``name``."""
        if "/" in name and name not in self._reserved:
            self._shared.log(name, value, weight)
        else:
            super().log(name, value, weight)
