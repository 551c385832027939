"""What a comparison is made of, for those that show it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    from unitrain.testing.comparison.difference import Difference

EQUAL, DIFFERENT, FAILED = "equal", "different", "failed"


@dataclass(frozen=True, kw_only=True)
class Side:
    """One side of a comparison.

    Attributes:
        name: Its name, such as that of the backend.
        framework: The backend; None for a hand-written loop and for a checkpoint.
        status: ``"finished"``, ``"different"`` if it was stopped at the first difference, ``"steps"`` if at the limit,
            or ``"failed"``.
        error: The error of a failed side, in one line.
        traceback: The error with its traceback.
        steps: Number of optimizer steps that were seen; None for a checkpoint.
        seconds: Duration from the first batch on, without the time that observing took; None if it is not known, as of
            a process that was killed, and for a checkpoint.
        observing: That time.
        memory: Peak memory of the process in bytes; None if the system does not tell.
        gpu_memory: Peak memory of tensors on the GPU in bytes; None without a GPU.
        stopped_by: Why a fit ended, as in ``FitResult``.
        loss: The optimizer step and the loss, for each training batch.
        history: The metrics of each epoch, as in ``FitResult``.
    """

    name: str
    framework: str | None = None
    status: str = "finished"
    error: str | None = None
    traceback: str | None = field(default=None, repr=False)
    steps: int | None = None
    seconds: float | None = None
    observing: float | None = None
    memory: int | None = None
    gpu_memory: int | None = None
    stopped_by: str | None = None
    loss: tuple[tuple[int, float], ...] = field(default=(), repr=False)
    history: tuple[Mapping[str, float], ...] = field(default=(), repr=False)


class Outcome(Protocol):
    """A comparison as texts and pages see it; ``Comparison`` is one."""

    @property
    def sides(self) -> tuple[Side, ...]:
        """The sides."""

    @property
    def differences(self) -> tuple[Difference, ...]:
        """The first difference of each side."""

    @property
    def difference(self) -> Difference | None:
        """The earliest one."""

    @property
    def steps(self) -> int | None:
        """Number of equal steps."""

    @property
    def compared(self) -> tuple[str, ...]:
        """What was compared."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What else a person should know."""

    @property
    def status(self) -> str:
        """``"equal"``, ``"different"`` or ``"failed"``."""
