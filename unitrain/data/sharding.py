"""Shards data across processes.

Training is what torch's ``DistributedSampler`` does: one order for all, drawn from one seed and the epoch, of which
each process takes every n-th sample; samples are repeated where the number does not divide. An evaluation repeats
nothing: each process takes a run of neighbouring samples, and some have one more than others.
"""

from __future__ import annotations

import copy
import itertools
import math
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.data import BatchSampler, DataLoader, DistributedSampler, IterableDataset, Sampler, SequentialSampler

from unitrain.data.loaders import Loader
from unitrain.errors import DataError
from unitrain.utilities.rng import preserved_rng, seed_everything

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sized

    from unitrain.distributed.collectives import Collectives

TRAIN = "train"


class ShardedBatches(Loader):
    """The batches of ``loader`` divided among the processes of a run: each takes every n-th.

    For data that has no sampler to shard: lists of batches, generators, IterableDatasets. Each process reads all of it
    and drops what belongs to others. In training, the last batches are dropped if there are not enough for every
    process.

    Args:
        loader: Yields the same batches on every process.

    Example:
        >>> data = ShardedBatches(batches)  # the same on every process; each trains on its share
    """

    def __init__(self, loader: Iterable[Any]) -> None:
        self.loader = loader


class OwnBatches(Loader):
    """The batches of ``loader`` unchanged: it already yields only this process's share.

    Args:
        loader: Yields this process's share; in training, every process must have the same number of batches.

    Example:
        >>> def own_part():
        ...     yield from batches  # what this process alone trains on
        >>> data = OwnBatches(list(own_part()))
    """

    def __init__(self, loader: Iterable[Any]) -> None:
        self.loader = loader


class RoundRobinBatches:
    """Every n-th batch of a loader.

    Args:
        loader: The loader of all batches.
        team: The processes that share them.
        even: Whether all processes get the same number.
    """

    def __init__(self, loader: Iterable[Any], team: Collectives, *, even: bool) -> None:
        self._loader = loader
        self._team = team
        self._even = even

    def __iter__(self) -> Iterator[Any]:
        batches, size = iter(self._loader), self._team.size
        while len(turn := list(itertools.islice(batches, size))) == size:
            yield turn[self._team.rank]
        if not self._even and len(turn) > self._team.rank:
            yield turn[self._team.rank]


class SharedOrderSampler(Sampler[int]):
    """A sampler's order, drawn alike on every process, of which each takes every n-th; the first fill up the last turn.

    Args:
        sampler: The sampler, which draws from the global generators or its own.
        team: The processes that share it.
        seed: The seed, equal on all processes.
    """

    def __init__(self, sampler: Iterable[int], team: Collectives, seed: int) -> None:
        self._sampler = sampler
        self._team = team
        self.seed = seed
        self._epoch = 0
        self.generator = getattr(sampler, "generator", None)  # kept in checkpoints

    def set_epoch(self, epoch: int) -> None:
        """Draw another order in another epoch."""
        self._epoch = epoch
        if callable(getattr(self._sampler, "set_epoch", None)):
            self._sampler.set_epoch(epoch)  # type: ignore[attr-defined]

    def __iter__(self) -> Iterator[int]:
        order = _drawn(self._sampler, self.seed + self._epoch)
        padded = itertools.islice(itertools.cycle(order), len(self) * self._team.size)
        return itertools.islice(padded, self._team.rank, None, self._team.size)

    def __len__(self) -> int:
        return math.ceil(len(self._sampler) / self._team.size)  # type: ignore[arg-type]


def _drawn(sampler: Iterable[int], seed: int) -> list[int]:
    """Return the order of ``sampler`` drawn from ``seed``, and leave no trace in the generators of this process."""
    with preserved_rng():
        seed_everything(seed % _SEEDS)
        return list(sampler)


_SEEDS = 2**32


