"""What cannot be exported is refused: by the line or the node, with the way out, and without a file."""

import sys

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from unitrain import ExportError, UnifiedTrainer
from unitrain.export.pipeline import export_module

ROWS = torch.randn(2, 4)


class Branches(nn.Module):
    def forward(self, x):
        if x.sum() > 0:
            return x * 2
        return x


class ReshapesToTwo(nn.Module):
    def forward(self, x):
        return x.reshape(2, -1) + 1


class ReshapesToFour(nn.Module):
    def forward(self, x):
        return x.view(4, 4) + 1


class UpToFour(nn.Module):
    def forward(self, x):
        return x * 2 if x.shape[0] < 5 else x


class Eigenvalues(nn.Module):
    def forward(self, x):
        return torch.linalg.eigvals(x).abs()


class GivesANumber(nn.Module):
    def forward(self, x):
        return {"scores": x, "count": 3}


class GivesNothing(nn.Module):
    def forward(self, x):
        return None


class Random(nn.Module):
    def forward(self, x):
        return x + torch.rand(x.shape)


class ByNumpy(nn.Module):
    def forward(self, x):
        return torch.from_numpy(abs(x.numpy()))


class MovesAway(nn.Module):
    def forward(self, x):
        return x.to("meta")


class Positions(nn.Module):
    """Knows six positions."""

    def __init__(self):
        super().__init__()
        self.table = nn.Parameter(torch.randn(6, 4))

    def forward(self, x):
        return x + self.table[: x.shape[1]]


class Large(nn.Module):
    """Has 3 GiB of weights that take no memory here."""

    def __init__(self):
        super().__init__()
        self.register_buffer("table", torch.zeros(1).expand(3 * 2**28))

    def forward(self, x):
        return x + self.table[0]


def linear():
    return nn.Linear(4, 3)


SEQUENCE = {"input": {0: "batch", 1: "sequence"}}

