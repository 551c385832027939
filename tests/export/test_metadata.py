"""What a file says of itself: shapes and an example that publishes nothing unasked, read without torch."""

import io
import json
import struct
import subprocess
import sys
import warnings
import zipfile
from functools import partial
from pathlib import Path

import onnx
import pytest
import torch
from torch import nn
from torch.export import Dim

from tests.export.models import made
from unitrain import TrainSpec, UnifiedTrainer
from unitrain.export.example import MOST_NUMBERS, listed
from unitrain.export.formats.table import find_format
from unitrain.export.metadata import read_metadata
from unitrain.export.pipeline import export_module
from unitrain.export.request import METADATA

ROOT = Path(__file__).parents[2]
ROWS = torch.ones(2, 3)
SECRET = 0.7182818
"""A number that stands for somebody's data."""

KINDS = {
    "onnx": ("x.onnx", {}),
    "torch_export": ("x.pt2", {}),
    "torchscript": ("x.pt", {}),
    "onnx, int8": ("q.onnx", {"quantize": "int8"}),
    "torch_export, int8": ("q.pt2", {"quantize": "int8"}),
    "onnx, half": ("h.onnx", {"half": True}),
    "executorch": ("x.pte", {"dynamic_axes": {"input": {0: Dim("batch", max=16)}}}),
    "aoti": ("a.pt2", {"format": "aoti"}),
}
SLOW = {"aoti", "executorch"}


def exported(model, path, example, **options):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "TorchScript is deprecated", FutureWarning)
        return export_module(model, path, example_input=example, **options)


