"""How the reference loop converts and counts a batch: naive, sharing only words with ``unitrain.data.batch``."""

from __future__ import annotations

import copy
import warnings
from collections import OrderedDict, UserList, defaultdict
from collections.abc import Mapping
from dataclasses import is_dataclass
from functools import partial
from types import MappingProxyType, SimpleNamespace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence
from torch.utils import _pytree as pytree

from unitrain.data.batch import checked_size, guessed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from unitrain.spec import TrainSpec


def cast(value: Any, dtype: torch.dtype | None, done: dict[int, Any] | None = None) -> Any:
    """Return a batch with its floating tensors in ``dtype``; ``done`` is what has been copied already, by its id."""
    if dtype is None:
        return value
    done = {} if done is None else done
    if id(value) not in done:
        done[id(value)] = value, _cast(value, partial(cast, dtype=dtype, done=done), done)
    return done[id(value)][1]


def _cast(value: Any, inner: Callable[[Any], Any], done: dict[int, Any]) -> Any:
    if isinstance(value, Tensor):
        return value.to(inner.keywords["dtype"]) if value.is_floating_point() else value  # type: ignore[attr-defined]
    if _has_apply(value):
        return copy.copy(value).apply(inner)
    if type(value) in (list, tuple, dict, MappingProxyType):
        items = value.items() if isinstance(value, Mapping) else enumerate(value)
        found = {key: inner(item) for key, item in items}
        return type(value)(found if isinstance(value, Mapping) else found.values())
    if isinstance(value, tuple):
        same = tuple.__new__(type(value), [inner(item) for item in value])
        for name, one in getattr(value, "__dict__", {}).items():
            setattr(same, name, inner(one))
        return same
    if _is_made_of_parts(value):
        hidden = hasattr(type(value), "to") and not _holds_tensors(value, [])
        return _cast_by_itself(value, **inner.keywords) if hidden else _cast_parts(value, inner, done)  # type: ignore[attr-defined]
    if type(value) in pytree.SUPPORTED_NODES:
        leaves, structure = pytree.tree_flatten(value)
        return pytree.tree_unflatten([inner(leaf) for leaf in leaves], structure)
    return value


def _cast_by_itself(value: Any, dtype: torch.dtype, **_: Any) -> Any:
    own = copy.copy(value)
    try:
        converted = own.to(dtype)
    except Exception:  # noqa: BLE001 - it takes a device only
        return value
    return own if converted is None else converted


def _cast_parts(value: Any, inner: Callable[[Any], Any], done: dict[int, Any]) -> Any:
    base: Any = next(
        one for one in (OrderedDict, defaultdict, dict, list, SimpleNamespace, object) if isinstance(value, one)
    )
    same = base.__new__(type(value))
    done[id(value)] = value, same
    if isinstance(value, defaultdict):
        same.default_factory = value.default_factory
    for key in list(value) if isinstance(value, dict) else ():
        base.__setitem__(same, key, inner(value[key]))
    if isinstance(value, list):
        same[:] = [inner(item) for item in value]
    for name in _names(value):
        object.__setattr__(same, name, inner(getattr(value, name)))
    return same


def _has_apply(value: Any) -> bool:
    return any(one.__module__.startswith(("tensordict.", "torch_geometric.")) for one in type(value).__mro__)


def _holds_tensors(value: Any, seen: list[int]) -> bool:
    if isinstance(value, Tensor) or id(value) in seen:
        return isinstance(value, Tensor)
    seen.append(id(value))
    return any(_holds_tensors(part, seen) for part in _parts(value))


def _is_made_of_parts(value: Any) -> bool:
    known = isinstance(value, (Mapping, list, UserList, SimpleNamespace)) or hasattr(type(value), "to")
    plain = isinstance(value, (nn.Module, type, MappingProxyType))
    return (known or is_dataclass(value) or hasattr(value, "__attrs_attrs__")) and not plain


def _names(value: Any) -> list[str]:
    """Return the names of the attributes that are set."""
    slots = [name for cls in type(value).__mro__ for name in getattr(cls, "__slots__", ())]
    names = [name for name in (*slots, *getattr(value, "__dict__", {})) if hasattr(value, name)]
    return [name for name in names if not name.startswith("__")]


