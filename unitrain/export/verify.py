"""Verifies an exported file against the model: outputs for the same inputs and their differences."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from unitrain.errors import ExportError
from unitrain.reports.html.markup import element, joined
from unitrain.reports.html.notebook import summary
from unitrain.reports.html.numbers import duration, size

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from torch import Tensor

    from unitrain.export.request import Check, Request

_ROWS = 2


@dataclass(frozen=True)
class Tolerance:
    """The allowed difference between file and model.

    Attributes:
        limit: The largest difference, relative to the largest value of the output.
        why: Reason for it.
    """

    limit: float
    why: str

    def __str__(self) -> str:
        return f"{self.limit:g} ({self.why})"


HALF = Tolerance(1e-2, "float16 has 11 significant bits; the model is in float32")


@dataclass(frozen=True)
class Difference:
    """The difference of one output at one size.

    Attributes:
        sizes: Sizes of the dynamic axes, by name.
        output: Name of the output.
        absolute: Largest absolute difference.
        relative: Largest absolute difference, divided by the largest value of the output at any size.
        same_choice: Fraction of rows with the largest value at the same place; None if not applicable.
    """

    sizes: Mapping[str, int]
    output: str
    absolute: float
    relative: float
    same_choice: float | None = None

    def __str__(self) -> str:
        told = f"{self.output} at {shown(self.sizes)}: {self.absolute:.3g} absolute, {self.relative:.3g} relative"
        if self.same_choice is None or self.same_choice == 1:
            return told
        return f"{told}, the same choice in {self.same_choice:.0%} of the rows"


@dataclass(frozen=True)
class ExportReport:
    """The exported file and its differences from the model.

    Attributes:
        path: The file.
        format: Format of the file.
        differences: The differences for each size and output; empty for weights alone, which are compared bit for bit.
        tolerance: The tolerance.
        seconds: Time for writing and verifying, in seconds.
        bytes: File size in bytes.
        metadata: The metadata in the file.

    Example:
        >>> report = export_module(torch.nn.Linear(4, 1), "model.pt2", example_input=torch.randn(8, 4))
        >>> report.path.name
        'model.pt2'
    """

    path: Path
    format: str
    differences: tuple[Difference, ...]
    tolerance: Tolerance
    seconds: float
    bytes: int
    metadata: Mapping[str, Any]

    @property
    def sizes(self) -> list[Mapping[str, int]]:
        """The sizes at which the file was compared."""
        return list({tuple(one.sizes.items()): one.sizes for one in self.differences}.values())

    @property
    def max_difference(self) -> float:
        """The largest relative difference."""
        return max((one.relative for one in self.differences), default=0.0)

    def __str__(self) -> str:
        lines = [f"{self.path}: {self.format}, {self.bytes:,} bytes, {self.seconds:.1f} s"]
        lines += [f"  {one}" for one in self.differences]
        lines.append(f"  allowed: {self.tolerance}")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        """For notebooks: the file, and a row for each difference."""
        title = f"{self.path.name}: {self.format}, {size(self.bytes)}, {duration(self.seconds)}"
        rows = [(one.output, shown(one.sizes), one.absolute, one.relative, one.same_choice) for one in self.differences]
        columns = ("output", "at", "absolute", "relative", "same choice")
        return summary(
            title, columns, rows, f"allowed: {self.tolerance}", joined(["file: ", element("code", self.path)])
        )


def shown(sizes: Mapping[str, int]) -> str:
    """Return sizes in words."""
    return ", ".join(f"{name}={size}" for name, size in sizes.items()) or "the example's size, the only one accepted"


def compared(program: Callable[..., Any], request: Request) -> tuple[Difference, ...]:
    """Return how far ``program`` is from the model in each check.

    Raises:
        ExportError: If it cannot be run at a size, or gives another number of outputs, other shapes or dtypes.
    """
    rows = zip(*(check.outputs for check in request.checks), strict=True)
    scales = [max(largest(one) for one in row) for row in rows]
    return tuple(one for check in request.checks for one in _compared_at(program, request, check, scales))


def _compared_at(
    program: Callable[..., Any], request: Request, check: Check, scales: Sequence[float]
) -> list[Difference]:
    try:
        with torch.no_grad():
            given = program(*check.inputs)
    except Exception as error:
        raise ExportError(
            f"the file cannot be run at {shown(check.sizes)}: {str(error).strip()[:500]}",
            hint="the model's code fixes the size of an axis; change the code, or remove the axis from dynamic_axes.",
        ) from error
    row = tuple(given) if isinstance(given, (tuple, list)) else (given,)
    found, expected = [described(one) for one in row], [described(one) for one in check.outputs]
    if found != expected:
        raise ExportError(
            f"at {shown(check.sizes)} the file returns {', '.join(found)}; the model returns {', '.join(expected)}.",
            hint="do not turn a size into a constant in the model's code.",
        )
    outputs = zip(request.output_names, row, check.outputs, scales, strict=True)
    return [
        Difference(check.sizes, name, *apart(one, reference, scale), same_choice(one, reference))
        for name, one, reference, scale in outputs
    ]


def described(tensor: Tensor) -> str:
    """Return dtype and shape in words."""
    return f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"


def apart(given: Tensor, reference: Tensor, scale: float | None = None) -> tuple[float, float]:
    """Return the largest difference, absolute and relative; the same NaN or infinity is none.

    Args:
        given: The computed value.
        reference: The expected value.
        scale: Relative to what; by default the largest value of ``reference``.
    """
    ours, theirs = given.detach().to(torch.float64), reference.detach().to(torch.float64)
    same = (ours == theirs) | (ours.isnan() & theirs.isnan())
    if bool(same.all()):
        return 0.0, 0.0
    absolute = float(torch.where(same, 0.0, (ours - theirs).abs().nan_to_num(nan=torch.inf)).max())
    scale = largest(reference) if scale is None else scale
    return absolute, absolute / scale if scale else torch.inf


def largest(tensor: Tensor) -> float:
    """Return the largest absolute value that is finite."""
    values = tensor.detach().to(torch.float64)
    finite = values[values.isfinite()].abs()
    return float(finite.max()) if finite.numel() else 0.0


def same_choice(given: Tensor, reference: Tensor) -> float | None:
    """Return in what share of the rows the largest value is at the same place; None if there is no choice."""
    if min((reference.ndim, *reference.shape[-1:])) < _ROWS or not (
        reference.is_floating_point() and reference.numel()
    ):
        return None
    return float((given.argmax(-1) == reference.argmax(-1)).double().mean())


def require_close(report: ExportReport) -> None:
    """Refuse a file that does not compute what the model computes.

    Raises:
        ExportError: If a difference is above the tolerance.
    """
    far = [one for one in report.differences if not one.relative <= report.tolerance.limit]
    if far:
        told = "\n".join(f"  {one}" for one in far)
        raise ExportError(
            "the outputs of the file differ from the model's, so the file was deleted; allowed:"
            f" {report.tolerance}:\n{told}",
            hint="if this is the best precision of the format for this model, pass tolerance=.",
        )
