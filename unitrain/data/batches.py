"""Turns a data source into batches that are identical on every backend.

A backend's loop iterates ``Batches`` once per epoch. It limits batches, moves them to the device, marks the last one
and refuses empty data. Its iterator is lazy: backends call ``iter()`` at different times, but no random number is drawn
and no worker starts before the first batch is requested.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from unitrain.data.loaders import samplers_of
from unitrain.data.position import Position, going_on, kept_state
from unitrain.data.sources import empty, other_length
from unitrain.errors import DataError
from unitrain.utilities.profiling import load

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from unitrain.data.sources import DataSource
    from unitrain.utilities.rng import RngSnapshot

_END = object()


class Batches:
    """The batches of one stage for a backend's loop.

    Attributes:
        at_iter: State of the global generators when the running epoch's iterator was created.
        before_ahead: State of the generators before a batch was read ahead, if one was.
        length: Number of batches of the running epoch; None while unknown. It is known at the latest with the last
            batch: without a trusted length, one batch is read ahead.

    Args:
        source: The source of the batches.
        epoch: Returns the current epoch, for samplers with ``set_epoch``.
        start: The position to resume in the first epoch; None for its beginning.
        changes: Whether ``read_from`` may change the data in a later epoch.
    """

    def __init__(
        self, source: DataSource, epoch: Callable[[], int], start: Position | None = None, *, changes: bool = False
    ) -> None:
        self._source = source
        self._changes = changes
        self._epoch = epoch
        self._start = start
        self._resumed = start is not None
        self.at_iter: RngSnapshot | None = None
        self.before_ahead: RngSnapshot | None = None
        self._state_before_ahead: Any = None
        self._trusted = source.length
        self._kept: list[Any] | None = None
        self.length = self._trusted

    @property
    def sized(self) -> bool:
        """Whether each epoch has the trusted length; False for a resumed epoch."""
        return self._trusted is not None and not self._resumed and not self._changes

    @property
    def every_length(self) -> int | None:
        """Number of batches of every whole epoch, or None if unknown or variable."""
        return None if self._changes else self.length

    def read_from(self, source: DataSource) -> None:
        """Read batches from ``source`` starting with the next epoch."""
        self._source = source
        self.length = self._trusted = source.length

    def state(self, *, midway: bool) -> Any:
        """Return the state of a loader that tracks its own position, after the yielded batches, or None."""
        if midway and self._trusted is None:
            return self._state_before_ahead
        return kept_state(self._source.loader, midway=midway)

    def __iter__(self) -> Iterator[Any]:
        place = self._source.place
        for batch in self._kept if self._kept is not None else self._read():
            yield batch if place is None else place(batch)

    def _read(self) -> Iterator[Any]:
        for sampler in samplers_of(self._source.loader):
            set_epoch = getattr(sampler, "set_epoch", None)
            if callable(set_epoch):
                set_epoch(self._epoch())
        start, self._start = self._start, None
        if start is None:
            self._require_same_length()
        else:
            start.at_iter.restore()
        if self._source.stage == "train":  # no other stage is resumed midway
            self.at_iter = start.at_iter if start is not None else self._source.snapshot(whole=True)
        loader = self._source.loader
        workers = self._source.workers
        iterator = workers.watch(iter(loader)) if start is None else going_on(loader, start, workers)
        one_shot, clock = iterator is loader, self._source.clock
        if clock is not None:
            iterator = clock.reading(load(self._source.stage), iterator)
        batches = (
            self._ahead(iterator, start, one_shot=one_shot)
            if self._trusted is None
            else self._counted(iterator, self._trusted, start, one_shot=one_shot)
        )
        return self._remember(batches) if self._source.repeat else batches

    def _require_same_length(self) -> None:
        """Refuse data with another length than the backend expects: it would omit the remaining batches.

        Raises:
            DataError: If the length differs.
        """
        now = self._source.length
        if self._trusted is not None and now != self._trusted:
            raise other_length(self._source.label, self._trusted, now)

    def _counted(self, iterator: Iterator[Any], count: int, start: Position | None, *, one_shot: bool) -> Iterator[Any]:
        first = 0
        if start is not None:
            first = start.skip
            start.now.restore()
        for index in range(first, count):
            batch = next(iterator, _END)
            if batch is _END and one_shot and not index:
                raise empty(self._source.label, one_shot=True)
            if batch is _END:
                raise DataError(
                    f"the {self._source.label} reported a length of {count} batches, but ended after {index}.",
                    hint="fix or remove its __len__.",
                )
            yield batch

    def _ahead(self, iterator: Iterator[Any], start: Position | None, *, one_shot: bool) -> Iterator[Any]:
        """Yield with one batch of look-ahead, so that the last one is known while it is trained on."""
        limit = self._source.limit if isinstance(self._source.limit, int) else None
        self.length = None
        count = 0 if start is None else start.skip
        if start is not None and start.before_ahead is not None:
            start.before_ahead.restore()
        self.before_ahead = self._source.snapshot()
        batch = _END if limit == 0 else next(iterator, _END)
        if start is not None:
            start.now.restore()
        if batch is _END and start is not None:
            raise DataError(
                f"the checkpoint was written after {start.skip} batches of an epoch, but the {self._source.label}"
                f" now has no more batches.",
                hint="resume with the original data, or from a checkpoint written at the end of an epoch.",
            )
        if batch is _END and (self._source.required or one_shot) and limit != 0:
            raise empty(self._source.label, one_shot=one_shot)
        while batch is not _END:
            count += 1
            self.before_ahead = self._source.snapshot()
            self._state_before_ahead = kept_state(self._source.loader, midway=True)
            following = _END if count == limit else next(iterator, _END)
            if following is _END:
                self.length = count
            yield batch
            batch = following
        self.length = count

    def _remember(self, batches: Iterator[Any]) -> Iterator[Any]:
        kept = []
        for batch in batches:
            kept.append(batch)
            if len(kept) == self.length:  # a backend that knows the length asks for no more
                self._kept = kept
            yield batch