class Counting(Protocol):
    """The spec, the running stage such as ``"val/"``, and the stages whose batch size was guessed."""

    spec: TrainSpec
    prefix: str
    warned: list[str]


def size_of(run: Counting, batch: Any) -> int:
    """Return the number of samples in the batch: given by the spec, else known, else guessed, with a warning."""
    given = run.spec.batch_size
    if given is not None:
        return checked_size(given(batch), batch) if callable(given) else given
    if isinstance(batch, (Tensor, str, int, float)):
        return len(batch) if isinstance(batch, Tensor) and batch.ndim else 1
    sizes = says(batch) or rows(target_of(batch))
    if len(sizes) != 1:
        rest = _samples(batch) or _shared(rows(part) for part in others(batch))
        sizes = [size for size in sizes if size in rest] or sizes or rest
    size = sizes[0] if sizes else 1
    stage = run.prefix.partition("/")[0]
    if len(sizes) != 1 and stage != "predict" and stage not in run.warned:
        run.warned.append(stage)
        warnings.warn(guessed(batch, size, stage), stacklevel=2)
    return size


def says(value: Any) -> list[int]:
    """Return how many samples a batch says it has."""
    if isinstance(value, PackedSequence):
        return [int(value.batch_sizes[0])]
    said = [getattr(value, "batch_size", None), getattr(value, "num_graphs", None)]
    said = [one[0] if isinstance(one, torch.Size) and one else one for one in said]
    return [one for one in said if type(one) is int][:1]


def target_of(batch: Any) -> Any:
    """Return the target in a batch, or None."""
    if isinstance(batch, (tuple, list)):
        return batch[1] if len(batch) == 2 else getattr(batch, "target", getattr(batch, "y", None))  # noqa: PLR2004
    for name in ("target", "targets", "label", "labels", "y"):
        found = batch.get(name) if isinstance(batch, Mapping) else getattr(batch, name, None)
        if found is not None:
            return found
    return None


def others(batch: Any) -> list[Any]:
    """Return the parts of a batch that are not its target."""
    target = target_of(batch)
    return [part for part in _parts(batch) if part is not target]


def rows(value: Any) -> list[int]:
    """Return how many samples a part of a batch may be of."""
    if isinstance(value, (Tensor, np.ndarray)):
        return [int(value.size(0) if isinstance(value, Tensor) else value.shape[0])] if value.ndim else []
    if says(value):
        return says(value)
    each = [rows(part) for part in _parts(value)]
    if type(value) not in (list, tuple):
        return _shared(each)
    if not any(each):
        return [len(value)] if value else []
    if _samples(value):
        return _samples(value)
    same = _shared(each)
    if not all(isinstance(one, (Tensor, np.ndarray)) for one in value):
        return same
    return list(dict.fromkeys([*same, len(value)])) if len(same) == 1 else [len(value)]


def _samples(value: Any) -> list[int]:
    """Return the length of a list of samples."""
    if type(value) not in (list, tuple) or not value or len({type(one) for one in value}) > 1:
        return []
    first = value[0]
    if isinstance(first, (Tensor, np.ndarray)):
        return []
    if isinstance(first, (list, tuple)):
        if any(not rows(part) for part in first):
            return [len(value)]
        same = _shared([rows(one) for one in value])
        if len(value) == 1:
            return same
        return list(dict.fromkeys([*same, len(value)])) if len(same) == 1 else [len(value)]
    if isinstance(first, Mapping) and any(one.keys() != first.keys() for one in value):
        return []
    return [len(value)] if _parts(first) or isinstance(first, (Mapping, str, int, float)) else []


def _shared(each: Iterable[list[int]]) -> list[int]:
    """Return the sizes that all lists have, or else all sizes, the most frequent first."""
    lists = [sizes for sizes in each if sizes]
    sizes = list(dict.fromkeys(size for one in lists for size in one))
    in_all = [size for size in sizes if all(size in one for one in lists)]
    return in_all or sorted(sizes, key=lambda size: -sum(size in one for one in lists))


def _parts(value: Any) -> list[Any]:
    if _has_apply(value):
        return list(value.to_dict().values())
    if isinstance(value, Mapping):
        return list(value.values())
    if isinstance(value, (tuple, list)):
        return list(value)
    return [getattr(value, name) for name in _names(value)] if _is_made_of_parts(value) else []
