"""Requests for checkpoints, until they are written."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    from pathlib import Path


class InParts(NamedTuple):
    """A requested checkpoint as a folder, into which each process writes its shards."""

    path: Path


@dataclass(frozen=True)
class CheckpointRequest:
    """A checkpoint requested by a callback, without its final name: rank 0 chooses a free one when it is written.

    Attributes:
        owner: Name of the callback among the run's ``keepers``.
        name: The requested file name, which may already exist.
        ranked: Whether it is kept for its value, among the best.
        value: Its metric value on rank 0.
        sharded: Whether it is a folder into which each process writes its shards.
        hard_links: Whether it may be a hard link to another file of the same save, or that a link to it.
        asynchronous: Whether a thread may write it while the run goes on.
    """

    owner: str
    name: str
    ranked: bool = False
    value: float = field(default=0.0, compare=False)
    sharded: bool = False
    hard_links: bool = True
    asynchronous: bool = False


class Keeper(Protocol):
    """A callback that requests checkpoints and manages the files itself."""

    def take(self, wanted: CheckpointRequest, run: Any) -> Path | None:
        """Return the path on rank 0; None if the checkpoint is no longer wanted."""

    def state_dict(self) -> dict[str, Any]:
        """Return the state, for the other processes."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load the state of rank 0."""


class UnfinishedSave(Protocol):
    """A save that a thread writes while the run goes on."""

    def finish(self) -> None:
        """Wait until it is written, announce its files, and raise its error."""
