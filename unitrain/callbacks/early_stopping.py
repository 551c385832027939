"""Stops a run when a metric no longer improves."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from unitrain.callbacks.callback import EpochDecision
from unitrain.callbacks.comparison import WORST, Mode, beyond, improved, measured, require_monitor
from unitrain.compat.other_names import callback_arguments_for
from unitrain.errors import ConfigError, named_arguments
from unitrain.metrics.metric import float32

if TYPE_CHECKING:
    from unitrain.run.context import RunContext

EARLY_STOPPING = "early_stopping"

_DECISIVE = (
    "monitor",
    "mode",
    "patience",
    "min_delta",
    "check_finite",
    "stopping_threshold",
    "divergence_threshold",
)
"""A stop request from a checkpoint is only valid while these arguments are unchanged."""


@named_arguments(ConfigError, callback_arguments_for)
class EarlyStopping(EpochDecision):
    """Stops when a metric has not improved for ``patience`` measurements.

    Only epochs that measured the metric count. It decides as Lightning's ``EarlyStopping`` does, in float32.

    Its request also holds in a resumed run: resuming the last checkpoint of a run that it stopped returns the result of
    that run, even with a larger ``max_epochs``. Training continues if the callback is removed or its arguments differ
    (``strict`` aside), or until a larger ``min_epochs`` or ``min_steps`` is met. (Lightning trains one more epoch.)

    Attributes:
        best: The best value so far.
        wait: Number of measurements since then.
        stopped_epoch: The epoch (from 0) in which it asked to stop, or None.
        reason: Why it asked to stop, in words; empty if it did not.

    Args:
        monitor: The metric's full name, such as ``"val/loss"``.
        mode: Whether ``"min"`` or ``"max"`` is better.
        patience: Number of measurements without improvement after which to stop; 0 acts like 1.
        min_delta: Minimum change that counts as an improvement.
        check_finite: Whether to stop at NaN or infinity. Otherwise NaN is not an improvement.
        strict: Whether to raise if the metric is never logged; otherwise wait for it.
        stopping_threshold: Stop as soon as the metric is better than this.
        divergence_threshold: Stop as soon as the metric is worse than this.

    Raises:
        ConfigError: If a value is invalid.

    Example:
        >>> stop = EarlyStopping("train/loss", patience=2, min_delta=10.0)
        >>> trainer = UnifiedTrainer("reference", max_epochs=9, enable_progress_bar=False, callbacks=[stop])
        >>> trainer.fit(spec, batches).stopped_by
        'early_stopping'
    """

    def __init__(
        self,
        monitor: str,
        *,
        mode: Mode = "min",
        patience: int = 3,
        min_delta: float = 0.0,
        check_finite: bool = True,
        strict: bool = True,
        stopping_threshold: float | None = None,
        divergence_threshold: float | None = None,
    ) -> None:
        require_monitor("EarlyStopping", monitor, mode)
        if not isinstance(patience, int) or isinstance(patience, bool) or patience < 0:
            raise ConfigError(
                f"EarlyStopping(patience=) must be an integer of at least 0, got {patience!r}.", hint="patience=3"
            )
        if not isinstance(min_delta, (int, float)) or not 0 <= min_delta < math.inf:
            raise ConfigError(
                f"EarlyStopping(min_delta=) must be a finite number of at least 0, got {min_delta!r}.",
                hint="its sign is the same in both modes.",
            )
        self.monitor = monitor
        self.mode = mode
        self.patience = patience
        self.min_delta = float(min_delta)
        self.check_finite = check_finite
        self.strict = strict
        self.stopping_threshold = stopping_threshold
        self.divergence_threshold = divergence_threshold
        self.reset_state()

    def reset_state(self) -> None:
        """Forget the runs before."""
        self.best = WORST[self.mode]
        self.wait = 0
        self.stopped_epoch: int | None = None
        self.reason = ""

    def asked(self) -> str | None:
        """Return the reason for its request, if it has made one in this run."""
        return None if self.stopped_epoch is None else EARLY_STOPPING

    def decide(self, run: RunContext) -> None:
        """Request a stop if due."""
        current = measured(run, self.monitor, strict=self.strict)
        if current is None:
            return
        self.reason = self._judge(current)
        if self.reason:
            self.stopped_epoch = run.state.epoch
            run.hub.request_stop(EARLY_STOPPING)

    def _judge(self, current: float) -> str:
        """Record a measurement and return the reason to stop, if any."""
        if self.check_finite and not math.isfinite(float32(current)):
            return f"{self.monitor} = {current} is not finite"
        if self.stopping_threshold is not None and beyond(current, self.stopping_threshold, self.mode):
            return f"{self.monitor} = {current} is better than the stopping threshold {self.stopping_threshold}"
        if self.divergence_threshold is not None and beyond(-current, -self.divergence_threshold, self.mode):
            return f"{self.monitor} = {current} is worse than the divergence threshold {self.divergence_threshold}"
        if improved(current, self.best, self.mode, self.min_delta):
            self.best = float32(current)
            self.wait = 0
            return ""
        self.wait += 1
        if self.wait < self.patience:
            return ""
        return f"{self.monitor} has not improved on {self.best} for {self.wait} measurements"

    def state_dict(self) -> dict[str, Any]:
        """Return the best value and its age, whether it asked to stop, and its arguments."""
        kept = {name: getattr(self, name) for name in ("best", "wait", "stopped_epoch", "reason")}
        return {**kept, "arguments": self._arguments()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state returned by ``state_dict``."""
        self.best = state["best"]
        self.wait = state["wait"]
        holds = state.get("arguments", self._arguments()) == self._arguments()
        self.stopped_epoch = state["stopped_epoch"] if holds else None
        self.reason = state["reason"] if holds else ""

    def _arguments(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in _DECISIVE}
