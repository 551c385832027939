"""A loader with a limited number of batches per epoch."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any

from unitrain.data.loaders import check_loader, trusted_length
from unitrain.data.sources import DataSource
from unitrain.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from unitrain.config import TrainerConfig


class Limited:
    """The first batches of a loader, which is restarted in each epoch.

    ``epoch_length`` differs: with it, the next epoch continues with the data.

    Args:
        loader: The user's loader.
        count: Number of batches.
    """

    def __init__(self, loader: Iterable[Any], count: int) -> None:
        self._loader = loader
        self._count = count

    def __len__(self) -> int:
        length = trusted_length(self._loader)
        if length is None:
            raise TypeError("a loader without a length")  # Ignite counts the first epoch's batches
        return min(self._count, length)

    def __iter__(self) -> Iterator[Any]:
        return islice(iter(self._loader), self._count)


def limited(loader: Any, config: TrainerConfig, epoch_length: int | None) -> Any:
    """Return the batches to train on.

    Raises:
        DataError: If it is not an iterable of batches.
        ConfigError: If the limit leaves none, or there are two limits.
    """
    limit = config.limit_train_batches
    if isinstance(limit, float) and limit == 1.0:
        return loader
    if epoch_length is not None:
        raise ConfigError(
            f"epoch_length={epoch_length} and limit_train_batches={limit!r} both set the length of an epoch.",
            hint="use one of them: epoch_length continues with the data, limit_train_batches restarts it.",
        )
    check_loader(loader, "train")
    count = limit if isinstance(limit, int) else DataSource(loader, "train", limit).length
    if not count:
        raise ConfigError(f"limit_train_batches={limit!r} leaves no batches.", hint="1.0 means all.")
    return Limited(loader, count)
