"""quantize="int8": what became small, how far it is from the model, on both backends; and refusals."""

import json
import logging
import subprocess
import sys

import onnx
import pytest
import torch
from torch import nn
from torch.export import Dim

from tests.export.models import MODELS
from unitrain.errors import ExportError
from unitrain.export.formats import quantized, quantized_onnx
from unitrain.export.pipeline import export_module

SLOW = pytest.mark.slow
LAYERS = {
    ("onnx", "mlp"): 2,
    ("onnx", "cnn"): 2,
    ("onnx", "transformer"): 10,
    ("onnx", "dict"): 3,
    ("torch_export", "mlp"): 2,
    ("torch_export", "cnn"): 1,
    ("torch_export", "transformer"): 5,
    ("torch_export", "dict"): 2,
    ("executorch", "mlp"): 2,
    ("executorch", "cnn"): 1,
    ("executorch", "transformer"): 7,
    ("aoti", "mlp"): 2,
    ("aoti", "dict"): 2,
}
"""How many layers of each model become int8; in torch's formats attention keeps float weights, in ONNX it does not."""

SUFFIXES = {"onnx": ".onnx", "torch_export": ".pt2", "executorch": ".pte", "aoti": ".pt2"}
QUICK = {("onnx", "mlp"), ("torch_export", "mlp")}


def options_of(kind):
    return {"dynamic_axes": {"input": {0: Dim("batch", max=40)}}} if kind == "executorch" else {}


def net():
    torch.manual_seed(2)
    return nn.Sequential(nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 5))


def exported(path, model=None, **options):
    return export_module(model or net(), path, example_input=torch.randn(3, 16), **{"quantize": "int8", **options})


@pytest.mark.parametrize(("kind", "name"), [one if one in QUICK else pytest.param(*one, marks=SLOW) for one in LAYERS])
def test_layers_are_int8_and_the_file_is_near_the_model_and_the_same_from_both_backends(runs, tmp_path, kind, name):
    shared = runs(name, "lightning")[1]
    reports = [
        runs(name, backend)[0].export(
            tmp_path / f"{backend}{SUFFIXES[kind]}", format=kind, ckpt_path=shared, quantize="int8", **options_of(kind)
        )
        for backend in ("lightning", "ignite")
    ]
    report = reports[0]
    found = report.metadata["quantized"]
    assert len(found["layers"]) == LAYERS[kind, name]
    assert found["bytes_after"] < found["bytes_before"] / 1.9  # a scale for each row weighs in small layers
    assert 0 < report.max_difference <= report.tolerance.limit == 0.05
    assert all(one.same_choice in (None, 1.0) for one in report.differences if one.output != "features")
    assert report.differences == reports[1].differences
    if kind != "aoti":  # machine code names temporary folders: test_aoti.py compares what can be
        assert reports[0].path.read_bytes() == reports[1].path.read_bytes()
    assert len(list(tmp_path.iterdir())) == 2


def test_the_weights_in_the_files_are_bytes(tmp_path):
    exported(tmp_path / "net.pt2")
    program = torch.export.load(tmp_path / "net.pt2")
    weights = [one for name, one in program.state_dict.items() if name.endswith("weight.original0")]
    assert [(one.dtype, one.shape) for one in weights] == [(torch.int8, (64, 16)), (torch.int8, (5, 64))]
    operators = {str(node.target) for node in program.graph.nodes if node.op == "call_function"}
    assert "aten._int_mm.default" in operators
    assert not any("torchao" in one for one in operators)

    exported(tmp_path / "net.onnx")
    model = onnx.load(tmp_path / "net.onnx")
    kinds = [node.op_type for node in model.graph.node]
    assert kinds.count("MatMulInteger") == 2
    assert kinds.count("DynamicQuantizeLinear") == 2
    plain = exported(tmp_path / "float.onnx", quantize=None)
    assert (tmp_path / "net.onnx").stat().st_size < plain.bytes


