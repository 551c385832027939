"""Batches: size, parts, device and description."""

from __future__ import annotations

import copy
import operator
import warnings
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Tensor, nn

from unitrain.data.counting import counted
from unitrain.data.structure import Mapped, movable, tensors
from unitrain.errors import DataError, SpecError

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
        hint=_unpacking(batch),
    )


_OTHER_INPUTS = ("x", "inputs", "image", "images", "img", "pixel_values", "features", "data", "input_ids")
_OTHER_TARGETS = ("y", "label", "labels", "targets", "target", "class", "mask")


def _unpacking(batch: Any) -> str:
    """Return a hint on unpacking ``batch``, with its own keys if they are common ones."""
    keys = list(batch) if isinstance(batch, Mapping) else []
    source = next((key for key in (INPUT, *_OTHER_INPUTS) if key in keys), None)
    target = next((key for key in _OTHER_TARGETS if key in keys), None)
    if source is None or target is None:
        return "pass TrainSpec(training_step=, validation_step=) for any other structure."
    pair = f'model(batch["{source}"]), batch["{target}"]'
    return (
        f'rename the keys to "{INPUT}" and "{TARGET}", or pass'
        f" TrainSpec(training_step=lambda model, batch: loss({pair}), validation_step=lambda model, batch: ({pair}))."
    )


def model_input(batch: Any) -> Any:
    """Return the model's input for a prediction: the input of a pair or mapping, else the whole batch."""
    if isinstance(batch, (tuple, list)) and len(batch) == _PAIR:
        return batch[0]
    if isinstance(batch, Mapping) and INPUT in batch:
        return batch[INPUT]
    return batch[0] if isinstance(batch, (tuple, list)) and len(batch) == 1 else batch


def batch_size(batch: Any) -> int:
    """Return the number of samples in ``batch``, or a guess if its structure is ambiguous."""
    return counted(batch).number


def sample_counter(given: int | Callable[[Any], int] | None, stage: str) -> Callable[[Any], int]:
    """Return the function that counts the samples of a stage's batches.

    Args:
        given: The spec's ``batch_size``; None counts from the structure, and warns once of a guess.
        stage: ``"train"``, ``"val"``, ``"test"`` or ``"predict"``.
    """
    if given is None:
        return _Samples(stage).count
    if callable(given):
        return lambda batch: checked_size(given(batch), batch)
    return lambda _: given


class _Samples:
    """Counts samples, and warns once of a guess."""

    def __init__(self, stage: str) -> None:
        self._silent = stage == "predict"
        self._stage = stage

    def count(self, batch: Any) -> int:
        if type(batch) in (tuple, list) and len(batch) == _PAIR:
            target = batch[1]
            if type(target) is Tensor and target.ndim and not target.is_nested:
                return target.shape[0]
        number, known = counted(batch)
        if not known and not self._silent:
            self._silent = True
            warnings.warn(guessed(batch, number, self._stage), stacklevel=2)
        return number


def guessed(batch: Any, number: int, stage: str) -> str:
    """Return the warning that the number of samples is guessed."""
    return (
        f"the number of samples in a {stage} batch is ambiguous; using {number}. The batch: {describe(batch)}. Mean"
        f" losses and logged values are weighted by this number: pass TrainSpec(batch_size=), a number or a function"
        f" of the batch."
    )


def checked_size(number: Any, batch: Any) -> int:
    """Return the checked result of ``TrainSpec(batch_size=function)`` for ``batch``.

    Raises:
        SpecError: If it is not a number of samples.
    """
    try:
        size = -1 if isinstance(number, bool) else operator.index(number)
    except TypeError:
        size = -1
    if size < 0:
        raise SpecError(
            "TrainSpec(batch_size=) must return the number of samples, an integer of at least 0;"
            f" it returned {describe(number)} for {describe(batch)}.",
            hint='batch_size=lambda batch: len(batch["labels"])',
        )
    return size


def to_device(value: Any, device: torch.device) -> Any:
    """Return a copy of a batch on ``device``; containers keep their type and their state.

    Objects with a ``to()`` method, such as a PackedSequence or a graph, are moved by it. The batch itself is unchanged.
    """

    def change(leaf: Any) -> Any:
        if isinstance(leaf, Tensor):
            return leaf.to(device, non_blocking=device.type == "cuda")
        return leaf.to(device) if isinstance(leaf, nn.Module) else leaf

    def whole(part: Any) -> Any:
        if not movable(type(part)) or isinstance(part, nn.Module):
            return NotImplemented
        own = _own(part)  # many a to() changes its object
        moved = own.to(device)
        return own if moved is None else moved

    return Mapped(change, whole)(value)


def to_dtype(value: Any, dtype: torch.dtype) -> Any:
    """Return a copy of a batch with every floating tensor in ``dtype``; containers keep their type and their state.

    Opaque objects with a ``to()`` method that takes a dtype are converted by it.
    """

    def change(leaf: Any) -> Any:
        return leaf.to(dtype) if isinstance(leaf, Tensor) and leaf.is_floating_point() else leaf

    def whole(part: Any) -> Any:
        if not movable(type(part)) or isinstance(part, nn.Module) or any(True for _ in tensors(part)):
            return NotImplemented
        try:
            converted = (own := _own(part)).to(dtype)
        except Exception:  # noqa: BLE001 - it takes a device only, and asks it for its type, say
            return part
        return own if converted is None else converted

    return Mapped(change, whole)(value)


def _own(value: Any) -> Any:
    """Return a copy of an object that shares only its tensors."""
    if hasattr(type(value), "__copy__"):
        return copy.copy(value)
    try:
        return Mapped(lambda leaf: leaf)(value)
    except TypeError:  # an object that is not made of Python's attributes
        return value


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
    if is_dataclass(value) and not isinstance(value, type):
        named = [(one.name, getattr(value, one.name, None)) for one in fields(value)]
        parts = [f"{name}={describe(item)}" for name, item in named[:_SHOWN]]
        return f"{type(value).__name__}({', '.join(parts)}{_more(named)})"
    return f"{type(value).__name__} {value!r}"[:80]


def _more(value: Any) -> str:
    return ", ..." if len(value) > _SHOWN else ""
