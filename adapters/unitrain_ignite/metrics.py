"""Ignite's metrics in a run of a TrainSpec, on any backend. Nothing here needs Ignite."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import torch

from unitrain.data.batch import to_device
from unitrain.metrics.metric import LibraryMetric

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class IgniteMetric(LibraryMetric):
    """An Ignite metric attached as to Ignite's engine, so that ``output_transform`` and the like keep their meaning."""

    def __init__(self, metric: Any) -> None:
        super().__init__(metric)
        self._engine = _Engine()
        metric.attach(self._engine, "value")

    def reset(self, device: torch.device) -> None:  # noqa: ARG002 - an Ignite metric is made for its device
        """Begin an epoch."""
        for handler in self._engine.starting:
            handler(self._engine)

    def update(self, output: Any, target: Any, weight: int) -> None:  # noqa: ARG002 - it counts samples itself
        """Measure a batch."""
        engine = self._engine
        engine.state.output = (output, target)
        for handler in engine.each:
            handler(engine)
        engine.state.output = None

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the metric, for a checkpoint."""
        return _state_of(self._metric)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state returned by ``state_dict``."""
        _load_state(self._metric, state)


def _state_of(metric: Any) -> dict[str, Any]:
    """Return the state of an Ignite metric; of a MetricsLambda, which may hold anything, that of the metrics in it."""
    within = _within(metric)
    return {str(number): one.state_dict() for number, one in enumerate(within)} if within else dict(metric.state_dict())


def _load_state(metric: Any, state: Mapping[str, Any]) -> None:
    """Restore the state returned by ``_state_of``, now or before it looked into a MetricsLambda."""
    within = _within(metric)
    if not within or "args" in state:
        metric.load_state_dict(_where(metric, state))
        return
    for number, one in enumerate(within):
        one.load_state_dict(_where(one, state[str(number)]))


def _where(metric: Any, state: Any) -> Any:
    """Return ``state``, which a checkpoint has on the CPU, on the device that the metric was made for."""
    return to_device(state, torch.device(getattr(metric, "_device", "cpu")))


def _within(metric: Any) -> list[Any]:
    names = [cls.__name__ for cls in type(metric).__mro__]
    if "MetricsLambda" not in names:
        return []
    found: list[Any] = []
    for one in (*metric.args, *metric.kwargs.values()):
        if any(cls.__module__.startswith("ignite.metrics") for cls in type(one).__mro__):
            found += _within(one) or [one]
    return found


class _Engine:
    """A minimal engine for Ignite metrics that stores their handlers.

    What puts the value where an engine has it is left out; whoever owns the metric calls ``compute``.

    Attributes:
        state: The state whose ``output`` the metric reads.
        starting: Called at the start of an epoch.
        each: Called after each batch.
    """

    def __init__(self) -> None:
        self.state = SimpleNamespace(output=None, metrics={})
        self.starting: list[Callable[[Any], None]] = []
        self.each: list[Callable[[Any], None]] = []

    def add_event_handler(self, event: Any, handler: Callable[..., None], *args: Any) -> None:
        """Add a handler, like Ignite's engine."""
        kept = self._of(event)
        if kept is not None and not args:
            kept.append(handler)

    def has_event_handler(self, handler: Callable[..., None], event: Any = None) -> bool:
        """Return whether the handler is there, as Ignite's engine does."""
        return handler in (self._of(event) or ())

    def _of(self, event: Any) -> list[Callable[[Any], None]] | None:
        lists = {"STARTED": self.starting, "EPOCH_STARTED": self.starting, "ITERATION_COMPLETED": self.each}
        return lists.get(event.name)
