"""The export request that every format receives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypedDict

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor, nn

METADATA = "unitrain.json"
"""The key under which each file stores its metadata as JSON."""

EXAMPLE = "example_input"
FOLLOWED_OPTIONS = frozenset(
    {EXAMPLE, "input_names", "output_names", "dynamic_axes", "preprocess", "postprocess", "tolerance"}
)
"""Options shared by all formats that trace the model."""

_HERE = "remove it: the export is always one file, made by torch.export, with the weights inside."
OTHER_NAMES = {
    "opset_version": "opset=",
    "dynamic_shapes": 'dynamic_axes={"input": {0: "batch"}}, keyed by input name.',
    "args": "example_input=",
    "input_sample": "example_input=",
    "file_path": "the path is the first argument.",
    "method": 'format="torchscript", which exports with torch.export and then traces.',
    **dict.fromkeys(("dynamo", "export_params", "external_data", "do_constant_folding"), _HERE),
}
"""Our equivalents for arguments of torch.onnx.export, to_onnx and to_torchscript."""


class ExportOptions(TypedDict, total=False):
    """The options of an export; each format declares which ones it supports.

    Attributes:
        example_input: One input of the model, as in training: a tensor, or tuples, mappings and dataclasses of them. A
            tuple is spread over the arguments of ``forward``, and a mapping over its keywords, if it takes them so.
            The file contains its first row as an example; of ``TrainSpec.example_input`` it contains only the shapes.
        input_names: Names of the input tensors, in order.
        output_names: Names of the output tensors, in order.
        dynamic_axes: By input, which axes may have any length: ``{"input": {0: "batch", 1: "sequence"}}``; for a name
            there may be a ``torch.export.Dim`` with bounds. By default axis 0 of each input; ``{}``: none.
        opset: The ONNX opset.
        half: Whether to compute in float16; inputs and outputs keep their dtype.
        quantize: ``"int8"``.
        preprocess: Module to run before the model; ``example_input`` is then its input.
        postprocess: Module to run after the model.
        tolerance: Largest allowed difference, relative to each output's largest value.
    """

    example_input: Any
    input_names: Sequence[str] | None
    output_names: Sequence[str] | None
    dynamic_axes: Mapping[str, Mapping[int, Any]] | None
    opset: int | None
    half: bool
    quantize: str | None
    preprocess: nn.Module | None
    postprocess: nn.Module | None
    tolerance: float | None


@dataclass(frozen=True, eq=False)
class Check:
    """One comparison of the file with the model.

    Attributes:
        sizes: Sizes of the dynamic axes, by name.
        inputs: The named inputs.
        outputs: The model's outputs for them.
    """

    sizes: Mapping[str, int]
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]


@dataclass(frozen=True, eq=False, kw_only=True)
class Request:
    """The request passed to a format.

    Attributes:
        module: In eval mode, on the CPU, in the precision asked for; takes ``inputs`` by position and returns a tensor
            or a tuple of tensors.
        source: The user's model within it, with the weights that are exported.
        inputs: An example; no axis that may have any length is shorter than two, since torch.export takes 0 and 1 for
            constants.
        input_names: Names of the inputs.
        output_names: Names of the outputs.
        dynamic: The dynamic axes of each input, as ``torch.export.Dim``.
        checks: The comparisons to make.
        opset: The set of operators, or None for the format's own.
        half: Whether ``module`` computes in float16.
        quantize: The kind of quantization, or None.
        tolerance: The user's tolerance, or None for the format's own.
        metadata: Metadata for the file, plain values only.
    """

    module: nn.Module
    source: nn.Module
    inputs: tuple[Tensor, ...] = ()
    input_names: tuple[str, ...] = ()
    output_names: tuple[str, ...] = ()
    dynamic: tuple[Mapping[int, Any], ...] = ()
    checks: tuple[Check, ...] = ()
    opset: int | None = None
    half: bool = False
    quantize: str | None = None
    tolerance: float | None = None
    metadata: Mapping[str, Any]
