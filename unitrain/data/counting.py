"""Counts the samples of a batch from its structure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from unitrain.data.structure import kind_of, parts

TARGETS = ("target", "targets", "label", "labels", "y")
"""Keys and attributes that usually hold the target."""

_DECLARED = ("batch_size", "num_graphs")
_PAIR = 2


class Count(NamedTuple):
    """A number of samples.

    Attributes:
        number: The number.
        known: Whether it follows from the batch's structure; otherwise it is a guess.
    """

    number: int
    known: bool


def counted(batch: Any) -> Count:
    """Return the number of samples in ``batch``.

    The first of these that gives one number decides:

    1. The batch itself: ``batch_size`` (such as a TensorDict's) or ``num_graphs``, the sequences of a PackedSequence.
    2. The target: the second of a pair, or what is called as in ``TARGETS``. It has one row per sample; a list of
       tensors of different lengths, of numbers or of mappings has one item per sample.
    3. All leading dimensions, where they agree.

    Otherwise it is guessed: the most frequent leading dimension, the first of equally frequent ones, or 1.
    """
    if not _is_container(batch):
        return Count(next(iter(_possible(batch)), 1), known=True)
    target, others = _split(batch)
    possible = _declared(batch) or _possible(target)
    if len(possible) == 1:
        return Count(possible[0], known=True)
    rest = _samples(batch) or _agreed(_possible(item) for item in others)
    both = [number for number in possible if number in rest] or possible or rest
    return Count(both[0] if both else 1, known=len(both) == 1)


def _is_container(batch: Any) -> bool:
    return not isinstance(batch, (Tensor, str, bytes, int, float))


def _split(batch: Any) -> tuple[Any, list[Any]]:
    """Return the target, or None, and the other parts of a batch."""
    if isinstance(batch, (tuple, list)) and len(batch) == _PAIR:
        return batch[1], [batch[0]]
    found = list(parts(batch))
    for name in TARGETS:
        target = _get(batch, name) if not isinstance(batch, Mapping) else batch.get(name)
        if target is not None:
            return target, [item for item in found if item is not target]
    return None, found


def _possible(value: Any) -> list[int]:
    """Return the possible numbers of samples of ``value``, the likeliest first."""
    rows = _rows(value)
    if rows is not None:
        return rows
    if declared := _declared(value):
        return declared
    if isinstance(value, (tuple, list)) and not hasattr(value, "_fields"):
        return _of_list(value)
    return _agreed(_possible(item) for item in parts(value))


def _rows(value: Any) -> list[int] | None:
    """Return the first dimension of a tensor or an array, if it has one; None for anything else."""
    if isinstance(value, Tensor):
        return [int(value.size(0))] if value.ndim else []
    shape = None if kind_of(type(value)) else _get(value, "shape")
    return [int(one) for one in shape[:1]] if isinstance(shape, tuple) else None


def _of_list(items: list[Any] | tuple[Any, ...]) -> list[int]:
    """Return the possible counts of a list within a batch: of samples, or of things with one row per sample."""
    each = [_possible(item) for item in items]
    if not any(each):
        return [len(items)] if items else []
    if samples := _samples(items):
        return samples
    rows = _agreed(each)
    if all(_rows(item) is not None for item in items):
        return [*rows, len(items)] if len(rows) == 1 and rows[0] != len(items) else [len(items)]
    return rows


def _samples(batch: Any) -> list[int]:
    """Return the length of a list of samples: of objects of one class, mappings of the same keys, or tuples."""
    if not isinstance(batch, (tuple, list)) or hasattr(batch, "_fields") or not batch:
        return []
    first = batch[0]
    if _rows(first) is not None or any(type(item) is not type(first) for item in batch):
        return []
    if isinstance(first, Mapping):
        return [len(batch)] if all(item.keys() == first.keys() for item in batch) else []
    if not isinstance(first, (tuple, list)):
        return [len(batch)] if parts(first) or not _is_container(first) else []
    if not all(_possible(part) for part in first):
        return [len(batch)]  # a label, which a batch would have in a tensor
    rows = _agreed(_possible(item) for item in batch)
    if len(batch) == 1:
        return rows
    return [*rows, len(batch)] if len(rows) == 1 and rows[0] != len(batch) else [len(batch)]


def _agreed(each: Iterable[list[int]]) -> list[int]:
    """Return the counts that all allow, or else all, the most frequent first."""
    telling = [numbers for numbers in each if numbers]
    votes = Counter(number for numbers in telling for number in numbers)
    all_allow = [number for number, count in votes.items() if count == len(telling)]
    return all_allow or [number for number, _ in votes.most_common()]


def _declared(value: Any) -> list[int]:
    if isinstance(value, PackedSequence):
        return [int(value.batch_sizes[0])]  # of the first step, which each sequence has
    for name in _DECLARED:
        found = _get(value, name)
        if isinstance(found, tuple) and found:
            found = found[0]
        if isinstance(found, int) and not isinstance(found, bool) and found >= 0:
            return [found]
    return []


def _get(value: Any, name: str) -> Any:
    try:
        return getattr(value, name, None)
    except (KeyError, RuntimeError):  # of an object that looks attributes up among its items
        return None
