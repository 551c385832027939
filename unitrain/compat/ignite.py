"""What Ignite's metrics expect of an engine."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


class EngineOfAMetric:
    """What an Ignite metric takes for an engine: it keeps what is called at the start, and after each batch.

    What puts the value where an engine has it is left out; whoever owns the metric calls ``compute``.

    Attributes:
        state: Its ``output`` is what the metric reads.
        starting: Called at the start of an epoch.
        each: Called after each batch.
    """

    def __init__(self) -> None:
        self.state = SimpleNamespace(output=None, metrics={})
        self.starting: list[Callable[[Any], None]] = []
        self.each: list[Callable[[Any], None]] = []

    def add_event_handler(self, event: Any, handler: Callable[..., None], *args: Any) -> None:
        """Take a handler, as Ignite's engine does."""
        kept = self._of(event)
        if kept is not None and not args:
            kept.append(handler)

    def has_event_handler(self, handler: Callable[..., None], event: Any = None) -> bool:
        """Return whether the handler is there, as Ignite's engine does."""
        return handler in (self._of(event) or ())

    def _of(self, event: Any) -> list[Callable[[Any], None]] | None:
        lists = {"STARTED": self.starting, "EPOCH_STARTED": self.starting, "ITERATION_COMPLETED": self.each}
        return lists.get(event.name)
