"""Random states that samplers, datasets and transforms keep themselves, which a resumed run continues."""

from __future__ import annotations

import random
import sys
from typing import TYPE_CHECKING, Any

from torch import Generator
from torch.utils.data import DataLoader

from unitrain.data.loaders import generators_of, members_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_WITHIN = ("batch_sampler", "sampler", "dataset", "datasets", "transform", "transforms", "target_transform")
"""The attributes in which a loader and its parts keep what they consist of."""
_DEEPEST = 8
_MOST = 100
"""How many datasets, or transforms, of a list are looked at."""


def own_random(loaders: Iterable[Any]) -> list[Any]:
    """Return the generators of Python, NumPy and torch in the parts of ``loaders``, each once.

    Without those that ``generators_of`` finds. What a worker process has is a copy, of which nothing is known here.
    """
    loaders = [one for given in loaders for one in members_of(given)]
    known = {id(one) for loader in loaders for one in generators_of(loader)}
    found = {id(one): one for loader in loaders for one in _found(loader, 0)}
    return [one for number, one in found.items() if number not in known]


def _found(part: Any, depth: int) -> Iterator[Any]:
    held = getattr(part, "__dict__", None)
    if not isinstance(held, dict) or depth > _DEEPEST:
        return
    kinds = _kinds()
    yield from (one for one in held.values() if isinstance(one, kinds))
    if isinstance(part, DataLoader):
        held = {name: getattr(part, name, None) for name in ("batch_sampler", "sampler", "dataset")}
    for name in _WITHIN:
        inner = held.get(name)
        for one in inner[:_MOST] if isinstance(inner, (list, tuple)) else (inner,):
            yield from _found(one, depth + 1)


def _kinds() -> tuple[type[Any], ...]:
    numpy = sys.modules.get("numpy")
    return (Generator, random.Random, *(() if numpy is None else (numpy.random.Generator, numpy.random.RandomState)))
