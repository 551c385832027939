"""Writes requested checkpoints, under names chosen by rank 0."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from unitrain.checkpoint import io
from unitrain.checkpoint import sharded_files as parts
from unitrain.distributed.strategies.dtensors import whole
from unitrain.run.hub import CheckpointRequest, Event, InParts
from unitrain.utilities.profiling import CHECKPOINT, measured

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from unitrain.distributed.collectives import Collectives
    from unitrain.run.hub import EventHub


def write_all(hub: EventHub, take: Callable[[], dict[str, Any]], team: Collectives) -> None:
    """Write the result of ``take`` to every requested path, and announce each.

    The first file of a run is read back before it gets its name, so that a run does not continue for days with
    unreadable files.
    """
    asked, hub.pending_checkpoints = hub.pending_checkpoints, []
    before: list[tuple[str, dict[str, Any]]] = []
    try:
        saves = _named(hub, asked, team, before)
        content = take() if saves else {}
        for path, owner, sharded in saves:
            with measured(hub.clock, CHECKPOINT):
                write_one(path, content, team, sharded=sharded, check=hub.last_checkpoint is None)
            if owner:
                before.pop(0)
            if owner and team.rank == 0:
                hub.files.wrote(path, owner)
            hub.last_checkpoint = path
            hub.fire(Event.CHECKPOINT_SAVED)
    except BaseException:
        for owner, state in reversed(before):  # of files that are not there
            hub.keepers[owner].load_state_dict(state)
        raise
    finally:
        hub.files.release()


def _named(
    hub: EventHub,
    asked: Sequence[Path | InParts | CheckpointRequest],
    team: Collectives,
    before: list[tuple[str, dict[str, Any]]],
) -> list[tuple[Path, str, bool]]:
    """Return each file with its owner ("" is the user) and whether it is sharded; rank 0 chooses the names.

    On every rank, ``before`` gets each owner with its state before it named a file, in the order of the files.
    """
    if not any(isinstance(one, CheckpointRequest) for one in asked):
        return [_by_the_user(one) for one in asked if not isinstance(one, CheckpointRequest)]
    found: list[tuple[Path, str, bool]] = []
    for one in asked if team.rank == 0 else ():
        if not isinstance(one, CheckpointRequest):
            found.append(_by_the_user(one))
            continue
        assert hub.context is not None  # noqa: S101 - who asks for a file is in a run
        keeper = hub.keepers[one.owner]
        before.append((one.owner, keeper.state_dict()))
        path = keeper.take(one, hub.context)
        if path is None:
            before.pop()
        else:
            found.append((path, one.owner, one.sharded))
    states = {name: keeper.state_dict() for name, keeper in hub.keepers.items()}
    found, states, folder, named = team.all_gather_object((found, states, hub.files.folder, before))[0]
    if team.rank:
        before.extend(named)
        hub.files.folder = folder
        for name, state in states.items():
            hub.keepers[name].load_state_dict(state)
    return found


def _by_the_user(asked: Path | InParts) -> tuple[Path, str, bool]:
    return (asked.path, "", True) if isinstance(asked, InParts) else (asked, "", False)


def write_one(path: Path, content: dict[str, Any], team: Collectives, *, sharded: bool, check: bool = True) -> None:
    """Write ``content``, of which each process has its own shards, to a file or a folder."""
    if sharded:
        parts.write(path, content, team)
        return
    content = whole(content, keep=team.rank == 0)
    if team.rank == 0:
        io.write(path, content, check=check)
    team.barrier()
