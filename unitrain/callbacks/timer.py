"""Stops a run after a given time."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from unitrain.callbacks.callback import Callback
from unitrain.compat.other_names import callback_arguments_for
from unitrain.errors import ConfigError, named_arguments
from unitrain.utilities import validators

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import timedelta

    from unitrain.run.context import RunContext

MAX_TIME = "max_time"


@named_arguments(ConfigError, callback_arguments_for)
class Timer(Callback):
    """Stops after the batch in which the time is up, as ``max_time`` does.

    A resumed run continues with the time already used; ``max_time`` restarts with each process.

    Args:
        duration: ``"DD:HH:MM:SS"``, a timedelta or its keywords.

    Raises:
        ConfigError: If ``duration`` is none of these.

    Example:
        >>> trainer = UnifiedTrainer("reference", callbacks=[Timer("00:12:00:00")])  # twelve hours
    """

    def __init__(self, duration: str | timedelta | Mapping[str, float]) -> None:
        try:
            allowed = validators.max_time(duration)
        except validators.Invalid as refusal:
            raise ConfigError(
                f"Timer(duration=) must be {refusal.accepted}; got {duration!r}.", hint=refusal.hint
            ) from refusal.__cause__
        if allowed is None:
            raise ConfigError("Timer(duration=) must be a duration; got None.", hint='Timer("00:12:00:00")')
        self._duration = duration
        self._seconds = allowed.total_seconds()
        self.reset_state()

    def reset_state(self) -> None:
        """Forget the runs before."""
        self._used = 0.0
        self._started: float | None = None

    @property
    def elapsed(self) -> float:
        """The seconds of training so far, those before a resume included."""
        return self._used + (0.0 if self._started is None else time.monotonic() - self._started)

    def on_fit_start(self, run: RunContext) -> None:  # noqa: ARG002 - a handler's signature
        """Start the clock."""
        self._started = time.monotonic()

    def on_batch_end(self, run: RunContext) -> None:
        """Request a stop if the time is up."""
        if self.elapsed >= self._seconds:
            run.hub.request_stop(MAX_TIME)

    def on_fit_end(self, run: RunContext) -> None:  # noqa: ARG002 - a handler's signature
        """Stop the clock."""
        self._used, self._started = self.elapsed, None

    def state_dict(self) -> dict[str, Any]:
        """Return the time that is used."""
        return {"elapsed": self.elapsed}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the elapsed time."""
        self._used = state["elapsed"]
        if self._started is not None:
            self._started = time.monotonic()
