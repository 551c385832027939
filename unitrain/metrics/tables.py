"""Metric values that are not scalars: vectors become one value per class, matrices and curves stay tensors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor

from unitrain.errors import SpecError
from unitrain.metrics.metric import as_number

if TYPE_CHECKING:
    from unitrain.metrics.class_names import Shape


@dataclass(frozen=True)
class Table:
    """The tensors that a metric gave.

    Attributes:
        tensors: Tensors on the CPU, by the suffix of the metric's name: ``""`` for a matrix, ``"_fpr"`` and so on for a
            curve, or ``"_fpr_cat"`` if each class has its own tensor.
        shape: Names of the values.
    """

    tensors: dict[str, Tensor]
    shape: Shape

    def by_name(self, name: str) -> dict[str, Tensor]:
        """Return the tensors by full name, where ``name`` is that of the metric."""
        return {f"{name}{ending}": tensor for ending, tensor in self.tensors.items()}


def pieces(name: str, value: Any, shape: Shape) -> Iterator[tuple[str, Any]]:
    """Yield the numbers and Tables of a metric's value by name.

    A vector becomes numbers: ``name_0``, ``name_1`` and so on, or ``name_cat`` with class names. A matrix becomes a
    Table, as do several tensors.

    Raises:
        SpecError: If it is none of these, or the number of class names differs.
    """
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from pieces(f"{name}_{key}", item, shape)
    elif isinstance(value, Tensor) and value.numel() > 1:
        yield from _of_tensor(name, value, shape)
    elif isinstance(value, (tuple, list)) and value:
        yield from _of_sequence(name, value, shape)
    elif shape.class_names is not None:
        raise SpecError(
            f"class_names= of the metric {name!r} has no effect: the metric is a single number,"
            f" {as_number(name, value)!r}.",
            hint="average=None returns one value per class.",
        )
    else:
        yield name, as_number(name, value)


def _of_tensor(name: str, value: Tensor, shape: Shape) -> Iterator[tuple[str, Any]]:
    if value.ndim > 1:
        _class_names(name, len(value), shape)
        yield name, Table({"": _kept(value)}, shape)
        return
    for called, item in zip(_class_names(name, len(value), shape), value.tolist(), strict=True):
        yield f"{name}_{called}", item


def _of_sequence(name: str, value: tuple[Any, ...] | list[Any], shape: Shape) -> Iterator[tuple[str, Any]]:
    parts = shape.parts if shape.parts is not None and len(shape.parts) == len(value) else range(len(value))
    if all(isinstance(one, Tensor) and one.ndim == 0 for one in value):
        yield from ((f"{name}_{part}", one) for part, one in zip(parts, value, strict=True))
        return
    tensors: dict[str, Tensor] = {}
    for part, one in zip(parts, value, strict=True):
        each = one if isinstance(one, (tuple, list)) else [one]
        if not each or not all(isinstance(tensor, Tensor) for tensor in each):
            as_number(name, value)  # refuses it
        called = _class_names(name, len(each), shape) if isinstance(one, (tuple, list)) else [""]
        tensors |= {f"_{part}_{which}".rstrip("_"): _kept(tensor) for which, tensor in zip(called, each, strict=True)}
    yield name, Table(tensors, shape)


def _class_names(name: str, count: int, shape: Shape) -> list[str]:
    """Return the names of ``count`` values."""
    if shape.class_names is None:
        return [str(index) for index in range(count)]
    if len(shape.class_names) != count:
        raise SpecError(
            f"class_names= of the metric {name!r} has {len(shape.class_names)} names, but the metric has {count}"
            f" values.",
            hint=f"pass {count} names.",
        )
    return list(shape.class_names)


def _kept(tensor: Tensor) -> Tensor:
    """Return a copy on the CPU, because a metric keeps updating what it returned."""
    return tensor.detach().to("cpu", copy=True)
