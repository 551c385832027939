"""The values in a mapping that a custom step returns."""

from __future__ import annotations

from dataclasses import is_dataclass
from numbers import Real
from typing import TYPE_CHECKING, Any

from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Mapping

_OURS = ("loss", "output", "target")


def step_values(result: Mapping[str, Any]) -> dict[str, Any]:
    """Return the items of the mapping.

    A mapping that is also a dataclass is a model's output, such as a ``ModelOutput`` of transformers: its logits and
    hidden states are not meant for logging, so only the loss and scalars are used.
    """
    if not is_dataclass(result):
        return dict(result)
    return {name: value for name, value in result.items() if name in _OURS or _is_scalar(value)}


def _is_scalar(value: Any) -> bool:
    return value.ndim == 0 if isinstance(value, Tensor) else isinstance(value, Real)
