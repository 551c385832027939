"""What a batch is made of: its size, its parts, its device, and how to show it to a person."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any

import torch
from torch import Tensor

from unitrain.errors import DataError

INPUT, TARGET = "input", "target"
_PAIR = 2
_SHOWN = 6


def unpack(batch: Any) -> tuple[Any, Any]:
    """Return the ``(input, target)`` of a batch that the default steps understand.

    Args:
        batch: A sequence of two, or a mapping with the keys ``"input"`` and ``"target"``.

    Raises:
        DataError: If it is neither; the message shows its structure.
    """
    if isinstance(batch, (tuple, list)) and len(batch) == _PAIR:
        return batch[0], batch[1]
    if isinstance(batch, Mapping) and INPUT in batch and TARGET in batch:
        return batch[INPUT], batch[TARGET]
    raise DataError(
        f'A batch must be (input, target) or a mapping with "{INPUT}" and "{TARGET}"; got {describe(batch)}.',
        hint="give TrainSpec(training_step=, validation_step=) for any other structure.",
    )


def model_input(batch: Any) -> Any:
    """Return what the model is called with at prediction: the input of a pair or mapping, else the whole batch."""
    if isinstance(batch, (tuple, list)) and len(batch) == _PAIR:
        return batch[0]
    if isinstance(batch, Mapping) and INPUT in batch:
        return batch[INPUT]
    return batch[0] if isinstance(batch, (tuple, list)) and len(batch) == 1 else batch


def batch_size(batch: Any) -> int:
    """Return the number of samples: the first dimension of the first tensor with one, or 1 if there is none."""
    if isinstance(batch, Tensor):
        return batch.shape[0] if batch.ndim else 1
    if isinstance(batch, (tuple, list)) and batch and isinstance(batch[0], Tensor) and batch[0].ndim:
        return batch[0].shape[0]
    for tensor in tensors(batch):
        if tensor.ndim:
            return tensor.shape[0]
    return 1


def tensors(value: Any) -> Iterator[Tensor]:
    """Yield the tensors inside nested tuples, lists, mappings and dataclasses, depth first."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from tensors(item)
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from tensors(item)
    elif is_dataclass(value) and not isinstance(value, type):
        for field in fields(value):
            yield from tensors(getattr(value, field.name))


def to_device(value: Any, device: torch.device) -> Any:
    """Return ``value`` with everything that has a ``to(device)`` moved; containers keep their type."""
    if isinstance(value, Tensor):
        return value.to(device, non_blocking=device.type == "cuda")
    if isinstance(value, Mapping):
        moved = {key: to_device(item, device) for key, item in value.items()}
        return moved if type(value) is dict else _rebuilt(value, moved)
    if isinstance(value, (tuple, list)):
        items = [to_device(item, device) for item in value]
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    if callable(getattr(value, "to", None)):
        return value.to(device)
    if is_dataclass(value) and not isinstance(value, type):
        changes = {f.name: to_device(getattr(value, f.name), device) for f in fields(value) if f.init}
        return replace(value, **changes)
    return value


def to_dtype(value: Any, dtype: torch.dtype) -> Any:
    """Return ``value`` with every floating tensor in ``dtype``; containers keep their type."""
    if isinstance(value, Tensor):
        return value.to(dtype) if value.is_floating_point() else value
    if isinstance(value, Mapping):
        cast = {key: to_dtype(item, dtype) for key, item in value.items()}
        return cast if type(value) is dict else _rebuilt(value, cast)
    if isinstance(value, (tuple, list)):
        items = [to_dtype(item, dtype) for item in value]
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{f.name: to_dtype(getattr(value, f.name), dtype) for f in fields(value) if f.init})
    return value


def _rebuilt(original: Mapping[Any, Any], items: dict[Any, Any]) -> Any:
    try:
        return type(original)(items)  # type: ignore[call-arg]
    except TypeError:  # a mapping with a constructor of its own
        return items


def describe(value: Any) -> str:
    """Return the structure of a batch in words: ``tuple of 2 (Tensor (32, 64) float32, Tensor (32,) int64)``."""
    if isinstance(value, Tensor):
        return f"Tensor {tuple(value.shape)} {str(value.dtype).removeprefix('torch.')}"
    if isinstance(value, Mapping):
        parts = [f"{key!r}: {describe(item)}" for key, item in list(value.items())[:_SHOWN]]
        return f"{type(value).__name__} of {len(value)} {{{', '.join(parts)}{_more(value)}}}"
    if isinstance(value, (tuple, list)):
        parts = [describe(item) for item in value[:_SHOWN]]
        return f"{type(value).__name__} of {len(value)} ({', '.join(parts)}{_more(value)})"
    return f"{type(value).__name__} {value!r}"[:80]


def _more(value: Any) -> str:
    return ", ..." if len(value) > _SHOWN else ""
