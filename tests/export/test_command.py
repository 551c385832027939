"""``unitrain export``, as it is typed."""

import sys

import onnx
import pytest
import torch

from unitrain.cli import main
from unitrain.export.formats.table import FORMATS, find_format
from unitrain.export.metadata import read_metadata

SCRIPT = """
import torch
from torch import nn
from tests.export.models import made
from unitrain import TrainSpec

def make_spec():
    model, example = made("mlp")
    return TrainSpec(model=model, example_input=example)

def make_net():
    return made("mlp")[0]

def make_dict():
    return made("dict")[0]

rows = torch.randn(3, 5)

def more_rows():
    return torch.randn(3, 5)

def needs(one): ...

class Doubles(nn.Module):
    def forward(self, x):
        return x * 2
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "my_models.py").write_text(SCRIPT)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "my_models", raising=False)
    yield tmp_path
    sys.modules.pop("my_models", None)


@pytest.fixture
def run(runs, folder):
    def typed(*words, name="mlp", backend="ignite"):
        return main(["export", str(runs(name, backend)[1]), *words])

    return typed


def test_it_exports_and_tells_how_far_the_file_is_from_the_model(run, runs, capsys):
    path = list(sys.path)
    assert run("x.pt2", "--model", "my_models:make_spec") == 0
    said = capsys.readouterr().out
    assert "x.pt2: torch_export" in said
    assert "output at batch=7: 0 absolute, 0 relative" in said
    assert sys.path == path
    model = runs("mlp", "lightning")[0].model.eval()
    rows = torch.randn(4, 5)
    with torch.no_grad():
        assert torch.equal(find_format("torch_export").load("x.pt2")(rows), model(rows))


def test_the_command_and_the_trainer_write_the_same_file(run, runs, folder):
    trainer, path = runs("mlp", "lightning")
    trainer.export(folder / "trainer.pt2", ckpt_path=path)
    assert run("command.pt2", "--model", "my_models:make_spec", backend="lightning") == 0
    assert (folder / "trainer.pt2").read_bytes() == (folder / "command.pt2").read_bytes()


def test_all_that_can_be_typed_acts(run):
    words = ["x.onnx", "--model", "my_models:make_net", "--example", "4,5", "--input-name", "rows"]
    words += ["--output-name", "logits", "--dynamic", "rows:0=many", "--opset", "18", "--half"]
    words += ["--preprocess", "my_models:Doubles", "--postprocess", "my_models:Doubles", "--tolerance", "0.02"]
    assert run(*words) == 0
    model = onnx.load("x.onnx")
    assert [one.dim_param for one in model.graph.input[0].type.tensor_type.shape.dim] == ["many", ""]
    assert (model.graph.input[0].name, model.graph.output[0].name) == ("rows", "logits")
    assert model.opset_import[0].version == 18
    assert read_metadata("x.onnx")["half"]


@pytest.mark.parametrize(
    "example", [["3,5"], ["my_models:rows"], ["my_models:more_rows"], ["1,5:float32"]], ids=lambda one: one[0]
)
def test_an_example_is_a_shape_or_a_name(run, example):
    assert run("x.pt2", "--model", "my_models:make_net", "--example", *example) == 0


def test_examples_of_a_dict_have_names(run):
    words = ["--example", "numbers=2,5", "--example", "kinds=2,2:int64"]
    assert run("x.pt2", "--model", "my_models:make_dict", *words, name="dict") == 0
    inputs = read_metadata("x.pt2")["inputs"]
    assert [(one["name"], one["dtype"]) for one in inputs] == [("numbers", "float32"), ("kinds", "int64")]


def test_a_static_file_takes_the_examples_size_only(run, capsys):
    assert run("x.pt2", "--model", "my_models:make_spec", "--static") == 0
    assert "the only one accepted" in capsys.readouterr().out


REFUSED = {
    "no example": (["x.pt2", "--model", "my_models:make_net"], ["none was given"]),
    "an example that is none": (["x.pt2", "--model", "my_models:make_net", "--example", "a,b"], ["--example 'a,b'"]),
    "names for some": (
        ["x.pt2", "--model", "my_models:make_net", "--example", "a=2,5", "--example", "2,5"],
        ["for all or for none"],
    ),
    "no dtype": (["x.pt2", "--model", "my_models:make_net", "--example", "2,5:int"], ["mat1 and mat2"]),
    "an unknown dtype": (
        ["x.pt2", "--model", "my_models:make_net", "--example", "2,5:flot"],
        ["unknown torch dtype 'flot'"],
    ),
    "an example that needs more": (
        ["x.pt2", "--model", "my_models:make_net", "--example", "my_models:needs"],
        ["--example 'my_models:needs' cannot be called without arguments"],
    ),
    "no such axis": (["x.pt2", "--model", "my_models:make_spec", "--dynamic", "0=batch"], ["INPUT:AXIS=NAME"]),
    "both": (
        ["x.pt2", "--model", "my_models:make_spec", "--dynamic", "input:0=b", "--static"],
        ["contradict each other"],
    ),
    "another model": (["x.pt2", "--model", "my_models:make_dict"], ["does not match the model"]),
    "no average": (["x.pt2", "--model", "my_models:make_spec", "--weights", "ema"], ["no moving average"]),
    "opset 11": (["x.onnx", "--model", "my_models:make_spec", "--opset", "11"], ["opset 11", "writes 18"]),
    "an option of another format": (
        ["x.pt2", "--model", "my_models:make_spec", "--opset", "18"],
        ["does not support opset="],
    ),
    "a module that is none": (
        ["x.pt2", "--model", "my_models:make_spec", "--preprocess", "my_models:rows"],
        ["--preprocess"],
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_meant_is_refused(case, run, folder, capsys):
    words, told = REFUSED[case]
    assert run(*words) == 1
    said = capsys.readouterr().err
    for word in (*told, "Hint: "):
        assert word in said
    assert [one.name for one in folder.iterdir() if one.suffix != ".py" and one.name != "__pycache__"] == []


def test_a_checkpoint_that_is_not_there_is_refused(folder, capsys):
    assert main(["export", "none.ckpt", "x.pt2", "--model", "my_models:make_spec"]) == 1
    assert "none.ckpt" in capsys.readouterr().err


def test_the_help_teaches(capsys):
    with pytest.raises(SystemExit):
        main(["export", "--help"])
    said = capsys.readouterr().out
    for word in ("--example ids=2,128:int64", "--weights ema", "--dynamic ids:1=sequence", *FORMATS):
        assert word in said
