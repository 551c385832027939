"""Exposes trackers to native callbacks, and the Trainer to datamodules."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from unitrain_lightning.namespace import OnLightning, is_a

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Iterator

    from unitrain.run.hub import EventHub


class TrackingLogger(OnLightning):
    """The ``trainer.logger`` of a run with trackers: it forwards rows, with unitrain's step.

    Lightning derives the folder of its own checkpoints from a logger; with this one it is the same as without.

    Attributes:
        hub: The clock of the running job.

    Args:
        save_dir: Folder for files.
    """

    stands_on = "Logger"
    hub: EventHub | None = None

    def __init__(self, save_dir: str) -> None:
        super().__init__()
        self._save_dir = save_dir

    @property
    def name(self) -> str:
        """No folder of its own."""
        return ""

    @property
    def version(self) -> str:
        """No folder of its own."""
        return ""

    @property
    def save_dir(self) -> str:
        """Where files go."""
        return self._save_dir

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:  # noqa: ARG002 - Lightning's
        """Send a row to the trackers; Lightning's own count of steps is not theirs."""
        if self.hub is not None and self.hub.trackers is not None:
            self.hub.trackers.log_metrics({name: float(value) for name, value in metrics.items()})

    def log_hyperparams(self, params: Mapping[str, Any] | Namespace) -> None:
        """Send hyper-parameters to the trackers."""
        if self.hub is not None and self.hub.trackers is not None:
            self.hub.trackers.log_hyperparams(params if isinstance(params, Mapping) else vars(params))


def hand_over(trainer: Any, hub: EventHub) -> None:
    """Let the logger of ``trainer`` send to the trackers of the run that is about to begin."""
    for logger in trainer.loggers:
        if isinstance(logger, TrackingLogger):
            logger.hub = hub


@contextmanager
def lent(trainer: Any, data: Any) -> Iterator[None]:
    """Set the ``trainer`` of a LightningDataModule as long as it is used; of anything else set nothing."""
    if not is_a(data, "LightningDataModule"):
        yield
        return
    before, data.trainer = data.trainer, trainer
    try:
        yield
    finally:
        data.trainer = before
