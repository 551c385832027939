"""unitrain's trackers as Lightning's loggers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from unitrain.loggers.preparation import prepare, reporters_in, takes_batches
from unitrain_lightning.namespace import OnLightning

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from unitrain_bridges.lightning.namespace import Parts


def logger_of(parts: Parts, tracker: Any) -> Any:
    """Return ``tracker`` as one of Lightning's loggers; it is returned itself if it is one."""
    if isinstance(tracker, parts.Logger):
        return tracker
    return parts.made(TrackerLogger)(tracker, parts.rank_zero_only)


def following(parts: Parts, trackers: Sequence[Any]) -> list[Any]:
    """Return a Lightning callback for trackers that follow the run between rows; none without any."""
    return [parts.made(Following)()] if reporters_in(one for one in trackers if not takes_batches(one)) else []


class TrackerLogger(OnLightning):
    """The methods of a logger, each handed to a tracker.

    Args:
        tracker: The tracker of the rows.
        only: Lightning's ``rank_zero_only``, which knows the rank of this process.
    """

    stands_on = "Logger"

    def __init__(self, tracker: Any, only: Any) -> None:
        super().__init__()
        self.tracker = tracker
        self._only = only
        self._begun = self._ready = self._over = False

    @property
    def name(self) -> str:
        """The tracker's class."""
        return type(self.tracker).__name__

    @property
    def version(self) -> int:
        """0: a tracker numbers its runs itself."""
        return 0

    def _tell(self, method: str, *arguments: Any) -> None:
        """Call a method of the tracker, if it has one; before the first call, begin a run. Only rank 0 reports."""
        if getattr(self._only, "rank", 0):
            return
        if not self._ready:
            self._ready = True
            for one in reporters_in([self.tracker]):
                one.before_run()
        if not self._begun:
            self._begun = True
            self._tell("begin", 0)
        found = getattr(self.tracker, method, None)
        if found is not None:
            found(*arguments)

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Hand over one row."""
        self._tell("log_metrics", dict(metrics), 0 if step is None else step)

    def log_hyperparams(self, params: Any, *more: Any, **options: Any) -> None:  # noqa: ARG002 - Lightning's signature
        """Hand over the hyper-parameters."""
        self._tell("log_hyperparams", dict(params))

    def save(self) -> None:
        """Let the tracker write."""
        self._tell("save")

    def finalize(self, status: str) -> None:
        """End the tracker's run."""
        self._tell("finalize", status)
        self._ready, self._over = False, True

    def prepared(self, stage: str) -> None:
        """Take note that the tracker is ready; a fit after the end of another is a new run."""
        self._ready = True
        if stage == "fit" and self._over:
            self._begun = self._over = False


class Following(OnLightning):
    """Lets the trackers of rows refuse a run, and follow its step and epoch."""

    stands_on = "Callback"

    def __init__(self) -> None:
        super().__init__()
        self._now = 0, 0

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:  # noqa: ARG002 - Lightning's signature, so below
        """Prepare the trackers, on rank 0."""
        found = [one for one in trainer.loggers if isinstance(one, TrackerLogger) and reporters_in([one.tracker])]
        if not trainer.is_global_zero:
            return
        self._now = trainer.global_step, trainer.current_epoch
        prepare((one.tracker for one in found), lambda: self._now)
        for one in found:
            one.prepared(stage)

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:  # noqa: ARG002
        """Take note of the epoch."""
        self._now = trainer.global_step, trainer.current_epoch

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:  # noqa: ARG002
        """Take note of the step; after the last, Lightning counts an epoch more."""
        self._now = trainer.global_step, trainer.current_epoch
