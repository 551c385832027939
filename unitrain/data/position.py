"""Mid-epoch resume: restores the position of the loader and the random state."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch.utils.data import DataLoader, IterableDataset

from unitrain.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from unitrain.data.workers import Workers
    from unitrain.utilities.rng import RngSnapshot


@dataclass(frozen=True, kw_only=True)
class Position:
    """The position at which to resume an epoch of another run.

    Attributes:
        skip: Number of batches already done.
        at_iter: State of the global generators when the loader's iterator was created.
        before_ahead: State of the generators before a batch was read ahead, if one was.
        now: State of the generators when the checkpoint was written.
        loader: State of the loader or dataset that tracks its own position, if any.
        at_first: State of the generators before the first batch was read, if others have drawn since ``at_iter``.
    """

    skip: int
    at_iter: RngSnapshot
    before_ahead: RngSnapshot | None
    now: RngSnapshot
    loader: Any = None
    at_first: RngSnapshot | None = None


class Positioned(ABC):
    """A loader that names the object with its position."""

    @abstractmethod
    def keeper(self, *, midway: bool) -> Any:
        """Return what keeps it in a ``state_dict``, or None; ``midway`` is within an epoch."""


def keeper(loader: Any, *, midway: bool) -> Any:
    """Return the object whose ``state_dict`` has the position of the data, or None.

    That is a loader with ``state_dict`` and ``load_state_dict`` (torchdata's StatefulDataLoader), or the
    IterableDataset of a DataLoader without workers; the states of copies in workers are unknown here. Between epochs a
    DataLoader restarts, so only its dataset's state counts.

    Args:
        loader: The user's loader.
        midway: Whether the position is within an epoch.
    """
    if isinstance(loader, Positioned):
        return loader.keeper(midway=midway)
    if isinstance(loader, DataLoader) and not (midway and _stateful(loader)):
        dataset = loader.dataset
        in_process = isinstance(dataset, IterableDataset) and not loader.num_workers
        return dataset if in_process and _stateful(dataset) else None
    return loader if _stateful(loader) else None


def _stateful(one: Any) -> bool:
    return all(callable(getattr(one, name, None)) for name in ("state_dict", "load_state_dict"))


def kept_state(loader: Any, *, midway: bool) -> Any:
    """Return a copy of the state of the ``keeper`` of ``loader``, or None."""
    found = keeper(loader, midway=midway)
    return None if found is None else copied_state(found)


def copied_state(holder: Any) -> Any:
    """Return a copy of the state of a ``keeper``.

    Raises:
        DataError: If a part of it cannot be copied; the message names the place.
    """
    state = holder.state_dict()
    try:
        return copy.deepcopy(state)
    except Exception as error:
        place, part, reason = _uncopied(state, f"{type(holder).__name__}.state_dict()", error)
        raise DataError(
            f"{place} is a {type(part).__name__}, which cannot be copied, so the data position cannot be saved:"
            f" {reason}",
            hint="return plain values from state_dict(): dicts, numbers, strings and tensors.",
        ) from error


def _uncopied(value: Any, place: str, error: Exception) -> tuple[str, Any, Exception]:
    """Return the innermost part of ``value`` that cannot be copied: its place, the part and the reason."""
    items: list[tuple[Any, Any]] = []
    if isinstance(value, Mapping):
        items = list(value.items())
    elif isinstance(value, (list, tuple)):
        items = list(enumerate(value))
    for key, item in items:
        try:
            copy.deepcopy(item)
        except RecursionError:  # it holds itself, or is as good as endless
            break
        except Exception as inner:  # noqa: BLE001 - any class may refuse in its own way
            return _uncopied(item, f"{place}[{key!r}]", inner)
    return place, value, error


def going_on(loader: Any, start: Position, workers: Workers) -> Iterator[Any]:
    """Return an iterator of ``loader`` from ``start``: with the loader's own state if it has one, else by skipping.

    Args:
        loader: The loader to iterate.
        start: The position to start from.
        workers: The workers of the run.
    """
    found = keeper(loader, midway=True)
    if start.loader is None or found is None:
        return skipped(loader, start.skip, workers, start.at_first)
    found.load_state_dict(copy.deepcopy(start.loader))
    iterator: Iterator[Any] = workers.watch(iter(loader))
    return iterator


def skipped(loader: Any, count: int, workers: Workers, at_first: RngSnapshot | None = None) -> Iterator[Any]:
    """Return an iterator of ``loader`` after its first ``count`` batches.

    A list, and a DataLoader without workers and with a batch sampler, skip without reading. Workers have random states
    that only reading advances, so their batches are read and dropped.

    Args:
        loader: The loader to iterate.
        count: Number of batches to skip.
        workers: The workers of the run.
        at_first: State of the generators before the first batch was read, if it differs from the iterator's.
    """
    if isinstance(loader, (list, tuple)):
        return iter(loader[count:])
    stream = isinstance(getattr(loader, "dataset", None), IterableDataset)
    if type(loader) is DataLoader and not stream and not loader.num_workers and loader.batch_sampler is not None:
        return _skipped_unread(loader, count, at_first)
    iterator: Iterator[Any] = workers.watch(iter(loader))
    if at_first is not None:
        at_first.restore()
    for _ in range(count):
        next(iterator, None)
    return iterator


def _skipped_unread(loader: DataLoader[Any], count: int, at_first: RngSnapshot | None) -> Iterator[Any]:
    """Return an iterator over a copy of ``loader`` that draws like the original and reads only the rest."""
    collate = loader.collate_fn
    copy = DataLoader(
        loader.dataset,
        batch_sampler=_SkippingSampler(loader.batch_sampler, count),
        collate_fn=lambda items: collate(items) if items else None,
        pin_memory=loader.pin_memory,
        generator=loader.generator,
    )
    iterator: Iterator[Any] = iter(copy)
    if at_first is not None:
        at_first.restore()
    next(iterator)  # the empty batch: the sampler has drawn its seed, after the loader's, and stands behind the skipped
    return iterator


class _SkippingSampler:
    """A batch sampler whose first batch is empty and replaces the skipped ones."""

    def __init__(self, sampler: Any, count: int) -> None:
        self._sampler = sampler
        self._count = count

    def __iter__(self) -> Iterator[list[Any]]:
        batches = iter(self._sampler)
        for _ in range(self._count):
            next(batches, None)
        yield []
        yield from batches
