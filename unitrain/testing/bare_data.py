"""How the reference loop reads its data: naive, and sharing nothing with ``unitrain.data.batches``."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from unitrain.checkpoint.restore import position
from unitrain.data.batch import unpack
from unitrain.data.own_random import OwnRandom
from unitrain.data.position import copied_state, keeper
from unitrain.data.sources import other_length
from unitrain.errors import DataError
from unitrain.utilities.rng import RngSnapshot

if TYPE_CHECKING:
    from collections.abc import Iterator

    from unitrain.backends.protocol import FitJob
    from unitrain.data.position import Position
    from unitrain.data.sources import DataSource
    from unitrain.run.progress import Progress

Lengths: TypeAlias = "list[tuple[DataSource, int | None]]"
"""The lengths that loaders had in the epochs before."""


class Reader(Protocol):
    """The position of the reference loop in its training data.

    Attributes:
        job: The fit.
        midway: The position of an earlier run within the epoch, until that epoch is resumed.
        at_iter: The generators when the epoch's iterator was made.
        before_ahead: The generators before the batch that was read ahead.
        data_before_ahead: The state of the loader before that batch, if the loader keeps its position.
    """

    job: FitJob
    midway: Progress | None
    at_iter: RngSnapshot | None
    before_ahead: RngSnapshot | None
    data_before_ahead: Any


def pair(batch: Any) -> tuple[Any, Any]:
    """Return the input and the target of a batch."""
    if isinstance(batch, (tuple, list)) and len(batch) == 2:  # noqa: PLR2004 - input and target
        return batch[0], batch[1]
    if isinstance(batch, dict) and "input" in batch and "target" in batch:
        return batch["input"], batch["target"]
    return unpack(batch)  # raises, in the library's words


def batches(
    run: Reader | None, source: DataSource, epoch: int, kept: list[Any] | None, lengths: Lengths
) -> Iterator[tuple[Any, bool]]:
    """Yield each batch of one epoch, and whether it is the last; fill or repeat ``kept``."""
    place = source.place or (lambda batch: batch)
    if kept:
        for number, batch in enumerate(kept, 1):
            yield place(batch), number == len(kept)
        return
    for batch, last in _read(run, source, epoch, lengths):
        if kept is not None:
            kept.append(batch)
        yield place(batch), last


def _read(run: Reader | None, source: DataSource, epoch: int, lengths: Lengths) -> Iterator[tuple[Any, bool]]:
    """Read the loader, going on where an earlier run stood, if there was one."""
    loader: Any = source.loader
    _tell_the_epoch(loader, epoch)
    start = None if run is None or run.midway is None else position(source, run.midway)
    _begin(source, start, lengths)
    at_iter, length = RngSnapshot(source.generators, OwnRandom([source.loader])), source.length
    skip = 0 if start is None else _to_skip(loader, start)
    iterator = source.workers.watch(iter(loader))
    if run is not None:
        run.at_iter, run.midway = at_iter, None
    for _ in range(skip):
        next(iterator, None)
    one_shot = iterator is loader
    if source.clock is not None:
        iterator = source.clock.reading(f"load {source.stage} batch", iterator)
    if length is None:
        yield from _read_ahead(run, source, iterator, start, one_shot)
        return
    if start is not None:
        start.now.restore()
    yield from _read_counted(source, iterator, 0 if start is None else start.skip, length)


def _begin(source: DataSource, start: Position | None, lengths: Lengths) -> None:
    """Bring back the generators; refuse a loader whose length has changed, with which no backend can go on."""
    if start is not None:
        start.at_iter.restore()
        return
    before = [length for one, length in lengths if one is source]
    if before and before[0] not in (None, source.length):
        raise other_length(source.label, before[0], source.length)
    lengths.append((source, source.length))


def _read_counted(source: DataSource, iterator: Iterator[Any], skipped: int, length: int) -> Iterator[tuple[Any, bool]]:
    """Read the batches that there are said to be, and nothing ahead."""
    for number in range(skipped + 1, length + 1):
        batch = next(iterator, iterator)
        if batch is iterator:
            raise DataError(
                f"the {source.label} ended after {number - 1} of {length} batches.", hint="fix its __len__."
            )
        yield batch, number == length


def _to_skip(loader: Any, start: Position) -> int:
    """Return how many batches to skip; a loader that keeps its position is brought there and skips none."""
    keeps = keeper(loader, midway=True)
    if start.loader is None or keeps is None:
        return start.skip
    keeps.load_state_dict(copy.deepcopy(start.loader))
    return 0


def own_position(run: Reader, *, midway: bool) -> Any:
    """Return the state of a loader or dataset that keeps its position, behind the batches that were trained on."""
    source = run.job.train
    if midway and source.length is None:
        return run.data_before_ahead
    keeps = keeper(source.loader, midway=midway)
    return None if keeps is None else copied_state(keeps)


def _tell_the_epoch(loader: Any, epoch: int) -> None:
    for member in getattr(loader, "members", ()):
        _tell_the_epoch(member, epoch)
    batch_sampler = getattr(loader, "batch_sampler", None)
    told: list[Any] = []
    for sampler in (getattr(loader, "sampler", None), batch_sampler, getattr(batch_sampler, "sampler", None)):
        if hasattr(sampler, "set_epoch") and not any(sampler is one for one in told):
            sampler.set_epoch(epoch)  # type: ignore[union-attr]
            told.append(sampler)


def _read_ahead(
    run: Reader | None, source: DataSource, iterator: Iterator[Any], start: Position | None, one_shot: bool
) -> Iterator[tuple[Any, bool]]:
    """Read one batch ahead, since only the end tells which was the last."""
    if start is not None and start.before_ahead is not None:
        start.before_ahead.restore()
    number, batch = 1 if start is None else start.skip + 1, next(iterator, iterator)
    if start is not None:
        start.now.restore()
    if batch is iterator and start is not None:
        raise DataError(f"the {source.label} has no batch after {start.skip} now.", hint="resume with the same data.")
    if batch is iterator and (source.required or one_shot):
        raise DataError(f"the {source.label} is empty.", hint="give one that yields batches.")
    while batch is not iterator:
        if run is not None:
            run.before_ahead = RngSnapshot(source.generators)
            keeps = keeper(source.loader, midway=True)
            run.data_before_ahead = None if keeps is None else copied_state(keeps)
        following = iterator if number == source.limit and isinstance(source.limit, int) else next(iterator, iterator)
        yield batch, following is iterator
        number, batch = number + 1, following
