"""Metric comparisons shared by early stopping and checkpointing.

Lightning and Ignite disagree in thousands of cases at exactly ``min_delta``, since the one compares in float32 and the
other in double. Here it is float32, as in Lightning's ``EarlyStopping``, on every backend.
"""

from __future__ import annotations

import math
import operator
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from unitrain.errors import ConfigError
from unitrain.metrics.metric import float32
from unitrain.optim.schedules import unknown_monitor

if TYPE_CHECKING:
    from collections.abc import Callable

    from unitrain.run.context import RunContext

Mode: TypeAlias = Literal["min", "max"]

WORST: Final[dict[str, float]] = {"min": math.inf, "max": -math.inf}
"""The initial best value; any number improves on it."""

_BETTER: Final[dict[str, Callable[[float, float], bool]]] = {"min": operator.lt, "max": operator.gt}


def beyond(current: float, bound: float, mode: str) -> bool:
    """Return whether ``current`` is strictly better than ``bound``; NaN never is.

    Args:
        current: The newest value.
        bound: The value to compare with.
        mode: ``"min"`` or ``"max"``, what is better.
    """
    return _BETTER[mode](float32(current), float32(bound))


def improved(current: float, best: float, mode: str, min_delta: float = 0.0) -> bool:
    """Return whether ``current`` is better than ``best`` by more than ``min_delta``, in float32.

    Args:
        current: The newest value.
        best: The best one so far; ``WORST[mode]`` at first.
        mode: ``"min"`` or ``"max"``, what is better.
        min_delta: An improvement must be above this; at exactly this it is none.
    """
    signed = -min_delta if mode == "min" else min_delta
    return _BETTER[mode](float32(float32(current) - float32(signed)), float32(best))


def require_monitor(owner: str, monitor: object, mode: object) -> None:
    """Refuse an invalid monitor or mode.

    Raises:
        ConfigError: If it is invalid; the message says what is accepted.
    """
    if not isinstance(monitor, str) or not monitor:
        raise ConfigError(f"{owner}(monitor=) must be the name of a metric, got {monitor!r}.", hint='"val/loss"')
    if mode not in WORST:
        raise ConfigError(f"{owner}(mode=) must be 'min' or 'max', got {mode!r}.", hint='mode="min" for a loss.')


def measured(run: RunContext, monitor: str, *, strict: bool = True) -> float | None:
    """Return the value of ``monitor`` if the epoch that ends measured it.

    Args:
        run: The run.
        monitor: The metric's full name.
        strict: Whether to raise if it is never logged.

    Raises:
        ConfigError: If it was never logged, and no validation is awaited that might.
    """
    hub = run.hub
    if monitor in hub.epoch_metrics:
        return hub.epoch_metrics[monitor]
    awaited = hub.awaits_validation and monitor.startswith("val/")
    if strict and not awaited and monitor not in hub.state.metrics:
        raise unknown_monitor(monitor, hub.state.metrics)
    return None
