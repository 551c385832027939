"""Seeded faults in what is written: each is noticed, no file is left, and the one that was there stays."""

import json

import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import nn

from unitrain import ExportError
from unitrain.export.formats import onnx as onnx_format
from unitrain.export.formats import safetensors as safetensors_format
from unitrain.export.formats import torch_export
from unitrain.export.pipeline import export_module
from unitrain.export.request import METADATA

ROWS = torch.randn(2, 4)


class Two(nn.Module):
    """Gives two outputs of one shape."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.BatchNorm1d(8))
        self.a, self.b = nn.Linear(8, 3), nn.Linear(8, 3)

    def forward(self, x):
        hidden = self.body(x)
        return {"a": self.a(hidden), "b": self.b(hidden)}


def saved(module, request, path, dynamic=None):
    shapes = request.dynamic if dynamic is None else dynamic
    program = torch.export.export(module, request.inputs, dynamic_shapes=shapes, strict=False)
    torch.export.save(program, path, extra_files={METADATA: json.dumps(dict(request.metadata))})


def another_weight(request, path):
    bias = request.source.b.bias
    before = bias.data.clone()
    bias.data[1] += 1e-3
    saved(request.module, request, path)
    bias.data.copy_(before)


def in_train_mode(request, path):
    request.module.train()
    saved(request.module, request, path)
    request.module.eval()


def batch_norm_in_train_mode(request, path):
    request.source.body[2].train()
    saved(request.module, request, path)
    request.source.body[2].eval()


def static_batch(request, path):
    saved(request.module, request, path, [None])


def outputs_in_another_order(request, path):
    class Turned(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = request.module

        def forward(self, x):
            return self.inner(x)[::-1]

    saved(Turned().eval(), request, path, request.dynamic)


def an_output_less(request, path):
    class First(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = request.module

        def forward(self, x):
            return self.inner(x)[0]

    saved(First().eval(), request, path, request.dynamic)


FAULTS = {
    another_weight: "b at batch=7",
    in_train_mode: "outputs of the file differ|cannot be run",
    batch_norm_in_train_mode: "outputs of the file differ|cannot be run",
    static_batch: "cannot be run at batch=1",
    outputs_in_another_order: "a at batch=2",
    an_output_less: r"the file returns float32 \(1, 3\); the model returns float32 \(1, 3\), float32 \(1, 3\)",
}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda one: one.__name__)
def test_a_fault_in_the_graph_is_noticed(fault, tmp_path, monkeypatch):
    path = tmp_path / "x.pt2"
    path.write_bytes(b"an older export")
    monkeypatch.setattr(torch_export.TorchExport, "write", lambda self, request, path: fault(request, path))
    with pytest.raises(ExportError, match=FAULTS[fault]):
        export_module(Two(), path, example_input=ROWS)
    assert [one.name for one in tmp_path.iterdir()] == ["x.pt2"]
    assert path.read_bytes() == b"an older export"


def _spoilt(model):
    weights = next(one for one in model.graph.initializer if len(one.dims) == 2)
    values = numpy_helper.to_array(weights).copy()
    values[0, 0] += 0.01
    weights.CopyFrom(numpy_helper.from_array(values, weights.name))


def _doubled(model):
    model.graph.node.append(onnx.helper.make_node("Add", ["x", "x"], ["output"]))
    model.graph.node[-2].output[0] = "x"


@pytest.mark.parametrize("fault", [_spoilt, _doubled])
def test_a_fault_in_the_onnx_file_is_noticed(fault, tmp_path, monkeypatch):
    write = onnx_format.Onnx.write

    def written(self, request, path):
        write(self, request, path)
        model = onnx.load(path)
        fault(model)
        onnx.save(model, path)

    monkeypatch.setattr(onnx_format.Onnx, "write", written)
    with pytest.raises(ExportError, match="the outputs of the file differ from the model"):
        export_module(nn.Linear(4, 3), tmp_path / "x.onnx", example_input=ROWS, output_names=["output"])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("where", [-1, -5])
def test_one_bit_in_a_safetensors_file_is_noticed(where, tmp_path, monkeypatch):
    write = safetensors_format.SafeTensors.write

    def written(self, request, path):
        write(self, request, path)
        content = bytearray(path.read_bytes())
        content[where] ^= 1
        path.write_bytes(bytes(content))

    monkeypatch.setattr(safetensors_format.SafeTensors, "write", written)
    with pytest.raises(ExportError, match="differs between the file and the model"):
        export_module(nn.Linear(4, 3), tmp_path / "x.safetensors")
    assert not list(tmp_path.iterdir())


def test_an_export_that_forgets_eval_mode_is_noticed(tmp_path, monkeypatch):
    class Forgets:
        def __init__(self, module):
            pass

        def restore(self):
            pass

    monkeypatch.setattr("unitrain.export.wrap.ModuleModes", Forgets)
    with pytest.raises(ExportError, match="returns different outputs for the same input in eval mode"):
        export_module(nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5)), tmp_path / "x.pt2", example_input=ROWS)
