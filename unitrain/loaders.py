"""What is a loader, and how many batches it has."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset

from unitrain.errors import DataError


def trusted_length(loader: Iterable[Any]) -> int | None:
    """Return how many batches ``loader`` has, or None if its word is no promise.

    The length of a DataLoader over an IterableDataset is a guess (workers, shards), so it is not trusted.
    """
    if isinstance(loader, DataLoader) and isinstance(loader.dataset, IterableDataset):
        return None
    try:
        return len(loader)  # type: ignore[arg-type]
    except (TypeError, NotImplementedError):
        return None


_NOT_BATCHES: tuple[tuple[Callable[[Any], bool], str], ...] = (
    (lambda given: isinstance(given, Tensor), "DataLoader(TensorDataset(inputs, targets), batch_size=32)"),
    (lambda given: isinstance(given, Mapping), "give one loader; a batch itself may be a mapping."),
    (
        lambda given: isinstance(given, (list, tuple)) and any(isinstance(one, DataLoader) for one in given[:1]),
        "give one loader a stage; torch.utils.data.ConcatDataset joins datasets.",
    ),
    (
        lambda given: isinstance(given, Dataset) and not isinstance(given, IterableDataset),
        "DataLoader(dataset, batch_size=32)",
    ),
    (
        lambda given: isinstance(given, (str, bytes)) or not isinstance(given, Iterable),
        "DataLoader(dataset, batch_size=32), or a list of batches.",
    ),
)
"""What looks like data and does not yield batches, with the mend."""


def check_loader(loader: Any, stage: str) -> None:
    """Refuse what is not an iterable of batches.

    Raises:
        DataError: With what was given and the mend.
    """
    for wrong, hint in _NOT_BATCHES:
        if wrong(loader):
            raise DataError(
                f"the {stage} data must be a DataLoader or another iterable of batches; got a {type(loader).__name__}.",
                hint=hint,
            )
