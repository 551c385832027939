"""The example that a file holds: one row of its inputs, for those who use the file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from unitrain.export.axes import Axes

MOST_NUMBERS = 4096
_DIGITS = range(9, 0, -1)
"""Nine tell any two float32 apart, and so any two of a smaller dtype."""


def example_row(
    axes: Axes, names: Sequence[str], answer: Callable[[tuple[Tensor, ...]], Sequence[Tensor]], *, own: bool
) -> dict[str, Any] | None:
    """Return one row of each input as nested lists, by name; an input whose axis 0 is fixed is there as a whole.

    The model answers it with finite numbers. It is None if there is no such row, or it would be large.

    Args:
        axes: The inputs.
        names: Names of the inputs.
        answer: The model.
        own: Whether the first row is the user's to publish; otherwise, or if an input's axis 0 is fixed, the example
            is made of zeros, or else of ones.
    """
    inputs = axes.resized(axes.checked_sizes()[0])
    if sum(one.numel() for one in _rows(axes, inputs)) > MOST_NUMBERS or any(one.is_complex() for one in inputs):
        return None
    made = [tuple(map(fill, inputs)) for fill in (torch.zeros_like, torch.ones_like)]
    rows_only = all(0 in dynamic for one, dynamic in zip(inputs, axes.dynamic, strict=True) if one.ndim)
    for row in [inputs, *made] if own and rows_only else made:
        if _finite(row) and _answered(answer, row):
            return dict(zip(names, map(listed, _rows(axes, row)), strict=True))
    return None


def _rows(axes: Axes, inputs: Sequence[Tensor]) -> list[Tensor]:
    return [one[0] if 0 in dynamic else one for one, dynamic in zip(inputs, axes.dynamic, strict=True)]


def _finite(row: Sequence[Tensor]) -> bool:
    return all(bool(one.isfinite().all()) for one in row)


def _answered(answer: Callable[[tuple[Tensor, ...]], Sequence[Tensor]], row: tuple[Tensor, ...]) -> bool:
    try:
        return _finite(answer(row))
    except Exception:  # noqa: BLE001 - a model may refuse zeros, as it may any other values
        return False


def listed(tensor: Tensor) -> Any:
    """Return the numbers of a tensor in nested lists; each is printed as short as it can be read back to the same bits.

    A float32 of 0.1 is 0.1, where ``tolist`` has 0.10000000149011612.
    """
    if not tensor.is_floating_point() or tensor.dtype == torch.float64:
        return tensor.tolist()
    exact = tensor.double()
    numbers, shortest = exact.flatten().tolist(), exact
    for digits in _DIGITS:
        shorter = torch.tensor([float(f"{one:.{digits}g}") for one in numbers], dtype=torch.float64).view(exact.shape)
        shortest = torch.where(shorter.to(tensor.dtype) == tensor, shorter, shortest)
    return shortest.tolist()