class ContiguousSampler(Sampler[int]):
    """A run of neighbouring samples of an order, without repeating any.

    Args:
        sampler: The sampler of the whole order.
        team: The processes that share it.
        seed: The seed of a random order, equal on all processes.
    """

    def __init__(self, sampler: Sized, team: Collectives, seed: int) -> None:
        self._sampler: Any = sampler
        self.seed = seed
        base, more = divmod(len(sampler), team.size)
        self._first = team.rank * base + min(team.rank, more)
        self._count = base + (team.rank < more)

    def __iter__(self) -> Iterator[int]:
        order = self._sampler if isinstance(self._sampler, SequentialSampler) else _drawn(self._sampler, self.seed)
        return itertools.islice(iter(order), self._first, self._first + self._count)

    def __len__(self) -> int:
        return self._count


def shard(loader: Any, stage: str, team: Collectives, seed: int) -> Any:
    """Return the part of ``loader`` that this process reads; for a team of one, all of it.

    Args:
        loader: The user's loader.
        stage: The stage. Training draws an order and repeats samples; an evaluation does neither.
        team: The processes that share the data.
        seed: Seed of the training order.

    Raises:
        DataError: If the user must decide how to share the loader, or it has fewer samples than there are processes.
    """
    if loader is None or isinstance(loader, OwnBatches) or team.size == 1:
        return loader.loader if isinstance(loader, (OwnBatches, ShardedBatches)) else loader
    if isinstance(loader, ShardedBatches):
        return RoundRobinBatches(loader.loader, team, even=stage == TRAIN)
    if not isinstance(loader, DataLoader) or isinstance(loader.dataset, IterableDataset):
        raise _ambiguous(stage, f"a {type(loader).__name__}")
    if isinstance(loader.sampler, DistributedSampler):
        return _checked(loader, stage, team)
    if type(loader.batch_sampler) is not BatchSampler:
        raise _ambiguous(stage, f"a DataLoader with a custom {type(loader.batch_sampler).__name__}")
    if len(loader.sampler) < team.size:  # type: ignore[arg-type]
        raise DataError(
            f"the {stage} data has {len(loader.sampler)} samples for {team.size} processes.",  # type: ignore[arg-type]
            hint="use fewer devices, or more data.",
        )
    sampler = _training_sampler(loader, team, seed) if stage == TRAIN else ContiguousSampler(loader.sampler, team, seed)  # type: ignore[arg-type]
    return _with_sampler(loader, sampler)


def _training_sampler(loader: DataLoader[Any], team: Collectives, seed: int) -> Sampler[int]:
    given = loader.sampler
    plain = type(given) is SequentialSampler or _plainly_shuffled(given)
    if not plain:
        return SharedOrderSampler(given, team, seed)
    return DistributedSampler(
        loader.dataset,
        num_replicas=team.size,
        rank=team.rank,
        shuffle=type(given) is not SequentialSampler,
        seed=seed,
        drop_last=loader.drop_last,
    )


def _plainly_shuffled(sampler: Any) -> bool:
    """Return whether it is the sampler that ``DataLoader(shuffle=True)`` makes."""
    is_random = type(sampler) is torch.utils.data.RandomSampler
    return is_random and not sampler.replacement and sampler.generator is None and sampler._num_samples is None  # noqa: SLF001


def _with_sampler(loader: DataLoader[Any], sampler: Sampler[int]) -> DataLoader[Any]:
    """Return ``loader`` with another sampler; DataLoader refuses to be changed, and a subclass to be recreated."""
    changed = copy.copy(loader)
    vars(changed)["sampler"] = sampler
    vars(changed)["batch_sampler"] = BatchSampler(sampler, loader.batch_size or 1, loader.drop_last)
    return changed


def _checked(loader: DataLoader[Any], stage: str, team: Collectives) -> DataLoader[Any]:
    sampler: Any = loader.sampler
    if (sampler.num_replicas, sampler.rank) != (team.size, team.rank):
        raise DataError(
            f"the {stage} loader's DistributedSampler is for rank {sampler.rank} of {sampler.num_replicas}; this"
            f" process is rank {team.rank} of {team.size}.",
            hint="remove the sampler; unitrain shards the data.",
        )
    return loader


def _ambiguous(stage: str, what: str) -> DataError:
    return DataError(
        f"the {stage} data is {what}; unitrain cannot tell whether every process should read all of it or only its"
        f" share.",
        hint="use ShardedBatches(loader) to distribute its batches, or OwnBatches(loader) if it already yields only"
        " this process's share.",
    )
