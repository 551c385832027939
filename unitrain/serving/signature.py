"""The inputs and outputs of a model: names, dtypes and shapes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping

Axis: TypeAlias = int | str
"""The length of an axis, or its name if it may have any length."""


@dataclass(frozen=True)
class TensorInfo:
    """One input or output.

    Attributes:
        name: Its name.
        dtype: As NumPy calls it: ``"float32"``.
        shape: Its axes, batch first; None if the file does not say.
    """

    name: str
    dtype: str
    shape: tuple[Axis, ...] | None

    @property
    def has_batch_axis(self) -> bool:
        """Whether the first axis may have any length."""
        return bool(self.shape) and isinstance(self.shape[0], str)  # type: ignore[index]

    def __str__(self) -> str:
        axes = "?" if self.shape is None else ", ".join(map(str, self.shape))
        return f"{self.dtype} [{axes}]"

    def described(self) -> dict[str, Any]:
        """Return it as plain values, for JSON."""
        return {"name": self.name, "dtype": self.dtype, "shape": None if self.shape is None else list(self.shape)}


@dataclass(frozen=True)
class Signature:
    """The inputs and outputs of a model.

    Attributes:
        inputs: In the model's order.
        outputs: In the model's order.
        example: One row of each input as nested lists, without the batch axis; empty if the file has none.
    """

    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    example: Mapping[str, Any] = field(default_factory=dict)

    def same_interface(self, other: Signature) -> bool:
        """Return whether clients of one can be clients of the other: the example may differ."""
        return (self.inputs, self.outputs) == (other.inputs, other.outputs)

    @property
    def has_batch_axis(self) -> bool:
        """Whether all inputs share a batch axis, so that several requests can be one run."""
        axes = {one.shape[0] if one.has_batch_axis and one.shape else None for one in self.inputs}
        return len(axes) == 1 and None not in axes

    @property
    def varies(self) -> bool:
        """Whether any axis beside the batch may have any length."""
        return any(isinstance(axis, str) for one in self.inputs for axis in (one.shape or ())[1:])


def signature_of(metadata: Mapping[str, Any]) -> Signature:
    """Return the signature in the metadata of a file that unitrain exported."""
    return Signature(
        inputs=tuple(_info(one) for one in metadata["inputs"]),
        outputs=tuple(_info(one) for one in metadata["outputs"]),
        example=metadata.get("example") or {},
    )


def _info(given: Mapping[str, Any]) -> TensorInfo:
    shape = given.get("shape")
    return TensorInfo(given["name"], given["dtype"], None if shape is None else tuple(shape))
