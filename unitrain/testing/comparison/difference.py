"""The first difference between two sides."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Difference:
    """The first difference between two sides.

    Attributes:
        sides: The names of the two sides.
        step: The optimizer step, from 1; 0 is before the first batch. None for two checkpoints.
        epoch: The epoch, from 0; None if it is not known.
        batch: Number of training batches until the end of the step; None if it is not known.
        phase: ``"initial weights"``, ``"batch"``, ``"random state"``, ``"forward"``, ``"gradient"``, ``"after step"``,
            ``"logs"``, ``"metrics"``, ``"events"``, ``"end"``, ``"order"`` or ``"length"``; of checkpoints
            ``"weights"``, ``"optimizer states"`` or ``"counters"``.
        kind: What it is within the phase, such as ``"input"``, ``"output"`` or ``"loss"`` in a forward pass.
        tensor: The name of the first tensor, or other value, that differs; None if nothing has a value there.
        index: The first element that differs, in row-major order.
        values: That element on each side, in decimal; or dtypes, shapes or other texts.
        bits: Its bits on each side in hexadecimal; empty texts if they are not numbers of one type.
        ulp: Its distance in units in the last place; for integers the difference. None for anything else, and for NaN.
        dtype: The type of the tensor on the first side.
        shape: Its shape there.
        differing: Number of elements of the tensor that differ.
        elements: Number of elements of the tensor.
        max_ulp: The largest distance in the tensor.
        module: The first module, in the order of calls, whose call differs; None if that is not known.
        cause: What it means, in a sentence.
        hint: What to do; None if there is nothing to advise.
    """

    sides: tuple[str, str]
    step: int | None
    phase: str
    kind: str
    epoch: int | None = None
    batch: int | None = None
    tensor: str | None = None
    index: tuple[int, ...] = ()
    values: tuple[str, str] = ("", "")
    bits: tuple[str, str] = ("", "")
    ulp: int | None = None
    dtype: str | None = None
    shape: tuple[int, ...] | None = None
    differing: int = 0
    elements: int = 0
    max_ulp: int | None = None
    module: str | None = None
    cause: str = ""
    hint: str | None = None

    @property
    def place(self) -> str | None:
        """The tensor and the index, as Python writes them."""
        if self.tensor is None:
            return None
        return f"{self.tensor}[{', '.join(map(str, self.index))}]" if self.index else self.tensor

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as plain values, for JSON."""
        return {name: list(one) if isinstance(one, tuple) else one for name, one in asdict(self).items()}
