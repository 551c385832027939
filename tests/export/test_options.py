"""What can be asked of an export acts: names, axes, half precision, opset, modules before and after."""

from dataclasses import dataclass
from typing import NamedTuple

import onnx
import pytest
import torch
from torch import Tensor, nn

from unitrain import ExportError
from unitrain.export.formats.table import find_format
from unitrain.export.pipeline import export_module

ROWS = torch.randn(2, 4)


class Pair(NamedTuple):
    first: Tensor
    second: Tensor


def net():
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))


class Takes(nn.Module):
    """Takes several tensors, in the way that it is made for."""

    def __init__(self, way):
        super().__init__()
        self.linear = nn.Linear(4, 3)
        self.forward = getattr(self, way)

    def two(self, x, y):
        return self.linear(x + y)

    def keywords(self, *, x, y):
        return self.linear(x + y)

    def one_pair(self, pair):
        return self.linear(pair[0] + pair[1])

    def nested(self, batch):
        return self.linear(batch["inner"]["x"] + batch["rest"][0])


PAIR = (torch.randn(2, 4), torch.randn(2, 4))
TAKES = {
    "two": (PAIR, ["x", "y"]),
    "keywords": ({"y": PAIR[0], "x": PAIR[1]}, ["y", "x"]),
    "one_pair": (PAIR, ["input_0", "input_1"]),
    "nested": ({"inner": {"x": PAIR[0]}, "rest": [PAIR[1], None]}, ["inner_x", "rest_0"]),
}


@pytest.mark.parametrize("way", TAKES)
def test_inputs_of_any_structure_are_flat_in_the_file(tmp_path, way):
    example, names = TAKES[way]
    model = Takes(way)
    report = export_module(model, tmp_path / "x.pt2", example_input=example)
    assert [one["name"] for one in report.metadata["inputs"]] == names
    given = find_format("torch_export").load(tmp_path / "x.pt2")(*PAIR)
    assert torch.equal(given, model.linear(PAIR[0] + PAIR[1]))


@dataclass
class Scores:
    best: Tensor
    rest: Tensor
    loss: Tensor | None = None


GIVES = {
    "a tensor": (lambda x: x, ["output"]),
    "a tuple": (lambda x: (x, x + 1), ["output_0", "output_1"]),
    "a dict": (lambda x: {"best": x, "others": [x + 1, x + 2]}, ["best", "others_0", "others_1"]),
    "a dataclass": (lambda x: Scores(x, x + 1), ["best", "rest"]),
    "a named tuple": (lambda x: Pair(x, x + 1), ["first", "second"]),
}


@pytest.mark.parametrize("what", GIVES)
def test_outputs_of_any_structure_are_flat_in_the_file(tmp_path, what):
    give, names = GIVES[what]

    class Gives(nn.Module):
        def forward(self, x):
            return give(x * 2)

    report = export_module(Gives(), tmp_path / "x.pt2", example_input=ROWS)
    assert [one["name"] for one in report.metadata["outputs"]] == names
    assert {one.output for one in report.differences} == set(names)


def test_names_and_axes_are_in_the_onnx_file(tmp_path):
    class Sums(nn.Module):
        def forward(self, ids, weights):
            return (ids * weights).cumsum(1)

    report = export_module(
        Sums(),
        tmp_path / "x.onnx",
        example_input=(torch.ones(2, 6), torch.ones(2, 6)),
        input_names=["tokens", "shares"],
        output_names=["sums"],
        dynamic_axes={"tokens": {0: "batch", 1: "sequence"}, "shares": {0: "batch", -1: "sequence"}},
    )
    assert report.sizes == [
        {"batch": 1, "sequence": 6},
        {"batch": 2, "sequence": 5},
        {"batch": 7, "sequence": 9},
    ]
    graph = onnx.load(tmp_path / "x.onnx").graph
    shapes = {one.name: [axis.dim_param for axis in one.type.tensor_type.shape.dim] for one in graph.input}
    assert shapes == {"tokens": ["batch", "sequence"], "shares": ["batch", "sequence"]}
    assert [one.name for one in graph.output] == ["sums"]
    assert report.metadata["inputs"][1] == {"name": "shares", "dtype": "float32", "shape": ["batch", "sequence"]}


@pytest.mark.parametrize("name", ["x.onnx", "x.pt2"])
def test_an_input_that_is_not_used_stays_an_input(tmp_path, name):
    class First(nn.Linear):
        def forward(self, x, mask):
            return super().forward(x)

        def get_extra_state(self):
            return {"seen": 3}  # no tensor

        def set_extra_state(self, state):
            pass

    report = export_module(First(4, 3), tmp_path / name, example_input=(ROWS, torch.ones(2, 5)))
    assert [one["name"] for one in report.metadata["inputs"]] == ["x", "mask"]


