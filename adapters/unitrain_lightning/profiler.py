"""A no-op profiler without overhead."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Final

from unitrain_lightning.namespace import OnLightning

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

_NOTHING: Final = nullcontext()


class NullProfiler(OnLightning):
    """Stands in for Lightning's default, which enters a new generator for each of some 24 actions a step.

    Where a native callback listens, it saves 140 Python calls a step of 800, 9% of a step of W1p.
    ``native={"lightning": {"profiler": ...}}`` takes its place.
    """

    stands_on = "Profiler"

    def profile(self, action_name: str) -> AbstractContextManager[None]:  # noqa: ARG002 - Lightning's signature
        """Measure nothing."""
        return _NOTHING

    def start(self, action_name: str) -> None:
        """Do nothing."""

    def stop(self, action_name: str) -> None:
        """Do nothing."""
