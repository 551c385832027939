"""The tensors and plain values within a structure, each with the path that leads to it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from unitrain.data.structure import parts

Leaf: TypeAlias = "tuple[str, Any]"
"""A path, and a tensor or a plain value."""

_PLAIN = (type(None), bool, int, float, complex, str, bytes)


def leaves(value: Any, path: str = "", above: frozenset[int] = frozenset()) -> Iterator[Leaf]:
    """Yield the tensors and plain values within ``value``; of any other object, the name of its class.

    Args:
        value: A batch, a model's output, or anything else.
        path: The path of ``value``.
        above: What contains it, by id.
    """
    if isinstance(value, (Tensor, *_PLAIN)):
        yield path, value.item() if isinstance(value, np.generic) else value  # np.float64 is a float
    elif isinstance(value, (np.ndarray, np.generic)):
        yield path, _of_numpy(value)
    elif id(value) not in above and not isinstance(value, nn.Module):
        found = list(_children(value))
        if not found:
            yield path, f"<{type(value).__qualname__}>"
        for step, item in found:
            yield from leaves(item, path + step, above | {id(value)})


def _of_numpy(value: Any) -> Any:
    """Return an array as a tensor; one of texts or objects as bytes."""
    try:
        return torch.from_numpy(np.array(value, copy=True))
    except TypeError:
        return repr(np.asarray(value).tolist())


def _children(value: Any) -> Iterator[Leaf]:
    if isinstance(value, Mapping):
        yield from ((f"[{key!r}]", value[key]) for key in value)
    elif isinstance(value, tuple) and hasattr(value, "_fields"):
        yield from ((f".{name}", getattr(value, name)) for name in value._fields)
    elif isinstance(value, (list, tuple)):
        yield from ((f"[{index}]", item) for index, item in enumerate(value))
    elif isinstance(value, (set, frozenset)):
        yield from ((f"[{index}]", item) for index, item in enumerate(sorted(value, key=repr)))
    elif is_dataclass(value) and not isinstance(value, type):
        yield from ((f".{one.name}", getattr(value, one.name, None)) for one in fields(value))
    else:
        yield from ((f"[{index}]", item) for index, item in enumerate(parts(value)))