REFUSED = {
    "a branch on data": (Branches, "x.onnx", {}, ["if x.sum() > 0:", "in forward", "torch.where"]),
    "a branch on data, traced": (Branches, "x.pt", {}, ["if x.sum() > 0:", "torch.where"]),
    "the batch is a constant": (ReshapesToTwo, "x.onnx", {}, ["x.reshape(2, -1)", "x.shape[0]", "dynamic_axes={}"]),
    "only one batch fits": (
        ReshapesToFour,
        "x.pt2",
        {"example_input": torch.randn(4, 4)},
        ["x.view(4, 4)", "at batch=1", "dynamic_axes"],
    ),
    "a branch on the batch": (UpToFour, "x.pt2", {}, ["x.shape[0] < 5", "max=4"]),
    "an operator that ONNX lacks": (
        Eigenvalues,
        "x.onnx",
        {"example_input": torch.randn(2, 3, 3)},
        ["node linalg_eig", "torch.linalg.eigvals(x)", "torch_export"],
    ),
    "numpy": (ByNumpy, "x.pt2", {}, ["x.numpy()", "change the line"]),
    "an output that is a number": (GivesANumber, "x.pt2", {}, ["'count' is 3 (int)", "postprocess="]),
    "no output": (GivesNothing, "x.pt2", {}, ["returns no tensor"]),
    "random in eval mode": (
        Random,
        "x.pt2",
        {},
        ["returns different outputs for the same input in eval mode", "self.training"],
    ),
    "outputs elsewhere": (MovesAway, "x.pt2", {}, ["meta", "do not set devices in forward"]),
    "no numbers": (lambda: nn.Linear(4, 3, device="meta"), "x.pt2", {}, ["'weight'", "meta"]),
    "a sequence that is too long": (
        Positions,
        "x.pt2",
        {"example_input": torch.randn(2, 5, 4), "dynamic_axes": SEQUENCE},
        ["sequence=8", "self.table[: x.shape[1]]", "torch.export.Dim"],
    ),
    "no example": (linear, "x.onnx", {"example_input": None}, ["none was given", "TrainSpec(example_input=...)"]),
    "an example of another dtype": (linear, "x.onnx", {"example_input": ROWS.long()}, ["(2, 4) int64", "same dtype"]),
    "an example of another shape": (linear, "x.onnx", {"example_input": torch.ones(2, 5)}, ["(2, 5)", "2x5 and 4x3"]),
    "an example that is no tensor": (linear, "x.onnx", {"example_input": "rows"}, ["'rows' (str)"]),
    "an empty example": (linear, "x.onnx", {"example_input": ROWS[:0]}, ["empty", "two rows"]),
    "opset 11": (linear, "x.onnx", {"opset": 11}, ["opset 11", "writes 18", "opset=18"]),
    "opset 99": (linear, "x.onnx", {"opset": 99}, ["opset=99", "supports opsets 1 to"]),
    "an opset that is no number": (linear, "x.onnx", {"opset": "17"}, ["opset='17'"]),
    "an opset that onnxruntime lacks": (linear, "x.onnx", {"opset": 27}, ["onnxruntime", "a lower opset="]),
    "an opset elsewhere": (linear, "x.pt2", {"opset": 18}, ["'torch_export' does not support opset="]),
    "more than one file holds": (Large, "x.onnx", {}, ["3.0 GiB", "torch_export"]),
    "an unknown option": (linear, "x.pt2", {"example": ROWS}, ["unknown argument 'example'", "example_input"]),
    "an unknown format": (linear, "x.pt2", {"format": "torchexport"}, ["torchexport", "torch_export"]),
    "a suffix of another format": (linear, "x.onnx", {"format": "torch_export"}, ["must end in .pt2", "x.pt2"]),
    "an unknown suffix": (linear, "x.bin", {}, ["unknown suffix in", ".onnx"]),
    "an example for weights": (linear, "x.safetensors", {}, ["does not support example_input="]),
    "too many names": (linear, "x.pt2", {"input_names": ["a", "b"]}, ["2 names", "1 tensors: input"]),
    "no name": (linear, "x.pt2", {"output_names": ["a b"]}, ["'a b'"]),
    "an axis of no input": (linear, "x.pt2", {"dynamic_axes": {"x": {0: "batch"}}}, ["unknown input 'x'"]),
    "an axis that is not there": (linear, "x.pt2", {"dynamic_axes": {"input": {2: "b"}}}, ["no axis 2", "(2, 4)"]),
    "axes in a list": (linear, "x.pt2", {"dynamic_axes": {"input": [0]}}, ["must map each input"]),
    "a name that is none": (linear, "x.pt2", {"dynamic_axes": {"input": {0: "a b"}}}, ["Python identifiers", "a b"]),
    "an axis that is a flag": (linear, "x.pt2", {"dynamic_axes": {"input": {True: "b"}}}, ["must map each input"]),
    "an axis that is there twice": (linear, "x.pt2", {"dynamic_axes": {"input": {0: "a", -2: "b"}}}, ["twice"]),
    "axes of no input": (linear, "x.pt2", {"dynamic_axes": ["input"]}, ["must map each input"]),
    "a function before": (linear, "x.pt2", {"preprocess": lambda x: x}, ["preprocess= must be a torch.nn.Module"]),
    "half of a word": (linear, "x.pt2", {"half": "yes"}, ["half= must be True or False; got 'yes'"]),
    "an array": (linear, "x.pt2", {"example_input": ROWS.numpy()}, ["torch.as_tensor"]),
    "a loader": (linear, "x.pt2", {"example_input": DataLoader(ROWS)}, ["next(iter(loader))[0]"]),
    "a batch with its targets": (linear, "x.pt2", {"example_input": (ROWS, ROWS)}, ["only the inputs"]),
    "one row without a batch": (linear, "x.pt2", {"example_input": ROWS[0]}, ["axis 0 of the example is the batch"]),
    "torch's name of an option": (linear, "x.onnx", {"opset_version": 18}, ["'opset_version'", "Hint: opset="]),
    "a class": (lambda: nn.Linear, "x.pt2", {}, ["create an instance"]),
    "half of float64": (
        lambda: linear().double(),
        "x.pt2",
        {"example_input": ROWS.double(), "half": True},
        ["float64", "'weight'"],
    ),
    "a tolerance that is none": (linear, "x.pt2", {"tolerance": "high"}, ["tolerance='high'"]),
    "a tolerance above all": (linear, "x.pt2", {"tolerance": 1.0}, ["tolerance=1.0"]),
}


