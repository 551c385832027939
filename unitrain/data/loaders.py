"""Loader validation, lengths, and the loaders of an evaluation."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import is_dataclass
from typing import Any

from torch import Generator, Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset

from unitrain.errors import DataError


class Loader:
    """Marks classes whose objects are loaders, so that a list of them is a list of loaders.

    Attributes:
        members: The combined loaders, if there are several.
    """

    members: Sequence[Any] = ()


def members_of(loader: Any) -> list[Any]:
    """Return the loaders that ``loader`` combines, or itself."""
    if isinstance(loader, Loader) and loader.members:
        return [one for member in loader.members for one in members_of(member)]
    return [loader]


def samplers_of(loader: Any) -> list[Any]:
    """Return the samplers of ``loader`` and of those that it combines, each once."""
    found = []
    for one in members_of(loader):
        batch_sampler = getattr(one, "batch_sampler", None)
        found += [getattr(one, "sampler", None), batch_sampler, getattr(batch_sampler, "sampler", None)]
    return list({id(one): one for one in found if one is not None}.values())


def generators_of(loader: Any) -> list[Generator]:
    """Return the generators that ``loader`` and its samplers draw from, which another loader may share."""
    found = [getattr(part, "generator", None) for part in [*members_of(loader), *samplers_of(loader)]]
    return [one for one in found if isinstance(one, Generator)]


def trusted_length(loader: Iterable[Any]) -> int | None:
    """Return the number of batches of ``loader``, or None if its length cannot be trusted.

    The length of a DataLoader over an IterableDataset is an estimate (workers, shards), so it is not trusted.
    """
    if isinstance(loader, DataLoader) and isinstance(loader.dataset, IterableDataset):
        return None
    try:
        return len(loader)  # type: ignore[arg-type]
    except (TypeError, NotImplementedError):
        return None


def named_loaders(given: Any, stage: str) -> Mapping[str | None, Any]:
    """Return the loaders of an evaluation by name; a single one has the name None.

    Args:
        given: One loader, a mapping of names to loaders, or a list of loaders, whose names are "0", "1" and so on. A
            list of a single loader is that loader.
        stage: The stage, for messages.

    Raises:
        DataError: If a name cannot be part of a metric's name, or it is unclear whether a list holds loaders or
            batches.
    """
    if isinstance(given, Mapping):
        for name in given:
            if not isinstance(name, str) or not name or "/" in name:
                raise DataError(
                    f"the name of a {stage} loader must be a string that can be part of metric names; got {name!r}.",
                    hint='{"clean": loader, "noisy": loader}',
                )
        if not given:
            raise DataError(f"the {stage} data is an empty mapping.", hint='{"clean": loader}')
        return given
    if not holds_loaders(given, stage):
        return {None: given}
    return {None: given[0]} if len(given) == 1 else {str(index): one for index, one in enumerate(given)}


def holds_loaders(given: Any, stage: str) -> bool:
    """Return whether ``given`` is a list of loaders; a list of batches is a loader itself.

    Raises:
        DataError: If that cannot be determined.
    """
    if not isinstance(given, (list, tuple)) or not given:
        return False
    surely = [_is_loader(one) for one in given]
    if all(surely):
        return True
    doubtful = next((one for one in given if _is_loader(one) or _may_be_loader(one)), None)
    if doubtful is None:
        return False
    raise DataError(
        f"the {stage} data is a {type(given).__name__} with a {type(doubtful).__name__}, which could be a list of"
        f" loaders or of batches.",
        hint='{"a": loader, "b": loader} for several loaders, DataLoader(batches, batch_size=None) for batches.',
    )


def _is_loader(one: Any) -> bool:
    return isinstance(one, (DataLoader, IterableDataset, Loader, Iterator))


def _may_be_loader(one: Any) -> bool:
    """Return whether ``one`` is iterable and not like a batch."""
    if isinstance(one, (Tensor, Mapping, Sequence)) or is_dataclass(one):
        return False
    return isinstance(one, Iterable) and not hasattr(one, "to") and not hasattr(one, "__array__")


_NOT_BATCHES: tuple[tuple[Callable[[Any], bool], str], ...] = (
    (lambda given: isinstance(given, Tensor), "DataLoader(TensorDataset(inputs, targets), batch_size=32)"),
    (lambda given: isinstance(given, Mapping), "pass one loader; its batches may be mappings."),
    (
        lambda given: isinstance(given, (list, tuple)) and any(isinstance(one, DataLoader) for one in given[:1]),
        "pass one loader; torch.utils.data.ConcatDataset joins datasets.",
    ),
    (
        lambda given: isinstance(given, Dataset) and not isinstance(given, IterableDataset),
        "DataLoader(dataset, batch_size=32)",
    ),
    (
        lambda given: callable(given) and not isinstance(given, (type, Iterable)),
        "call it, or set reload_dataloaders_every_n_epochs=1 so that fit() calls it every epoch.",
    ),
    (
        lambda given: isinstance(given, (str, bytes)) or not isinstance(given, Iterable),
        "DataLoader(dataset, batch_size=32), or a list of batches.",
    ),
)
"""Objects that look like data but do not yield batches, with hints."""


def check_loader(loader: Any, stage: str, name: str | None = None) -> None:
    """Refuse anything that is not an iterable of batches.

    Args:
        loader: The given loader.
        stage: The stage, for messages.
        name: Name of the loader among several.

    Raises:
        DataError: If it is not; the message says what to pass instead.
    """
    for wrong, hint in _NOT_BATCHES:
        if wrong(loader):
            raise DataError(
                f"the {stage} data{'' if name is None else f' {name!r}'} must be a DataLoader or another iterable of"
                f" batches; got a {type(loader).__name__}.",
                hint=hint,
            )
