"""unitrain's trackers as Lightning's loggers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from unitrain_lightning.namespace import OnLightning

if TYPE_CHECKING:
    from collections.abc import Mapping

    from unitrain_bridges.lightning.namespace import Parts


def logger_of(parts: Parts, tracker: Any) -> Any:
    """Return ``tracker`` as one of Lightning's loggers; it is returned itself if it is one."""
    if isinstance(tracker, parts.Logger):
        return tracker
    return parts.made(TrackerLogger)(tracker)


class TrackerLogger(OnLightning):
    """The methods of a logger, each handed to a tracker.

    Args:
        tracker: Whose rows they are.
    """

    stands_on = "Logger"

    def __init__(self, tracker: Any) -> None:
        super().__init__()
        self.tracker = tracker
        self._begun = False

    @property
    def name(self) -> str:
        """The tracker's class."""
        return type(self.tracker).__name__

    @property
    def version(self) -> int:
        """0: a tracker numbers its runs itself."""
        return 0

    def _tell(self, method: str, *arguments: Any) -> None:
        """Call a method of the tracker, if it has it; before the first one it is told that a run begins."""
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
