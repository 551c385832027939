"""When a run stops and when it validates."""

from __future__ import annotations

import math
import time
from datetime import timedelta
from typing import TYPE_CHECKING

from unitrain.config import UNLIMITED
from unitrain.distributed.collectives import SINGLE_PROCESS
from unitrain.errors import ConfigError

if TYPE_CHECKING:
    from unitrain.config import TrainerConfig
    from unitrain.distributed.collectives import Collectives
    from unitrain.run.hub import EventHub

MAX_STEPS, MAX_TIME, MAX_EPOCHS, EARLY_STOPPING = "max_steps", "max_time", "max_epochs", "early_stopping"
PRUNED, NAN, USER, SIGNAL, INTERRUPT = "pruned", "nan", "user", "signal", "interrupt"
"""Handlers stop a run as the user; INTERRUPT is Ctrl-C, which results also report as the user."""

REASONS = {
    MAX_EPOCHS: "All epochs were run, or the data of an unlimited run ended.",
    MAX_STEPS: "`max_steps` optimizer steps were made.",
    MAX_TIME: "`max_time`, or the time of a `Timer`, was up.",
    EARLY_STOPPING: "`EarlyStopping`, or the same callback of Lightning or Ignite, saw no improvement.",
    PRUNED: "`Pruning`: the trial is worse than others at this step; `fit` raises `optuna.TrialPruned`.",
    NAN: "`TerminateOnNaN` found a loss or a weight that is not finite; or Ignite's `TerminateOnNan` did.",
    USER: "`run.stop()`, `trainer.stop()`, a callback of a framework or the first Ctrl-C.",
    SIGNAL: "SIGTERM; `interrupted.ckpt` was written.",
}
"""The values of `FitResult.stopped_by` and their meaning."""

HARD = frozenset({MAX_STEPS, SIGNAL, INTERRUPT})
"""Reasons that override min_epochs and min_steps."""

CUT = frozenset({SIGNAL, INTERRUPT})
"""Reasons that end a run within an epoch, which is repeated when the run is resumed."""

_PRECEDENCE = (None, MAX_EPOCHS, EARLY_STOPPING, PRUNED, MAX_TIME, USER, NAN, MAX_STEPS, INTERRUPT, SIGNAL)
"""If processes have different reasons, the last one in this order wins."""


class StopRule:
    """Decides whether a run ends before its epochs are over.

    A request (``run.stop()``, ``max_time``) is granted once ``min_epochs`` and ``min_steps`` are met; ``max_steps``
    and signals always hold.

    Args:
        config: The limits.
        hub: The event hub, with the counters and the request to stop.
        team: The processes that stop together.
    """

    def __init__(self, config: TrainerConfig, hub: EventHub, team: Collectives = SINGLE_PROCESS) -> None:
        self._team = team
        self._agreed: str | None = None
        self._config = config
        self._hub = hub
        self._seconds = config.max_time.total_seconds() if isinstance(config.max_time, timedelta) else math.inf
        self._deadline = math.inf

    def start(self) -> None:
        """Start the clock of ``max_time``."""
        self._deadline = time.monotonic() + self._seconds

    def after_batch(self) -> None:
        """Request a stop if a limit is reached."""
        if self._config.max_steps != UNLIMITED and self._hub.state.step >= self._config.max_steps:
            self._hub.stop_reason = MAX_STEPS
        elif self._deadline != math.inf and time.monotonic() >= self._deadline:
            self._hub.request_stop(MAX_TIME)

    def agree(self) -> None:
        """Apply requests of any process to stop or to save. Later requests wait for the next call."""
        hub, team = self._hub, self._team
        if team.size == 1:
            return
        highest, saving = team.all_reduce_max([_PRECEDENCE.index(hub.stop_reason), bool(hub.pending_checkpoints)])
        self._agreed = _PRECEDENCE[highest]
        if highest:
            hub.stop_reason = self._agreed
        if saving:
            hub.pending_checkpoints = list(
                dict.fromkeys(path for paths in team.all_gather_object(hub.pending_checkpoints) for path in paths)
            )

    @property
    def reason(self) -> str | None:
        """Why the run stops, on which all processes agree."""
        return self._hub.stop_reason if self._team.size == 1 else self._agreed

    def granted(self, epochs_done: int) -> bool:
        """Return whether the run ends now, after ``epochs_done`` whole epochs."""
        reason = self.reason
        if reason is None or reason in HARD:
            return reason is not None
        return self.minimum_met(epochs_done)

    def minimum_met(self, epochs_done: int) -> bool:
        """Return whether ``min_epochs`` and ``min_steps`` are met after ``epochs_done`` whole epochs."""
        enough_epochs = epochs_done >= (self._config.min_epochs or 0)
        return enough_epochs and self._hub.state.step >= (self._config.min_steps or 0)


class ValidationRule:
    """Decides after which training batches to validate, like Lightning.

    Args:
        config: ``val_check_interval`` and ``check_val_every_n_epoch``.
        length: Batches of a training epoch, or None if unknown.

    Raises:
        ConfigError: If the interval does not fit the length.
    """

    def __init__(self, config: TrainerConfig, length: int | None) -> None:
        self._every_n_epoch = config.check_val_every_n_epoch
        self._interval = _interval(config, length)

    def due(self, *, epoch: int, done: int, total: int, last: bool, stopping: bool) -> bool:
        """Return whether to validate now.

        Args:
            epoch: The running epoch, from 0.
            done: Number of batches done in this epoch.
            total: Number of batches done in the whole run.
            last: Whether the batch was the epoch's last.
            stopping: Whether the run is about to end.
        """
        if self._every_n_epoch is not None and (epoch + 1) % self._every_n_epoch:
            return False
        if stopping:
            return True
        if self._interval is None:
            return last
        return (total if self._every_n_epoch is None else done) % self._interval == 0


def _interval(config: TrainerConfig, length: int | None) -> int | None:
    """Return the number of batches between validations, or None for "at the end of the epoch"."""
    interval = config.val_check_interval
    if isinstance(interval, float):
        if interval == 1.0 and length is None:
            return None
        if length is None:
            raise ConfigError(
                f"val_check_interval={interval} is a fraction of the epoch, but the training data has no length.",
                hint="use a number of batches.",
            )
        return max(1, int(length * interval))
    if length is not None and interval > length and config.check_val_every_n_epoch is not None:
        raise ConfigError(
            f"val_check_interval={interval} is more than the {length} training batches of an epoch,"
            " so validation would never run.",
            hint="lower it, or count across epochs with check_val_every_n_epoch=None.",
        )
    return interval
