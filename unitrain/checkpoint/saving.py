"""Writes requested checkpoints, under names chosen by rank 0."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from unitrain.checkpoint import io
from unitrain.checkpoint import sharded_files as parts
from unitrain.distributed.strategies.dtensors import whole
from unitrain.run.hub import Event
from unitrain.run.saves import CheckpointRequest, InParts
from unitrain.utilities.ledger import mark
from unitrain.utilities.profiling import CHECKPOINT, measured

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from unitrain.distributed.collectives import Collectives
    from unitrain.run.hub import EventHub


class _Save(NamedTuple):
    """A file to write.

    Attributes:
        path: Its name.
        owner: The callback that keeps it; "" is the user.
        sharded: Whether it is a folder of shards.
        hard_links: Whether it may share its bytes with another file.
    """

    path: Path
    owner: str = ""
    sharded: bool = False
    hard_links: bool = False


class _Twin(NamedTuple):
    """A file that has been written, whose bytes another one may share while it is unchanged.

    Attributes:
        path: Its name.
        mark: What changes if anybody touches it.
    """

    path: Path
    mark: tuple[int, ...]


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
        twin: _Twin | None = None
        for one in saves:
            with measured(hub.clock, CHECKPOINT):
                like = twin if one.hard_links else None
                check = hub.last_checkpoint is None
                write_one(one.path, content, team, sharded=one.sharded, check=check, like=like)
            twin = _twin(one) or twin
            if one.owner:
                before.pop(0)
            if one.owner and team.rank == 0:
                hub.files.wrote(one.path, one.owner)
            hub.last_checkpoint = one.path
            hub.fire(Event.CHECKPOINT_SAVED)
    except BaseException:
        for owner, state in reversed(before):  # of files that are not there
            hub.keepers[owner].load_state_dict(state)
        raise
    finally:
        hub.files.release()


def _twin(one: _Save) -> _Twin | None:
    """Return what another file of the same save may share its bytes with."""
    found = mark(one.path) if one.hard_links and not one.sharded else None
    return None if found is None else _Twin(one.path, found)


def _named(
    hub: EventHub,
    asked: Sequence[Path | InParts | CheckpointRequest],
    team: Collectives,
    before: list[tuple[str, dict[str, Any]]],
) -> list[_Save]:
    """Return the files to write; rank 0 chooses the names.

    On every rank, ``before`` gets each owner with its state before it named a file, in the order of the files.
    """
    if not any(isinstance(one, CheckpointRequest) for one in asked):
        return [_by_the_user(one) for one in asked if not isinstance(one, CheckpointRequest)]
    found: list[_Save] = []
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
            found.append(_Save(path, one.owner, one.sharded, one.hard_links))
    states = {name: keeper.state_dict() for name, keeper in hub.keepers.items()}
    found, states, folder, named = team.all_gather_object((found, states, hub.files.folder, before))[0]
    if team.rank:
        before.extend(named)
        hub.files.folder = folder
        for name, state in states.items():
            hub.keepers[name].load_state_dict(state)
    return found


def _by_the_user(asked: Path | InParts) -> _Save:
    return _Save(asked.path, sharded=True) if isinstance(asked, InParts) else _Save(asked)


def write_one(
    path: Path,
    content: dict[str, Any],
    team: Collectives,
    *,
    sharded: bool,
    check: bool = True,
    like: _Twin | None = None,
) -> None:
    """Write ``content``, of which each process has its own shards, to a file or a folder.

    Args:
        path: The file, or the folder.
        content: What to write.
        team: The processes.
        sharded: Whether it is a folder.
        check: As in ``io.write``.
        like: A file with this content, if there is one.
    """
    if sharded:
        parts.write(path, content, team)
        return
    content = whole(content, keep=team.rank == 0)
    if team.rank == 0:
        if like is not None and mark(like.path) == like.mark:
            io.repeat(like.path, path)
        else:
            io.write(path, content, check=check)
    team.barrier()
