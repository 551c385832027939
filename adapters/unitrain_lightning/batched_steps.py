"""Several batches in one Lightning step, if no Lightning callback listens between them.

Lightning's loop spends some 80 microseconds between two batches on hooks that usually nobody overrides. A step that
takes ``dataloader_iter`` may fetch itself; so a run of batches costs that once. What is between them, apart from
hooks, is kept: Lightning's own counters say the same at each batch, and a stop or a validation ends the run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from unitrain_lightning._compat import fetches_by_itself
from unitrain_lightning.namespace import OnLightning
from unitrain_lightning.profiler import NullProfiler

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from unitrain_lightning.namespace import Namespace

LENGTH: Final = 100
"""The maximum batches per Lightning step, so that Lightning regains control from time to time."""

_WITHIN_STEP = ("on_before_zero_grad", "on_before_backward", "on_after_backward", "on_before_optimizer_step")
"""These hooks are called within grouped steps too, but Lightning only forwards what they log between batches."""

TRAINING = ("on_train_batch_start", "on_train_batch_end", *_WITHIN_STEP)
VALIDATION = ("on_validation_batch_start", "on_validation_batch_end")
TEST = ("on_test_batch_start", "on_test_batch_end")


def overrides(lightning: Namespace, callback: Any, hook: str) -> bool:
    """Return whether a native callback has a hook of its own, by its class or, as a LambdaCallback, itself."""
    return getattr(getattr(callback, hook), "__func__", None) is not getattr(lightning.Callback, hook)


def may_batch_steps(lightning: Namespace, trainer: Any, hooks: tuple[str, ...]) -> bool:
    """Return whether nothing listens between two batches: no callback, no profiler, no plugin of the user's.

    Args:
        lightning: The package that the Trainer is of.
        trainer: The Trainer.
        hooks: The hooks that it would call there.
    """
    return (
        fetches_by_itself(lightning.root)
        and isinstance(trainer.profiler, NullProfiler)
        and isinstance(trainer.precision_plugin, OnLightning)
        and not any(overrides(lightning, one, hook) for one in trainer.callbacks for hook in hooks)
    )


def batches_in_one_call(batches: Any, progress: Any, between: Callable[[int], None] | None = None) -> Iterator[Any]:
    """Yield the batches of a run; between two, count as Lightning does.

    Args:
        batches: Lightning's ``dataloader_iter``.
        progress: The ``batch_progress`` of its loop.
        between: Counts what else is counted per batch; takes 1, or -1 to take one back.
    """
    for index in range(LENGTH):
        if index:
            progress.increment_processed()
            progress.increment_completed()
            if between is not None:
                between(1)
        try:
            batch, *_ = next(batches)
        except StopIteration:  # data without a length has ended
            _uncount(progress, begun=not index)
            if between is not None:
                between(-1)
            progress.is_last_batch = True
            return
        if index:
            progress.increment_ready()
            progress.increment_started()
        progress.is_last_batch = batches.done
        yield batch
        if batches.done:
            return


def _uncount(progress: Any, *, begun: bool) -> None:
    """Take back the batch that Lightning counts where a run of batches ends without one.

    Args:
        progress: The ``batch_progress`` of its loop.
        begun: Whether Lightning has counted its beginning too; it counts its end after the step.
    """
    for tracker in (progress.current, progress.total):
        if begun:
            tracker.ready -= 1
            tracker.started -= 1
        tracker.processed -= 1
        tracker.completed -= 1
