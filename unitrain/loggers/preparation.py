"""What happens to trackers before a run: which of them take batches, may refuse the run, or follow its counters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from unitrain.errors import ConfigError
from unitrain.loggers.metrics_client import MetricsClient
from unitrain.loggers.reporter import Reporter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


def takes_batches(tracker: Any) -> bool:
    """Return whether a tracker gets the values of batches instead of rows."""
    return isinstance(tracker, MetricsClient)


def reporters_in(trackers: Iterable[Any]) -> list[Reporter]:
    """Return the trackers that report to a monitoring server, also those behind a ``MetricsClient``."""
    targets = (one.target if isinstance(one, MetricsClient) else one for one in trackers)
    return [one for one in targets if isinstance(one, Reporter)]


def prepare(trackers: Iterable[Any], counters: Callable[[], tuple[int, int]]) -> None:
    """Let trackers refuse a run, and follow its step and epoch. If one refuses, no other keeps a port open.

    Args:
        trackers: The trackers of the run.
        counters: Returns the step and the epoch at any time.
    """
    found = reporters_in(trackers)
    try:
        for one in found:
            one.before_run()
            one.follow(counters)
    except BaseException:
        for one in found:
            one.finalize("failed")
        raise


def refuse_twice(trackers: Iterable[Any]) -> None:
    """Refuse a logger that would get each run twice.

    Raises:
        ConfigError: If a logger is given twice, itself or as the target of a ``MetricsClient``.
    """
    seen: list[Any] = []
    for one in trackers:
        target = one.target if isinstance(one, MetricsClient) else one
        if any(target is other for other in seen):
            raise ConfigError(
                f"loggers= has the same {type(target).__name__} twice.",
                hint=f"remove one, or make a second {type(target).__name__}.",
            )
        if not (isinstance(one, MetricsClient) and one.never_fails):
            seen.append(target)