def test_an_example_of_one_row_gives_a_batch_of_any_size(tmp_path):
    export_module(net(), tmp_path / "x.pt2", example_input=ROWS[:1])
    assert find_format("torch_export").load(tmp_path / "x.pt2")(torch.randn(9, 4)).shape == (9, 3)


@pytest.mark.parametrize("name", ["x.onnx", "x.pt2"])
def test_half_computes_in_float16_between_inputs_and_outputs_in_float32(tmp_path, name):
    model = net()
    report = export_module(model, tmp_path / name, example_input=ROWS, half=True)
    full = export_module(model, tmp_path / f"full-{name}", example_input=ROWS)
    assert 0 < report.max_difference <= report.tolerance.limit == 1e-2
    assert full.max_difference < report.max_difference
    assert report.metadata["half"]
    assert report.metadata["inputs"][0]["dtype"] == report.metadata["outputs"][0]["dtype"] == "float32"
    if name == "x.pt2":
        weights = torch.export.load(tmp_path / name).state_dict.values()
        assert {one.dtype for one in weights if one.is_floating_point()} == {torch.float16}


def test_half_weights_alone(tmp_path):
    model = net()
    export_module(model, tmp_path / "x.safetensors", half=True)
    from safetensors.torch import load_file

    found = load_file(tmp_path / "x.safetensors")
    assert torch.equal(found["0.weight"], model[0].weight.detach().half())
    assert found["1.num_batches_tracked"].dtype == torch.int64


@pytest.mark.parametrize("opset", [17, 18, 21])
def test_the_opset_is_the_one_that_was_asked_for(tmp_path, opset):
    export_module(net(), tmp_path / "x.onnx", example_input=ROWS, opset=opset)
    assert [one.version for one in onnx.load(tmp_path / "x.onnx").opset_import if not one.domain] == [opset]


class Scales(nn.Module):
    """From bytes to numbers."""

    def __init__(self):
        super().__init__()
        self.register_buffer("scale", torch.tensor(255.0))
        self.drop = nn.Dropout(0.5)

    def forward(self, pixels):
        return self.drop(pixels.float() / self.scale)


class Chooses(nn.Module):
    def forward(self, logits):
        return {"choice": logits.argmax(-1), "probability": logits.softmax(-1)}


@pytest.mark.parametrize("half", [False, True])
def test_modules_before_and_after_are_in_the_file(tmp_path, half):
    model, before, after = net(), Scales(), Chooses()
    pixels = torch.randint(0, 256, (2, 4), dtype=torch.uint8)
    report = export_module(
        model, tmp_path / "x.onnx", example_input=pixels, preprocess=before, postprocess=after, half=half
    )
    assert before.training
    assert report.metadata["inputs"] == [{"name": "input", "dtype": "uint8", "shape": ["batch", 4]}]
    assert [one["dtype"] for one in report.metadata["outputs"]] == ["int64", "float32"]
    choice, probability = find_format("onnx").load(tmp_path / "x.onnx")(pixels)
    with torch.no_grad():
        expected = after(model.eval()(before.eval()(pixels)))
    assert torch.equal(choice, expected["choice"])
    assert torch.allclose(probability, expected["probability"], atol=1e-2 if half else 1e-6)


def test_a_tolerance_of_ones_own_is_held(tmp_path):
    with pytest.raises(ExportError, match=r"(?s)allowed: 0 \(from tolerance=\).*output at batch=\d"):
        export_module(net(), tmp_path / "x.onnx", example_input=ROWS, tolerance=0.0)
    assert export_module(net(), tmp_path / "x.onnx", example_input=ROWS, tolerance=1e-5).tolerance.limit == 1e-5


def test_an_example_of_zeros_does_not_hide_a_difference(tmp_path):
    report = export_module(net(), tmp_path / "x.pt2", example_input=torch.zeros(2, 4), tolerance=0.9)
    assert report.max_difference == 0.0
    from unitrain.export.axes import Axes

    varied = Axes(["input"], [torch.zeros(2, 4)], None).resized({"batch": 3}, varied=True)[0]
    assert len(varied.unique()) == 12


def test_a_report_can_be_read(tmp_path):
    text = str(export_module(net(), tmp_path / "x.pt2", example_input=ROWS))
    assert "torch_export" in text
    assert "output at batch=7: 0 absolute, 0 relative" in text
    assert "allowed: 1e-06 (the same torch operators in float32)" in text
