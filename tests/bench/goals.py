"""The goals, and whether what was measured meets them."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.bench.timing import Times

IDIOM = "idiom"
BARE = "bare loop with metrics"
CLOCK = "clock, in milliseconds"


@dataclass(frozen=True)
class Goal:
    """How much time unitrain may take.

    Attributes:
        work: The work item.
        framework: The backend.
        against: The framework's own idiom, the bare loop, or the clock.
        limit: The ratio, or the time, that is not to be passed.
        loading: What was asked of the loader, if anything.
    """

    work: str
    framework: str
    against: str
    limit: float
    loading: str = ""

    @property
    def variant(self) -> str:
        """What is measured for it."""
        return f"unitrain on {self.framework}{self.loading and ', ' + self.loading}"


GOALS = (
    Goal("W1p", "lightning", IDIOM, 0.23),
    Goal("W1p", "ignite", IDIOM, 0.68),
    Goal("W1p", "lightning", BARE, 1.70),
    Goal("W1p", "ignite", BARE, 1.08),
    Goal("W2", "lightning", BARE, 1.15),
    Goal("W2", "ignite", BARE, 1.03),
    Goal("W3p", "lightning", IDIOM, 0.12),
    Goal("W3p", "ignite", IDIOM, 0.45),
    Goal("W4p", "lightning", IDIOM, 0.24),
    Goal("W4p", "ignite", IDIOM, 0.70),
    Goal("W1", "ignite", BARE, 0.85, "vectorized"),
)

AROUND = {
    "save 1 M parameters": 1.25,
    "save 100 M parameters": 1.25,
    "save best and last, 100 M parameters": 0.65,
    "load the weights of 1 M parameters": 1.2,
    "load the weights of 100 M parameters": 1.2,
    "a step of 2 processes": 1.05,
}
"""The ratios around a step, by what is done; the rest is measured without a goal."""


@dataclass(frozen=True)
class Outcome:
    """A goal and what was reached.

    Attributes:
        goal: The goal.
        reached: The median of what was measured.
    """

    goal: Goal
    reached: float

    @property
    def met(self) -> bool:
        """Whether the goal is met."""
        return self.reached <= self.goal.limit


def outcomes(measured: Mapping[str, Mapping[str, Times]]) -> list[Outcome]:
    """Return what became of each goal whose work was measured.

    Args:
        measured: The times by work item and variant.
    """
    return [Outcome(goal, _reached(goal, measured[goal.work])) for goal in GOALS if goal.work in measured]


def _reached(goal: Goal, times: Mapping[str, Times]) -> float:
    own = times[goal.variant].ratios
    if goal.against == BARE:
        return median(own)
    return median(one / other for one, other in zip(own, times[goal.framework].ratios, strict=True))