@pytest.mark.slow
def test_a_file_is_loaded_without_torchao(tmp_path):
    exported(tmp_path / "net.pt2")
    code = """
import sys, torch
sys.modules["torchao"] = sys.modules["unitrain"] = None
print(tuple(torch.export.load("net.pt2").module()(torch.ones(5, 16)).shape), end="")
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, capture_output=True, text=True)
    assert done.stdout == "(5, 5)"


@pytest.mark.parametrize("suffix", [".pt2", ".onnx"])
def test_the_module_and_the_logging_of_the_process_stay_as_they_are(tmp_path, suffix):
    model = net()
    calls = []
    model[0].register_forward_hook(lambda *_: calls.append(1))
    before, handlers = model(torch.ones(2, 16)), list(logging.getLogger().handlers)
    parts = [(id(one), type(one), list(vars(one))) for one in model.modules()]
    exported(tmp_path / f"net{suffix}", model)
    assert [(id(one), type(one), list(vars(one))) for one in model.modules()] == parts
    assert torch.equal(model(torch.ones(2, 16)), before)
    assert logging.getLogger().handlers == handlers


def test_what_is_tied_to_something_else_stays_there_as_it_is(tmp_path):
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.head = nn.Embedding(20, 16), nn.Linear(16, 20, bias=False)
            self.head.weight = self.embed.weight
            self.again = self.head

        def forward(self, ids):
            return self.again(torch.tanh(self.head(self.embed(ids)) @ self.embed.weight))

    model, ids = Tied(), torch.arange(6).reshape(2, 3)
    report = export_module(model, tmp_path / "net.pt2", example_input=ids, quantize="int8")
    assert report.metadata["quantized"]["layers"] == ["head"]
    assert model.head is model.again
    assert model.head.weight is model.embed.weight


def test_a_weight_that_is_used_twice_is_the_right_way_round(tmp_path, monkeypatch):
    """onnxruntime transposes a weight once for each layer that uses it; equal layers are one weight in the file."""
    model = MODELS["transformer"][0]()
    ids = torch.randint(0, 11, (3, 6))
    export_module(model, tmp_path / "net.onnx", example_input=ids, quantize="int8")
    (tmp_path / "net.onnx").unlink()
    monkeypatch.setattr(quantized_onnx, "give_each_its_own", lambda model: None)
    with pytest.raises(ExportError, match="the outputs of the file differ from the model"):
        export_module(model, tmp_path / "net.onnx", example_input=ids, quantize="int8")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("suffix", [".pt2", ".onnx"])
def test_a_scale_that_is_off_is_noticed(tmp_path, monkeypatch, suffix):
    """Seeded: one scale in the file is a third larger."""
    if suffix == ".onnx":
        shrink = quantized_onnx.shrink

        def faulty(path):
            found = shrink(path)
            model = onnx.load(path)
            scale = next(one for one in model.graph.initializer if one.name.endswith("_scale"))
            scale.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(scale) * 4 / 3, scale.name))
            onnx.save(model, path)
            return found

        monkeypatch.setattr("unitrain.export.formats.onnx.shrink", faulty)
    else:
        int8 = quantized._int8

        def faulty(layer):
            twin = int8(layer)
            twin.parametrizations.weight.original1.data.mul_(4 / 3)
            return twin

        monkeypatch.setattr(quantized, "_int8", faulty)
    with pytest.raises(ExportError, match="the outputs of the file differ from the model"):
        exported(tmp_path / f"net{suffix}")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("suffix", [".pt2", ".onnx", ".pte"])
def test_nothing_to_quantize_is_refused_not_written_in_float(tmp_path, suffix):
    options = {"dynamic_axes": {}} if suffix == ".pte" else {}
    with pytest.raises(ExportError, match="Tanh has no layers that can be quantized"):
        exported(tmp_path / f"net{suffix}", nn.Tanh(), **options)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("suffix", [".pt2", ".onnx", ".pte"])
def test_another_kind_is_refused(tmp_path, suffix):
    options = {"dynamic_axes": {}} if suffix == ".pte" else {}
    with pytest.raises(ExportError, match="quantize= takes 'int8', got 'int4'"):
        exported(tmp_path / f"net{suffix}", quantize="int4", **options)


@pytest.mark.parametrize("suffix", [".pt2", ".onnx"])
def test_half_and_int8_are_refused_together(tmp_path, suffix):
    with pytest.raises(ExportError, match="two different precisions"):
        exported(tmp_path / f"net{suffix}", half=True)


def test_formats_that_cannot_refuse_it_by_name(tmp_path):
    for suffix, example in ((".safetensors", None), (".pt", torch.randn(3, 16))):
        with pytest.raises(ExportError, match="does not support quantize="):
            export_module(net(), tmp_path / f"net{suffix}", example_input=example, quantize="int8")


def test_torchao_is_asked_for_by_its_extra(tmp_path, monkeypatch):
    monkeypatch.setattr(quantized, "find_spec", lambda name: None)
    with pytest.raises(ExportError, match=r"pytorch-unitrain\[quantize\]"):
        exported(tmp_path / "net.pt2")


def test_a_stricter_tolerance_is_the_users(tmp_path):
    with pytest.raises(ExportError, match="allowed: 1e-05"):
        exported(tmp_path / "net.onnx", tolerance=1e-5)
    report = exported(tmp_path / "net.onnx", tolerance=0.1)
    assert json.loads(json.dumps(report.metadata))["quantized"]["layers"] == ["model.0.weight", "model.2.weight"]
