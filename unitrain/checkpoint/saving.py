"""Writes requested checkpoints, under names chosen by rank 0."""

from __future__ import annotations

from contextlib import contextmanager
from threading import Thread
from typing import TYPE_CHECKING, Any, NamedTuple

from unitrain.checkpoint import io
from unitrain.checkpoint import sharded_files as parts
from unitrain.checkpoint.capture import set_apart
from unitrain.distributed.strategies.dtensors import whole
from unitrain.run.hub import Event
from unitrain.run.saves import CheckpointRequest, InParts
from unitrain.utilities.ledger import mark_of
from unitrain.utilities.profiling import CHECKPOINT, measured

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from unitrain.distributed.collectives import Collectives
    from unitrain.run.hub import EventHub
    from unitrain.utilities.profiling import Clock


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
    unreadable files. If all requests are asynchronous, a thread writes a copy of the state, and ``hub.finish_save``
    announces the files.
    """
    hub.finish_save()
    asked, hub.pending_checkpoints = hub.pending_checkpoints, []
    before: list[tuple[str, dict[str, Any]]] = []
    with _kept_names(hub, before):
        saves = _named(hub, asked, team, before)
        content = take() if saves else {}
        first = hub.last_checkpoint is None
        if saves and all(isinstance(one, CheckpointRequest) and one.asynchronous for one in asked):
            with measured(hub.clock, CHECKPOINT):
                steps = _written(saves, set_apart(content), team, None, first=first, in_thread=True)
                hub.unfinished_save = _Unfinished(hub, steps, before)
            return
        for one in _written(saves, content, team, hub.clock, first=first):
            _announce(hub, one, before, team.rank)


def _written(
    saves: Sequence[_Save],
    content: dict[str, Any],
    team: Collectives,
    clock: Clock | None,
    *,
    first: bool,
    in_thread: bool = False,
) -> Iterator[_Save]:
    """Write each file, and yield it once it is complete.

    Args:
        saves: The files.
        content: What all of them hold.
        team: The processes that write.
        clock: Measures the writing, if the run is profiled.
        first: Whether they are the run's first.
        in_thread: As in ``io.write_admitted``.
    """
    twin: _Twin | None = None
    for number, one in enumerate(saves):
        with measured(clock, CHECKPOINT):
            how = _How(check=first and number == 0, in_thread=in_thread, like=twin if one.hard_links else None)
            write_one(one.path, content, team, sharded=one.sharded, how=how)
        twin = _twin(one) or twin
        yield one


def _announce(hub: EventHub, one: _Save, before: list[tuple[str, dict[str, Any]]], rank: int) -> None:
    """Note that a file is complete, and call the handlers."""
    if one.owner:
        before.pop(0)
    if one.owner and rank == 0:
        hub.files.wrote(one.path, one.owner)
    hub.last_checkpoint = one.path
    hub.fire(Event.CHECKPOINT_SAVED)


@contextmanager
def _kept_names(hub: EventHub, before: list[tuple[str, dict[str, Any]]]) -> Iterator[None]:
    """Release the reserved names at the end, unless a thread is still writing; after an error, forget missing files.

    Args:
        hub: The run's.
        before: The owners of the files that are not complete yet, with their states before.
    """
    try:
        yield
    except BaseException:
        for owner, state in reversed(before):
            hub.keepers[owner].load_state_dict(state)
        raise
    finally:
        if hub.unfinished_save is None:
            hub.files.release()


class _Unfinished:
    """A save that a thread writes, file by file.

    Args:
        hub: The run's.
        steps: Writes a file and yields it, until all are written.
        before: The owners of the files with their states before.
    """

    def __init__(self, hub: EventHub, steps: Iterator[_Save], before: list[tuple[str, dict[str, Any]]]) -> None:
        self._hub, self._before = hub, before
        self._complete: list[_Save] = []
        self._error: BaseException | None = None
        self._thread = Thread(target=self._write, args=(steps,), name="unitrain checkpoint")
        self._thread.start()

    def _write(self, steps: Iterator[_Save]) -> None:
        try:
            for one in steps:
                self._complete.append(one)
        except BaseException as error:  # noqa: BLE001 - the run raises it
            self._error = error

    def finish(self) -> None:
        """Wait for the thread, announce the files that are complete, and raise the error that prevented others."""
        hub = self._hub
        with measured(hub.clock, CHECKPOINT):
            self._thread.join()  # if a second Ctrl-C ends the wait, the run's end waits again
        hub.unfinished_save = None
        with _kept_names(hub, self._before):
            for one in self._complete:
                _announce(hub, one, self._before, 0)
            if self._error is not None:
                raise self._error


@contextmanager
def finished(hub: EventHub) -> Iterator[None]:
    """Let a run not end before its files are complete; beside an error of the run, one of the files is a note."""
    try:
        yield
    except BaseException as error:
        try:
            hub.finish_save()
        except Exception as second:  # noqa: BLE001 - the first error is the one to raise
            error.add_note(f"unitrain: {second}")
        raise
    hub.finish_save()


def _twin(one: _Save) -> _Twin | None:
    """Return what another file of the same save may share its bytes with."""
    found = mark_of(one.path) if one.hard_links and not one.sharded else None
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


class _How(NamedTuple):
    """How a file is written.

    Attributes:
        check: As in ``io.write_admitted``.
        in_thread: As in ``io.write_admitted``.
        like: A file with the same content, if there is one.
    """

    check: bool = True
    in_thread: bool = False
    like: _Twin | None = None


_ALONE = _How()


def write_one(path: Path, content: dict[str, Any], team: Collectives, *, sharded: bool, how: _How = _ALONE) -> None:
    """Write a captured ``content``, of which each process has its own shards, to a file or a folder."""
    if sharded:
        parts.write(path, content, team)
        return
    content = whole(content, keep=team.rank == 0)
    if team.rank == 0:
        if how.like is not None and mark_of(how.like.path) == how.like.mark:
            io.repeat(how.like.path, path)
        else:
            io.write_admitted(path, content, check=how.check, in_thread=how.in_thread)
    team.barrier()
