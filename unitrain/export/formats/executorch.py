"""The format ``executorch``: a ``.pte`` for small devices, lowered to XNNPACK; compared in ExecuTorch's runtime."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from unitrain.data.structure import tensors
from unitrain.errors import ExportError
from unitrain.export.capture_stderr import kept_back
from unitrain.export.formats.quantized import INT8, Quantized, require_int8, require_torchao, without_root_handlers
from unitrain.export.request import FOLLOWED_OPTIONS, METADATA, Check
from unitrain.export.trace import followed
from unitrain.export.verify import Tolerance, compared

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor
    from torch.export import ExportedProgram

    from unitrain.export.request import Request
    from unitrain.export.verify import Difference

_METHOD = "forward"
_OTHERS = 'use other operators; format="onnx" and "torch_export" support more.'
_UNBOUNDED = 1 << 24
_OPERATOR = re.compile(r"aten(?:::|\.)_?(\w+)")


class ExecuTorch:
    """Lowers what torch.export follows; what XNNPACK does not take runs in ExecuTorch's portable kernels."""

    options = FOLLOWED_OPTIONS | {"quantize"}

    def tolerance(self, request: Request) -> Tolerance:
        """Return how far it may be."""
        return INT8 if request.quantize else Tolerance(1e-4, "float32 with other kernels, which sum in another order")

    def write(self, request: Request, path: Path) -> None:
        """Write one file.

        Raises:
            ExportError: If an axis has no upper bound, torch cannot follow the model, ExecuTorch lacks an operator, or
                the file would take less than was asked for.
        """
        most = largest(request)
        if request.quantize:
            require_int8(request)
            require_torchao()
        program, metadata = _graph(request, most)
        with kept_back() as said, without_root_handlers():
            try:
                lowered = _lowered(program, json.dumps(metadata))
            except Exception as error:
                told = f"{type(error).__name__}: {str(error).strip()[:1000]}\n{said()}".rstrip()
                raise _lacking(request, program, told) from error
        _require_operators(lowered, request, program)
        _require_room(lowered, most, request)
        path.write_bytes(lowered.buffer)

    def verify(self, request: Request, path: Path) -> tuple[Difference, ...]:
        """Compare the file with the model, at its largest size too: its memory is laid out for that."""
        sizes, checks = largest(request), request.checks
        if sizes not in [{}, *(one.sizes for one in checks)]:
            inputs = _inputs_of(request, sizes)
            outputs = tuple(tensors(request.module(*(one.clone() for one in inputs))))
            checks = (*checks, Check(sizes, inputs, outputs))
        return compared(self.load(path), replace(request, checks=checks))

    def load(self, path: Path) -> Callable[..., Any]:
        """Return what runs the file in ExecuTorch's runtime.

        Raises:
            ExportError: If the runtime does not take the file.
        """
        try:
            method = _method(path, _METHOD)
        except RuntimeError as error:
            raise ExportError(
                f"ExecuTorch's runtime cannot load the file: {error}",
                hint=_OTHERS,
            ) from error

        def run(*inputs: Tensor) -> tuple[Tensor, ...]:
            return tuple(one.clone() for one in _told(method.execute, [one.contiguous() for one in inputs]))

        return run


def metadata_in(path: Path) -> str:
    """Return the metadata in the file: a method returns it.

    Raises:
        ValueError: If it has no such method.
    """
    try:
        return str(_told(_method(path, METADATA).execute, [])[0])
    except RuntimeError as error:
        raise ValueError(str(error)) from error


def largest(request: Request) -> dict[str, int]:
    """Return the largest size of each axis that may have any length.

    Raises:
        ExportError: If one has no bound.
    """
    found = {str(dim.__name__): dim.max for axes in request.dynamic for dim in axes.values()}
    for name, most in found.items():
        if most >= _UNBOUNDED:
            axes = {
                one: {axis: f'torch.export.Dim("{name}", max=64)' for axis, dim in mine.items() if dim.__name__ == name}
                for one, mine in zip(request.input_names, request.dynamic, strict=True)
            }
            shown = ", ".join(f'"{one}": {mine}'.replace("'", "") for one, mine in axes.items() if mine)
            raise ExportError(
                f"ExecuTorch plans memory for the largest input, and {name!r} has no maximum size.",
                hint=f"dynamic_axes={{{shown}}}; or dynamic_axes={{}} for the example's size only;"
                " on the command line --dynamic INPUT:AXIS=NAME:MAX, or --static.",
            )
    return {name: int(most) for name, most in found.items()}


def _inputs_of(request: Request, sizes: dict[str, int]) -> tuple[Tensor, ...]:
    """Return the example at ``sizes``: its rows, again and again."""
    made = []
    for tensor, axes in zip(request.inputs, request.dynamic, strict=True):
        for axis, dim in axes.items():
            tensor = tensor.index_select(axis, torch.arange(sizes[dim.__name__]) % tensor.shape[axis])  # noqa: PLW2901
        made.append(tensor)
    return tuple(made)


def _graph(request: Request, most: dict[str, int]) -> tuple[ExportedProgram, dict[str, Any]]:
    """Return the graph, quantized if that was asked for, and the metadata.

    It is followed at the largest size: from a smaller one XNNPACK's partitioner may conclude a smaller bound
    (executorch 1.5: a convolution, max 64, example of 3 rows; the file took 15).
    """
    inputs = _inputs_of(request, most)
    program = followed(replace(request, inputs=inputs))
    if not request.quantize:
        return program, dict(request.metadata)
    program = _int8(program, request, inputs)
    return program, _found(program).metadata(request)