@pytest.mark.parametrize("case", REFUSED)
def test_it_is_refused_with_the_way_out_and_leaves_no_file(case, tmp_path):
    make, name, options, told = REFUSED[case]
    model = make()
    (tmp_path / name).write_bytes(b"as it was")
    with pytest.raises(ExportError) as found:
        export_module(model, tmp_path / name, **{"example_input": ROWS, **options})
    for word in told:
        assert word in str(found.value)
    assert "Hint: " in str(found.value)
    assert [one.name for one in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_bytes() == b"as it was"


def test_a_static_batch_is_the_way_out_for_a_constant(tmp_path):
    report = export_module(ReshapesToTwo(), tmp_path / "x.pt2", example_input=ROWS, dynamic_axes={})
    assert report.sizes == [{}]
    assert "the only one accepted" in str(report)
    assert report.metadata["inputs"] == [{"name": "input", "dtype": "float32", "shape": [2, 4]}]


def test_bounds_are_the_way_out_for_a_sequence_that_is_too_long(tmp_path):
    axes = {"input": {0: "batch", 1: torch.export.Dim("sequence", max=6)}}
    report = export_module(Positions(), tmp_path / "x.pt2", example_input=torch.randn(2, 5, 4), dynamic_axes=axes)
    assert [one["sequence"] for one in report.sizes] == [5, 4, 6]


def test_three_different_sizes_are_compared_where_the_bounds_have_them(tmp_path):
    for bounds, sizes in [({"max": 2}, [1, 2, 2]), ({"max": 3}, [1, 2, 3]), ({"min": 2, "max": 64}, [2, 3, 7])]:
        axes = {"input": {0: torch.export.Dim("batch", **bounds)}}
        report = export_module(linear(), tmp_path / "x.pt2", example_input=ROWS, dynamic_axes=axes)
        assert [one["batch"] for one in report.sizes] == list(dict.fromkeys(sizes))
    axes = {"input": {0: torch.export.Dim("batch", max=64)}}
    report = export_module(linear(), tmp_path / "x.pt2", example_input=torch.randn(64, 4), dynamic_axes=axes)
    assert [one["batch"] for one in report.sizes] == [1, 64, 63]


def test_inputs_of_different_batches_are_refused(tmp_path):
    class Adds(nn.Module):
        def forward(self, a, b):
            return a + b.sum(0)

    example = (torch.randn(2, 4), torch.randn(3, 4))
    with pytest.raises(ExportError, match=r"named 'batch' must have the same length.*\n?Hint: .*dynamic_axes"):
        export_module(Adds(), tmp_path / "x.pt2", example_input=example)
    report = export_module(Adds(), tmp_path / "x.pt2", example_input=example, dynamic_axes={"a": {0: "batch"}})
    assert report.metadata["inputs"][1]["shape"] == [3, 4]


def test_a_folder_that_cannot_be_written_to_is_refused(tmp_path):
    (tmp_path / "file").write_text("in the way")
    for path in (tmp_path / "file" / "x.pt2", tmp_path / "folder.pt2"):
        (tmp_path / "folder.pt2").mkdir(exist_ok=True)
        with pytest.raises(ExportError, match=r"(could not|cannot) be written"):
            export_module(linear(), path, example_input=ROWS)


def test_onnx_that_is_not_installed_is_named_with_the_command(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(ExportError, match=r"(?s)needs onnxscript.*pip install 'pytorch-unitrain\[export\]'"):
        export_module(linear(), tmp_path / "x.onnx", example_input=ROWS)


def test_a_trainer_that_has_run_nothing_refuses(tmp_path):
    with pytest.raises(ExportError, match=r"(?s)this trainer has no model.*export_module"):
        UnifiedTrainer("reference").export(tmp_path / "x.pt2", example_input=ROWS)


def test_weights_that_are_no_tensors_are_refused(tmp_path):
    class Counts(nn.Linear):
        def get_extra_state(self):
            return {"seen": 3}

        def set_extra_state(self, state):
            pass

    with pytest.raises(ExportError, match=r"(?s)_extra_state.*torch_export"):
        export_module(Counts(4, 3), tmp_path / "x.safetensors")
    assert not list(tmp_path.iterdir())