def read_in_a_fresh_process(path):
    """Return what is read where whoever imports torch fails."""
    script = (
        "import json, sys; sys.modules['torch'] = None\n"
        "from unitrain.export.metadata import read_metadata\n"
        "print(json.dumps(read_metadata(sys.argv[1])))"
    )
    command = [sys.executable, "-c", script, str(path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("kind", [pytest.param(one, marks=[pytest.mark.slow] * (one in SLOW)) for one in KINDS])
def test_each_format_has_output_shapes_and_the_first_row(kind, tmp_path):
    name, options = KINDS[kind]
    model, _ = made("mlp")
    rows = torch.randn(2, 5)
    report = exported(model, tmp_path / name, rows, **options)
    found = read_metadata(report.path)
    assert found == report.metadata
    assert found["outputs"] == [{"name": "output", "dtype": "float32", "shape": ["batch", 3]}]
    assert torch.equal(torch.tensor(found["example"]["input"]), rows[0])
    if kind != "executorch":  # whose metadata only its runtime reads
        assert read_in_a_fresh_process(report.path) == found


def test_several_inputs_and_outputs_have_theirs(tmp_path):
    model, example = made("dict")
    found = exported(model, tmp_path / "x.pt2", example).metadata
    assert [one["shape"] for one in found["outputs"]] == [["batch", 3], ["batch", 8]]
    assert found["example"].keys() == {"numbers", "kinds"}
    assert found["example"]["kinds"] == example["kinds"][0].tolist()


def fitted(backend, example):
    model, _ = made("mlp")
    trainer = UnifiedTrainer(backend, max_epochs=1, seed=7, enable_progress_bar=False, accelerator="cpu")
    optimizer = partial(torch.optim.SGD, lr=0.1)
    data = [(torch.randn(8, 5), torch.randint(0, 3, (8,)))]
    torch.manual_seed(1)
    trainer.fit(TrainSpec(model=model, loss=nn.CrossEntropyLoss(), optimizer=optimizer, example_input=example), data)
    return trainer


@pytest.mark.parametrize("backend", ["lightning", "ignite", "reference"])
def test_no_value_of_the_specs_example_is_in_the_file(backend, tmp_path):
    trainer = fitted(backend, torch.full((2, 5), SECRET))
    secret = struct.pack("<f", SECRET)
    found = trainer.export(tmp_path / "x.pt2")
    assert found.metadata["example"] == {"input": [0.0] * 5}
    content = _unpacked(found.path)
    assert secret not in content
    assert b"0.718" not in content
    own = trainer.export(tmp_path / "y.pt2", example_input=torch.tensor([[1.0] * 5, [SECRET] * 5]))
    assert own.metadata["example"] == {"input": [1.0] * 5}
    assert b"0.718" not in _unpacked(own.path)  # nor are the rows after the first
    told = trainer.export(tmp_path / "z.pt2", example_input=torch.full((2, 5), SECRET))
    assert b"0.7182818" in _unpacked(told.path)  # the control: it would have been found


def _unpacked(path):
    with zipfile.ZipFile(path) as archive:
        return b"".join(archive.read(name) for name in archive.namelist())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_numbers_are_short_and_read_back_to_the_same_bits(dtype):
    info = torch.finfo(dtype)
    special = [0.0, -0.0, 0.1, 1 / 3, info.max, info.min, info.tiny, info.tiny / 4, info.smallest_normal, 16777216.0]
    given = torch.cat([torch.tensor(special, dtype=dtype), torch.randn(2000, dtype=torch.float64).to(dtype)])
    bits = {2: torch.int16, 4: torch.int32, 8: torch.int64}[given.element_size()]
    again = torch.tensor(json.loads(json.dumps(listed(given))), dtype=torch.float64).to(dtype)
    assert torch.equal(again.view(bits), given.view(bits))
    assert listed(torch.tensor([[0.1, 2.5]])) == [[0.1, 2.5]]
    if dtype == torch.float32:
        numpy = pytest.importorskip("numpy")
        assert [len(repr(one)) for one in listed(given[10:])] == [
            len(repr(float(str(one)))) for one in given[10:].numpy().astype(numpy.float32)
        ]


class Reads(nn.Module):
    """Does what it is made for."""

    def __init__(self, act):
        super().__init__()
        self.forward = act


def test_an_example_is_answered_with_finite_numbers_or_left_out(tmp_path):
    def example(act, given=ROWS, **options):
        path = tmp_path / "x.pt2"
        return export_module(Reads(act), path, default_example=given, **options).metadata["example"]

    assert example(lambda x: x / x.sum(1, keepdim=True)) == {"input": [1.0] * 3}  # zeros give NaN
    assert example(lambda x: 1 / (x * (x - 1) * 0)) is None
    assert example(lambda x: x, torch.ones(2, MOST_NUMBERS)) == {"input": [0.0] * MOST_NUMBERS}
    assert example(lambda x: x, torch.ones(2, MOST_NUMBERS + 1)) is None
    assert example(lambda x: x + 1, example_input=torch.full((2, 2), torch.nan)) == {"input": [0.0] * 2}
    assert example(lambda x: ~x, torch.ones(2, 2, dtype=torch.bool)) == {"input": [False] * 2}


def test_an_input_without_a_batch_axis_is_there_as_a_whole_and_made_of_zeros(tmp_path):
    example = (torch.randn(2, 4), torch.randn(3, 4))
    axes = {"x": {0: "batch"}}
    model = Reads(lambda x, y: x + y.sum(0))
    found = export_module(model, tmp_path / "x.pt2", example_input=example, dynamic_axes=axes).metadata["example"]
    assert found == {"x": [0.0] * 4, "y": [[0.0] * 4] * 3}


def test_a_number_beside_rows_is_there(tmp_path):
    example = (torch.randn(2, 4), torch.tensor(0.5))
    found = export_module(Reads(lambda x, y: x + y), tmp_path / "x.pt2", example_input=example).metadata["example"]
    assert torch.equal(torch.tensor(found["x"]), example[0][0])
    assert found["y"] == 0.5


@pytest.mark.parametrize("axes", [{}, {"input": {1: "sequence"}}], ids=["static", "another axis"])
def test_no_row_of_a_fixed_batch_is_in_the_file(axes, tmp_path):
    rows = torch.full((2, 3), SECRET)
    report = export_module(Reads(lambda x: x * 2), tmp_path / "x.pt2", example_input=rows, dynamic_axes=axes)
    assert report.metadata["example"] == {"input": [[0.0] * 3] * 2}
    content = _unpacked(report.path)
    assert b"0.718" not in content
    assert struct.pack("<f", SECRET) not in content


SHAPES = {
    "the same axes": (lambda x: x * 2, ["batch", "sequence", 3]),
    "a fixed length": (lambda x: x.sum(1), ["batch", 3]),
    "other order": (lambda x: x.transpose(0, 1), ["sequence", "batch", 3]),
    "one that follows none": (lambda x: torch.cat([x, x], 1), ["batch", "output_1", 3]),
    "a number": (lambda x: x.sum(), []),
}


@pytest.mark.parametrize("case", SHAPES)
def test_the_shape_of_an_output_names_what_it_follows(case, tmp_path):
    act, shape = SHAPES[case]
    axes = {"input": {0: "batch", 1: "sequence"}}
    example = torch.randn(2, 6, 3)
    report = export_module(Reads(act), tmp_path / "x.pt2", example_input=example, dynamic_axes=axes)
    assert report.metadata["outputs"][0]["shape"] == shape
    assert torch.equal(torch.tensor(report.metadata["example"]["input"]), example[0])


def test_axes_that_cannot_be_told_apart_are_not_guessed(tmp_path):
    axes = {"x": {0: "batch"}, "y": {0: "others"}}
    model, example = Reads(lambda x, y: (x @ y.T).T), (torch.randn(2, 4), torch.randn(2, 4))
    report = export_module(model, tmp_path / "x.pt2", example_input=example, dynamic_axes=axes)
    assert report.metadata["outputs"][0]["shape"] == ["output_0", "output_1"]
    fixed = export_module(model, tmp_path / "y.pt2", example_input=example, dynamic_axes={})
    assert fixed.metadata["outputs"][0]["shape"] == [2, 2]


def test_a_file_of_an_older_release_is_read(tmp_path):
    """It has neither shapes of outputs nor an example."""
    old = {"unitrain": "0.1", "inputs": [], "outputs": [{"name": "output", "dtype": "float32"}]}
    program = torch.export.export(nn.Linear(4, 3), (torch.randn(2, 4),))
    torch.export.save(program, tmp_path / "x.pt2", extra_files={METADATA: json.dumps(old)})
    assert read_metadata(tmp_path / "x.pt2") == old
    assert find_format("torch_export").load(tmp_path / "x.pt2")(torch.ones(2, 4)).shape == (2, 3)


def test_a_file_that_is_not_unitrains_has_none(tmp_path):
    graph = onnx.helper.make_graph([], "empty", [], [])
    onnx.save(onnx.helper.make_model(graph, producer_name="another"), tmp_path / "foreign.onnx")
    with zipfile.ZipFile(tmp_path / "foreign.pt2", "w") as archive:
        archive.writestr("model/data.pkl", "nothing")
    for number, content in enumerate((b"", b"\xff" * 64, b"{}", b"PK\x03\x04", bytes(range(256)) * 9)):
        for suffix in (".onnx", ".pt2", ".pt", ".safetensors"):
            (tmp_path / f"{number}{suffix}").write_bytes(content)
    for path in tmp_path.iterdir():
        assert read_metadata(path) is None, path.name
    with pytest.raises(FileNotFoundError):
        read_metadata(tmp_path / "none.onnx")


def _number(value):
    """Return a number as protobuf has it."""
    parts = [value >> shift & 127 for shift in range(0, max(value.bit_length(), 1), 7)]
    return bytes([*(one | 128 for one in parts[:-1]), parts[-1]])


def _safetensors(header):
    content = json.dumps(header).encode()
    return struct.pack("<Q", len(content)) + content


def _archive(name, content, flags=0):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)
    data = bytearray(file.getvalue())
    data[6] |= flags
    data[data.index(b"PK\x01\x02") + 8] |= flags
    return bytes(data)


def _corrupt():
    data = bytearray(_archive(f"m/extra/{METADATA}", "{}" * 99))
    at = data.index(METADATA.encode()) + len(METADATA)
    data[at : at + 4] = b"\xff" * 4
    return bytes(data)


FOREIGN = {
    "a list as the header": ("x.safetensors", lambda: _safetensors([])),
    "a text as the metadata": ("x.safetensors", lambda: _safetensors({"__metadata__": "x"})),
    "a number as unitrain's": ("x.safetensors", lambda: _safetensors({"__metadata__": {METADATA: 1}})),
    "a list as the compiler's": ("x.pt2", lambda: _archive("m/wrapper_metadata.json", "[]")),
    "an encrypted archive": ("x.pt2", lambda: _archive(f"m/extra/{METADATA}", "{}", flags=1)),
    "a damaged archive": ("x.pt2", _corrupt),
    "a property of a terabyte": ("x.onnx", lambda: _number(14 << 3 | 2) + _number(2**40) + b"x"),
    "a property without a value": ("x.onnx", lambda: b"\x72" + _number(len(METADATA) + 2) + b"\x0a" + _text(METADATA)),
}


def _text(value):
    return _number(len(value)) + value.encode()


@pytest.mark.parametrize("case", FOREIGN)
def test_a_file_of_another_shape_has_none(case, tmp_path):
    name, content = FOREIGN[case]
    (tmp_path / name).write_bytes(content())
    assert read_metadata(tmp_path / name) is None


@pytest.mark.parametrize("name", ["x.onnx", "x.pt2"])
def test_a_damaged_file_has_none_or_the_same(name, tmp_path):
    whole = export_module(nn.Linear(4, 3), tmp_path / name, example_input=torch.randn(2, 4))
    content = whole.path.read_bytes()
    for end in range(0, len(content), max(1, len(content) // 200)):
        whole.path.write_bytes(content[:end])
        assert read_metadata(whole.path) in (None, whole.metadata)
