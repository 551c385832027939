"""Maps Lightning callbacks that stopped a run to FitResult's stop reasons."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from unitrain.run.stopping import EARLY_STOPPING, MAX_TIME, USER

if TYPE_CHECKING:
    from collections.abc import Iterable


def why_stopped(callbacks: Iterable[Any], early_stopping: type[Any], timer: type[Any]) -> str:
    """Return which of ``callbacks`` set ``trainer.should_stop``, as a reason.

    Args:
        callbacks: The callbacks of the run.
        early_stopping: The class ``EarlyStopping`` of the package in use.
        timer: The class ``Timer`` of the package in use.
    """
    given = list(callbacks)
    if any(isinstance(one, timer) and _is_over(one) for one in given):
        return MAX_TIME
    return EARLY_STOPPING if any(isinstance(one, early_stopping) and _ended(one) for one in given) else USER


def _is_over(timer: Any) -> bool:
    return timer._duration is not None and timer.time_remaining() <= 0  # noqa: SLF001


def _ended(stopping: Any) -> bool:
    # stopped_epoch is 0 too if it stopped in the first epoch; stopping_reason came with 2.6
    reason = getattr(getattr(stopping, "stopping_reason", None), "name", "NOT_STOPPED")
    return bool(stopping.stopped_epoch or stopping.wait_count >= max(1, stopping.patience) or reason != "NOT_STOPPED")
