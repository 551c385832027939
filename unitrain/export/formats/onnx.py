"""The format ``onnx``: one file for every runtime, by torch's exporter over torch.export; compared in onnxruntime."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import onnx
import onnxruntime
import torch

from unitrain.errors import ExportError
from unitrain.export.failures import explained
from unitrain.export.formats.quantized import INT8, require_int8
from unitrain.export.formats.quantized_onnx import shrink
from unitrain.export.request import FOLLOWED_OPTIONS, METADATA
from unitrain.export.trace import followed
from unitrain.export.verify import HALF, Tolerance, compared

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from torch import Tensor

    from unitrain.export.request import Request
    from unitrain.export.verify import Difference

_LARGEST = 2**31 - 2**20
"""The maximum bytes of weights in one file: protobuf's limit, minus some room for the graph."""

_ERRORS_ONLY = 3


class Onnx:
    """Writes one file, with its weights in it."""

    options = FOLLOWED_OPTIONS | {"half", "opset", "quantize"}

    def tolerance(self, request: Request) -> Tolerance:
        """Return how far it may be: onnxruntime adds in another order, and in its own kernels."""
        if request.quantize:
            return INT8
        return HALF if request.half else Tolerance(1e-4, "float32 with other kernels, which sum in another order")

    def write(self, request: Request, path: Path) -> None:
        """Write one file.

        Raises:
            ExportError: If the model cannot be followed, an operator is missing, the opset would be another one than
                was asked for, or the weights are too large.
        """
        _require_small(request)
        _require_known(request.opset)
        if request.quantize:
            require_int8(request)
        program = followed(request)
        try:
            written = torch.onnx.export(
                program,
                input_names=request.input_names,
                output_names=request.output_names,
                dynamic_shapes=request.dynamic,
                opset_version=request.opset,
                dynamo=True,
                verbose=False,
            )
        except Exception as error:
            raise explained(error, request, program) from error
        assert written is not None  # noqa: S101 - for the type checker: it is None for the old exporter
        written.save(path, external_data=False)
        metadata = shrink(path).metadata(request) if request.quantize else request.metadata
        model = onnx.load(path)
        _require_opset(model, request.opset)
        for part in (model.graph, *model.functions):
            _without_notes(part)
        model.metadata_props.add(key=METADATA, value=json.dumps(metadata))
        onnx.checker.check_model(model)
        path.write_bytes(model.SerializeToString(deterministic=True))

    def verify(self, request: Request, path: Path) -> tuple[Difference, ...]:
        """Compare the file, as onnxruntime runs it, with the model."""
        return compared(self.load(path), request)

    def load(self, path: Path) -> Callable[..., Any]:
        """Return what runs the file in onnxruntime, on the CPU.

        Raises:
            ExportError: If onnxruntime does not take the file.
        """
        options = onnxruntime.SessionOptions()
        options.log_severity_level = _ERRORS_ONLY
        options.intra_op_num_threads = torch.get_num_threads()
        try:
            session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise ExportError(
                f"onnxruntime {onnxruntime.__version__} cannot load the file: {str(error)[:500]}",
                hint="use a lower opset=, or a newer onnxruntime.",
            ) from error
        names = [one.name for one in session.get_inputs()]

        def run(*inputs: Tensor) -> tuple[Tensor, ...]:
            feed = {name: one.numpy() for name, one in zip(names, inputs, strict=True)}
            return tuple(torch.as_tensor(one) for one in session.run(None, feed))

        return run


def _require_small(request: Request) -> None:
    weights = [*request.module.parameters(), *request.module.buffers()]
    size = sum(one.numel() * one.element_size() for one in weights)
    if size > _LARGEST:
        raise ExportError(
            f"{type(request.source).__name__} has {size / 2**30:.1f} GiB of weights, and an ONNX file is limited to"
            f" 2 GiB.",
            hint='format="torch_export" has no such limit; half=True halves the size.',
        )


def _require_known(opset: int | None) -> None:
    newest = onnx.defs.onnx_opset_version()
    if opset is None or (isinstance(opset, int) and 0 < opset <= newest):
        return
    raise ExportError(
        f"opset={opset!r}: the installed onnx {onnx.__version__} supports opsets 1 to {newest}.",
        hint="omit it to use the one that matches the installed torch.",
    )


def _require_opset(model: Any, asked: int | None) -> None:
    """Refuse another opset than was asked for: torch raises one that is too low, and says so in its log only."""
    found = next(one.version for one in model.opset_import if not one.domain)
    if asked is not None and found != asked:
        raise ExportError(
            f"opset {asked} was requested, but torch {torch.__version__} writes {found} for this model, which could"
            f" not be converted.",
            hint=f"opset={found} is the lowest that torch writes itself.",
        )


def _without_notes(message: Any) -> None:
    """Drop what torch notes of the model's source, in loops and branches too: it names folders of this machine."""
    for field, value in message.ListFields():
        if field.name == "metadata_props":
            message.ClearField(field.name)
        elif field.message_type is not None:
            for one in [value] if hasattr(value, "ListFields") else value:
                _without_notes(one)


FORMAT = Onnx()
