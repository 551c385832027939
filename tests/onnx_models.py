"""ONNX files that the tests of serving and deployment share."""

import tempfile
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper
from torch import nn

import unitrain


@cache
def _content():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 3))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "small.onnx"
        unitrain.export_module(net, path, example_input=torch.randn(8, 4))
        return path.read_bytes()


def write_small_model(path):
    """Write a model of four inputs and three outputs, exported once per process, and return its path."""
    path.write_bytes(_content())
    return path


LAYERS = 20_000


@cache
def _long_content():
    weight = np.full((4, 4), 0.25, np.float32)
    nodes = []
    for layer in range(LAYERS):
        nodes.append(helper.make_node("MatMul", [f"h{layer}", f"w{layer}"], [f"m{layer}"]))
        nodes.append(helper.make_node("Relu", [f"m{layer}"], [f"h{layer + 1}"]))
    ends = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["b", 4]) for name in ("h0", f"h{LAYERS}")]
    weights = [numpy_helper.from_array(weight, f"w{layer}") for layer in range(LAYERS)]
    graph = helper.make_graph(nodes, "graph", ends[:1], ends[1:], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9).SerializeToString()


def write_slowly_loaded_model(path):
    """Write a model that onnxruntime takes many seconds to load, and return its path."""
    path.write_bytes(_long_content())
    return path
