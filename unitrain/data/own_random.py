"""Random states that samplers, datasets and transforms keep themselves, which a resumed run continues."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch.utils.data import DataLoader

from unitrain.data.loaders import generators_of, members_of
from unitrain.utilities.rng import kind_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_WITHIN = ("batch_sampler", "sampler", "dataset", "datasets", "transform", "transforms", "target_transform")
"""The attributes in which a loader and its parts keep what they consist of."""
_DEEPEST = 8
_MOST = 100
"""How many datasets, or transforms, of a list are looked at."""


def own_random(loaders: Iterable[Any]) -> dict[str, Any]:
    """Return the generators of Python, NumPy and torch in the parts of ``loaders`` by their places, each once.

    Without those that ``generators_of`` finds. What a worker process has is a copy, of which nothing is known here.
    """
    loaders = [one for given in loaders for one in members_of(given)]
    seen = {id(one) for loader in loaders for one in generators_of(loader)}
    found: dict[str, Any] = {}
    for number, loader in enumerate(loaders):
        for place, one in _found(loader, str(number), 0):
            if id(one) not in seen:
                seen.add(id(one))
                found[place] = one
    return found


def _found(part: Any, place: str, depth: int) -> Iterator[tuple[str, Any]]:
    held = getattr(part, "__dict__", None)
    if not isinstance(held, dict) or depth > _DEEPEST:
        return
    yield from ((f"{place}.{name}", one) for name, one in held.items() if kind_of(one) is not None)
    if isinstance(part, DataLoader):
        held = {name: getattr(part, name, None) for name in ("batch_sampler", "sampler", "dataset")}
    for name in _WITHIN:
        inner = held.get(name)
        for index, one in enumerate(inner[:_MOST] if isinstance(inner, (list, tuple)) else (inner,)):
            yield from _found(one, f"{place}.{name}.{index}", depth + 1)
