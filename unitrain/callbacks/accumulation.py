"""Changes gradient accumulation between epochs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from unitrain.callbacks.callback import Callback
from unitrain.compat.other_names import callback_arguments_for
from unitrain.errors import ConfigError, named_arguments

if TYPE_CHECKING:
    from collections.abc import Mapping

    from unitrain.run.context import RunContext


@named_arguments(ConfigError, callback_arguments_for)
class GradientAccumulationSchedule(Callback):
    """Changes the number of accumulated batches at given epochs.

    It sets ``run.accumulate_grad_batches``, which the training step reads; as always, batches are counted within the
    epoch and the epoch's last batch steps.

    Args:
        schedule: Number of batches by the first epoch (from 0) that uses it: ``{0: 1, 4: 2}``; 1 before the first of
            these.

    Raises:
        ConfigError: If ``schedule`` is not such a mapping.

    Example:
        >>> schedule = GradientAccumulationSchedule({0: 1, 1: 3})  # from the second epoch on, 3 batches per step
        >>> trainer = UnifiedTrainer("reference", max_epochs=2, enable_progress_bar=False, callbacks=[schedule])
        >>> trainer.fit(spec, batches).step
        4
    """

    def __init__(self, schedule: Mapping[int, int]) -> None:
        good = bool(schedule) and all(_count(epoch, 0) and _count(number, 1) for epoch, number in schedule.items())
        if not good:
            raise ConfigError(
                "GradientAccumulationSchedule(schedule=) must map epochs (from 0) to numbers of batches (from 1);"
                f" got {schedule!r}.",
                hint="GradientAccumulationSchedule({0: 1, 4: 2})",
            )
        self.schedule = dict(sorted(schedule.items()))

    def at(self, epoch: int) -> int:
        """Return the number of batches per optimizer step in ``epoch``, from 0."""
        return next((number for first, number in reversed(self.schedule.items()) if epoch >= first), 1)

    def on_epoch_start(self, run: RunContext) -> None:
        """Set the number for the epoch."""
        run.accumulate_grad_batches = self.at(run.state.epoch)

    on_batch_start = on_epoch_start  # an epoch that is resumed in its middle has no start


def _count(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least
