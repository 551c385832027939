"""``quantize="int8"`` in an ONNX file, by onnxruntime: 8-bit weights and dynamically quantized inputs."""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import onnx
import onnxruntime

from unitrain.errors import ExportError
from unitrain.export.formats.quantized import Quantized, without_root_handlers

_ENDING = "_quantized"
_GEMM = "Gemm"
_WEIGHT = 1


def shrink(path: Path) -> Quantized:
    """Quantize the file at ``path`` where it is.

    The weights are unsigned: products of signed and unsigned bytes overflow on processors without VNNI, and
    onnxruntime's convolution takes no signed ones in older releases.

    Raises:
        ExportError: If onnxruntime cannot.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic  # noqa: PLC0415 - it takes a moment to import
    from onnxruntime.quantization.shape_inference import quant_pre_process  # noqa: PLC0415

    with tempfile.TemporaryDirectory() as folder, without_root_handlers():
        ready = Path(folder) / "ready.onnx"
        try:
            quant_pre_process(path, ready, skip_symbolic_shape=True)  # which fails at a Loop without a condition
            model = onnx.load(ready)
            give_each_its_own(model)
            del model.graph.value_info[:]  # of weights too, which will be transposed; shapes are inferred again
            onnx.save(model, ready)
            quantize_dynamic(ready, path, per_channel=True, weight_type=QuantType.QUInt8)
        except Exception as error:
            raise ExportError(
                f"onnxruntime {onnxruntime.__version__} cannot quantize the model: {str(error).strip()[:500]}",
                hint='format="torch_export" quantizes with torchao; or remove quantize=.',
            ) from error
    before = _sizes(model)
    after = _sizes(onnx.load(path))
    layers = [name.removesuffix(_ENDING) for name in after if name.endswith(_ENDING)]
    parts = [one for one in after for layer in layers if one.startswith(f"{layer}_") and one not in before]
    return Quantized(tuple(layers), sum(before[one] for one in layers), sum(after[one] for one in parts))


def give_each_its_own(model: Any) -> None:
    """Copy a weight that several nodes use for each ``Gemm`` that reads it transposed.

    onnxruntime transposes it in place for each of them ("assume B is not used by any other node"), so a weight that is
    used twice would be the wrong way round in one place: layers that are equal, like those of a new
    nn.TransformerEncoder, are one weight in the file.
    """
    weights = {one.name: one for one in model.graph.initializer}
    used = Counter(name for node in model.graph.node for name in node.input)
    for number, node in enumerate(model.graph.node):
        if node.op_type != _GEMM or node.input[_WEIGHT] not in weights or used[node.input[_WEIGHT]] == 1:
            continue
        own = onnx.TensorProto()
        own.CopyFrom(weights[node.input[_WEIGHT]])
        own.name = f"{own.name}_{number}"
        model.graph.initializer.append(own)
        used[node.input[_WEIGHT]] -= 1
        node.input[_WEIGHT] = own.name


def _sizes(model: Any) -> dict[str, int]:
    """Return the bytes of the weights, by name."""
    return {one.name: onnx.numpy_helper.to_array(one).nbytes for one in model.graph.initializer}
