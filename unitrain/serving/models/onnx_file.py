"""Runs ``.onnx`` in onnxruntime; imports neither torch nor a framework."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import onnxruntime

from unitrain.errors import ExportError
from unitrain.export.request import METADATA
from unitrain.serving.signature import Signature, TensorInfo

if TYPE_CHECKING:
    from pathlib import Path

    from unitrain.serving.arrays import Array
    from unitrain.serving.signature import Axis

_ERRORS_ONLY: Final = 3
_DTYPES: Final = {
    "tensor(float)": "float32",
    "tensor(double)": "float64",
    "tensor(float16)": "float16",
    "tensor(bool)": "bool",
    **{f"tensor({sign}int{bits})": f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)},
}
_BATCH: Final = "batch"


class OnnxFile:
    """An ONNX file in onnxruntime, on the CPU.

    Args:
        path: The file.
        threads: How many one run may use.

    Raises:
        ExportError: If onnxruntime refuses it, or an input or output is not a tensor of numbers.
    """

    format = "onnx"

    def __init__(self, path: Path, threads: int) -> None:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = _ERRORS_ONLY
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self.native = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:
            reason = str(error).replace(str(path), path.name)[:300]
            raise ExportError(f"onnxruntime cannot load {path.name}: {reason}", hint="export it again.") from error
        self.metadata = _metadata(self.native)
        example = self.metadata.get("example") or {}
        inputs, outputs = self.native.get_inputs(), self.native.get_outputs()
        self.signature = Signature(tuple(map(_info, inputs)), tuple(map(_info, outputs)), example)
        self._inputs, self._outputs = [one.name for one in inputs], [one.name for one in outputs]

    def run(self, inputs: list[Array]) -> list[Array]:
        """Return the outputs."""
        found: list[Array] = self.native.run(self._outputs, dict(zip(self._inputs, inputs, strict=True)))
        return found


def _metadata(session: Any) -> dict[str, Any]:
    try:
        found = json.loads(session.get_modelmeta().custom_metadata_map.get(METADATA, "{}"))
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _info(given: Any) -> TensorInfo:
    dtype = _DTYPES.get(given.type)
    if dtype is None:
        raise ExportError(
            f"{given.name!r} is a {given.type}, which cannot be served.", hint=f"supported: {', '.join(_DTYPES)}."
        )
    return TensorInfo(given.name, dtype, tuple(_axis(index, one) for index, one in enumerate(given.shape or ())))


def _axis(index: int, given: Any) -> Axis:
    """Return the axis; one without a length or a name is called by its place."""
    if isinstance(given, int) and given > 0:
        return given
    return given if isinstance(given, str) and given else (f"axis{index}" if index else _BATCH)


def open_file(path: Path, threads: int) -> OnnxFile:
    """Return what runs the file."""
    return OnnxFile(path, threads)