def _int8(program: ExportedProgram, request: Request, inputs: tuple[Tensor, ...]) -> ExportedProgram:
    """Return the graph with XNNPACK's dynamic int8: a scale for each row of a weight, and one for each input."""
    with kept_back(), without_root_handlers():
        from executorch.backends.xnnpack.quantizer import xnnpack_quantizer as xnnpack  # noqa: PLC0415
        from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e  # noqa: PLC0415

        quantizer = xnnpack.XNNPACKQuantizer()
        quantizer.set_global(xnnpack.get_symmetric_quantization_config(is_per_channel=True, is_dynamic=True))
        observed = prepare_pt2e(program.module(), quantizer)
        observed(*inputs)
        converted = convert_pt2e(observed)
    return followed(replace(request, module=converted, inputs=inputs))


def _found(program: ExportedProgram) -> Quantized:
    """Return what became int8 in the graph: its weights are decoded by channel, and used by the layer."""
    buffers = program.graph_signature.inputs_to_buffers
    layers, before, after = [], 0, 0
    for node in program.graph.nodes:
        if "dequantize_per_channel" not in str(node.target):
            continue
        weight, scale = (program.state_dict[buffers[one.name]] for one in node.args[:2])
        before += 4 * weight.numel()
        after += weight.nbytes + scale.nbytes
        layers += [layer_of(user) for user in node.users]
    return Quantized(tuple(dict.fromkeys(layers)), before, after)


def _lowered(program: ExportedProgram, metadata: str) -> Any:
    """Return ExecuTorch's program."""
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner  # noqa: PLC0415
    from executorch.exir import to_edge_transform_and_lower  # noqa: PLC0415

    edge = to_edge_transform_and_lower(
        program, partitioner=[XnnpackPartitioner()], constant_methods={METADATA: metadata}
    )
    return edge.to_executorch()


def _require_room(lowered: Any, most: dict[str, int], request: Request) -> None:
    """Refuse a file whose memory is laid out for less than was asked for: it would fail where it is used.

    Raises:
        ExportError: If it is so.
    """
    plan = next(one for one in lowered.executorch_program.execution_plan if one.name == _METHOD)
    for name, number, axes in zip(request.input_names, plan.inputs, request.dynamic, strict=True):
        planned = plan.values[number].val.sizes
        for axis, dim in axes.items():
            if planned[axis] < most[dim.__name__]:
                raise ExportError(
                    f"ExecuTorch supports at most {planned[axis]} along axis {axis} of {name!r}; requested:"
                    f" {most[dim.__name__]}.",
                    hint=f'torch.export.Dim("{dim.__name__}", max={planned[axis]})',
                )


def _require_operators(lowered: Any, request: Request, program: ExportedProgram) -> None:
    """Refuse operators that ExecuTorch can write but not run.

    Raises:
        ExportError: If there is one.
    """
    known = _runtime().operator_registry.operator_names
    plan = next(one for one in lowered.executorch_program.execution_plan if one.name == _METHOD)
    names = [f"{one.name}.{one.overload}".removesuffix(".") for one in plan.operators]
    missing = [one for one in names if one not in known]
    if missing:
        raise _lacking(request, program, f"its runtime lacks {', '.join(missing)}.")


def _lacking(request: Request, program: ExportedProgram, told: str) -> ExportError:
    """Return the error that names the node, and the line that made it."""
    names = set(_OPERATOR.findall(told))
    where = ""
    for node in program.graph.nodes:
        found = _OPERATOR.match(str(node.target))
        if found is not None and found[1] in names:
            where = f"node {node.name} {_line(node)}\n"
            break
    name = type(request.source).__name__
    return ExportError(f"ExecuTorch does not support {name}.\n{where}{told}", hint=_OTHERS)


def _line(node: Any) -> str:
    """Return the user's line that made ``node``, or torch's within a layer of its own."""
    files = re.findall(r'^ *File "(.+)", line (\d+).*\n(.*)', node.meta.get("stack_trace") or "", re.MULTILINE)
    inside = Path(torch.__file__).parent
    users = [one for one in files if inside not in Path(one[0]).parents] or files
    return f"{Path(users[-1][0]).name}:{users[-1][1]}: {users[-1][2].strip()}" if users else ""


def layer_of(node: Any) -> str:
    """Return the name of the layer of the model that made ``node``."""
    stack = list((node.meta.get("nn_module_stack") or {"": ("",)}).values())
    return str(stack[-1][0]).removeprefix("model.")


def _runtime() -> Any:
    with kept_back():
        from executorch.runtime import Runtime  # noqa: PLC0415
    return Runtime.get()


def _method(path: Path, name: str) -> Any:
    """Return a method of the file."""
    program = _told(_runtime().load_program, path)
    return _told(program.load_method, name)


def _told(call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Return what ``call`` does; an error says what the runtime wrote, since it has but a number itself.

    Raises:
        RuntimeError: If it fails.
    """
    with kept_back() as said:
        try:
            return call(*args, **kwargs)
        except Exception as error:
            raise RuntimeError(f"{error}\n{said()}") from error


FORMAT = ExecuTorch()
