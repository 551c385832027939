"""Fetches whole batches with one index operation per tensor instead of sample by sample."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, StackDataset, Subset, TensorDataset, default_collate

from unitrain.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

T = TypeVar("T")


class Gathered(Dataset[Any]):
    """A dataset of tensors that gives a DataLoader complete batches.

    Args:
        dataset: The dataset to gather from.
    """

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Any:
        return self.dataset[index]

    def __getitems__(self, indices: Sequence[int]) -> list[Any]:
        """Return the batch of ``indices`` as the only item, or no item for none; DataLoader asks for this first."""
        return [_gathered(self.dataset, indices)] if len(indices) else []


def vectorized(loader: DataLoader[T]) -> DataLoader[T]:
    """Return a DataLoader with the batches of ``loader``, each gathered from the dataset's tensors at once.

    Samples, order, random draws and every bit equal those of ``loader``, whose sampler, generator, workers and other
    settings it shares. So a checkpoint written with one can be resumed with the other.

    Args:
        loader: A DataLoader over tensors: a TensorDataset, a tensor, or a Subset (such as from random_split) or a
            StackDataset of these.

    Returns:
        A loader whose batches have the shapes, dtypes and values of those of ``loader``.

    Raises:
        DataError: If the batches are not plain rows of tensors, as with a dataset that computes or a ``collate_fn``.

    Example:
        >>> data = TensorDataset(torch.arange(6.0).reshape(3, 2), torch.arange(3))
        >>> list(vectorized(DataLoader(data, batch_size=2)))[0]
        [tensor([[0., 1.],
                [2., 3.]]), tensor([0, 1])]
    """
    for wrong, what, hint in _REFUSED:
        if wrong(loader):
            raise DataError(f"vectorized() takes a DataLoader over tensors; got {what(loader)}.", hint=hint)
    for reason in _unfit(loader.dataset):
        raise DataError(
            f"vectorized() needs a dataset of plain tensors; this one {reason}.",
            hint="use the loader unchanged, or precompute: TensorDataset(inputs, targets).",
        )
    changed = copy.copy(loader)  # recreated, it would lose batch_size and sampler, by which processes share data out
    vars(changed).update(dataset=Gathered(loader.dataset), collate_fn=_only, _iterator=None)
    return changed


_REFUSED: tuple[tuple[Callable[[Any], bool], Callable[[Any], str], str], ...] = (
    (
        lambda given: not isinstance(given, DataLoader),
        lambda given: f"a {type(given).__name__}",
        "vectorized(DataLoader(TensorDataset(inputs, targets), batch_size=32)).",
    ),
    (
        lambda given: type(given) is not DataLoader,
        lambda given: f"a {type(given).__name__}, which may read differently",
        "pass a plain DataLoader, or use the loader unchanged.",
    ),
    (
        lambda given: isinstance(given.dataset, Gathered),
        lambda _: "one that is vectorized already",
        "call it once.",
    ),
    (
        lambda given: isinstance(given.dataset, IterableDataset),
        lambda given: f"one over a {type(given.dataset).__name__}, an IterableDataset, which has no rows to index",
        "use the loader unchanged, or yield whole batches with batch_size=None.",
    ),
    (
        lambda given: given.batch_sampler is None,
        lambda _: "one with batch_size=None, which makes no batches",
        "set batch_size, or use the loader unchanged.",
    ),
    (
        lambda given: given.collate_fn is not default_collate,
        lambda given: f"one with collate_fn={getattr(given.collate_fn, '__qualname__', given.collate_fn)}",
        "remove collate_fn, or use the loader unchanged.",
    ),
)
"""Unsupported loaders: a test, a description and a hint."""


def _unfit(dataset: Any) -> Iterator[str]:
    """Yield why rows of ``dataset`` cannot be gathered; a subclass may compute, so only the classes themselves can."""
    if isinstance(dataset, Tensor):
        yield from (f"has a tensor that {reason}" for wrong, reason in _NO_ROWS if wrong(dataset))
    elif type(dataset) is TensorDataset:
        for tensor in dataset.tensors:
            yield from _unfit(tensor)
    elif type(dataset) is Subset:
        yield from _unfit(dataset.dataset)
    elif type(dataset) is StackDataset:
        for part in dataset.datasets.values() if isinstance(dataset.datasets, dict) else dataset.datasets:
            yield from _unfit(part)
    else:
        yield f"is or contains a {type(dataset).__name__}, which may compute its samples"


_NO_ROWS: tuple[tuple[Callable[[Tensor], bool], str], ...] = (
    (lambda tensor: type(tensor) is not Tensor, "has a custom class"),
    (lambda tensor: tensor.layout is not torch.strided or tensor.is_nested, "is sparse or nested"),
    (lambda tensor: tensor.requires_grad, "requires grad, which would be summed in another order"),
)
"""Unsupported tensors: a test and a description."""


def _only(items: list[Any]) -> Any:
    """Return the batch that ``Gathered`` made: there is nothing left to collate."""
    (batch,) = items
    return batch


def _gathered(dataset: Any, indices: Sequence[int]) -> Any:
    """Return what ``default_collate([dataset[index] for index in indices])`` does; lists replace tuples."""
    if isinstance(dataset, Subset):
        return _gathered(dataset.dataset, [dataset.indices[index] for index in indices])
    return _taken(dataset, torch.as_tensor(indices))


def _taken(dataset: Any, index: Tensor) -> Any:
    if isinstance(dataset, Tensor):
        return dataset.index_select(0, index.to(dataset.device))  # in the memory format of torch.stack, as [] is not
    if isinstance(dataset, TensorDataset):
        return [_taken(tensor, index) for tensor in dataset.tensors]
    if isinstance(dataset, Subset):
        return _gathered(dataset, index.tolist())
    if isinstance(dataset.datasets, dict):
        return {key: _taken(part, index) for key, part in dataset.datasets.items()}
    return [_taken(part, index) for part in dataset.datasets]
