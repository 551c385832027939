"""torch.export of a request: the graph that ``torch_export``, ``onnx`` and others start from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.fx import GraphModule

from unitrain.export.failures import explained

if TYPE_CHECKING:
    from torch.export import ExportedProgram

    from unitrain.export.request import Request


def followed(request: Request) -> ExportedProgram:
    """Return the graph of ``request.module``.

    Raises:
        ExportError: If torch cannot follow the model; it names the line.
    """
    try:
        return torch.export.export(request.module, request.inputs, dynamic_shapes=request.dynamic, strict=False)
    except Exception as error:
        raise explained(error, request) from error


def without_paths(program: ExportedProgram) -> ExportedProgram:
    """Return ``program`` without notes of where it came from: they name folders and addresses of this machine."""
    for module in program.graph_module.modules():
        for node in module.graph.nodes if isinstance(module, GraphModule) else ():
            for note in ("stack_trace", "from_node"):
                node.meta.pop(note, None)
    return program
