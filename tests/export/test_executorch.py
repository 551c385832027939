"""The format executorch: models from both backends, the largest batch, a process of its own, and refusals."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.export import Dim

from tests.export.models import MODELS, OTHERS
from unitrain.cli import main
from unitrain.errors import ExportError
from unitrain.export.formats import executorch
from unitrain.export.pipeline import export_module
from unitrain.export.sources import checksum

SLOW = pytest.mark.slow
BATCH = Dim("batch", max=40)


def exported(net, path, example, **options):
    return export_module(net, path, example_input=example, dynamic_axes={"input": {0: BATCH}}, **options)


def trained_and_exported(runs, name, tmp_path, **options):
    """Return the reports of both backends' runs, from one checkpoint."""
    shared = runs(name, "lightning")[1]
    inputs = ("user", "item") if name == "towers" else ("input",)
    axes = {one: {0: BATCH} for one in inputs}
    return [
        runs(name, backend)[0].export(tmp_path / f"{backend}.pte", ckpt_path=shared, dynamic_axes=axes, **options)
        for backend in ("lightning", "ignite")
    ]


@pytest.mark.parametrize("name", ["towers", *(pytest.param(one, marks=SLOW) for one in ("mlp", "cnn", "transformer"))])
def test_a_file_is_verified_up_to_the_largest_batch_and_is_the_same_from_both_backends(runs, tmp_path, name, capfd):
    reports = trained_and_exported(runs, name, tmp_path)
    for report in reports:
        assert report.sizes == [{"batch": 1}, {"batch": 2}, {"batch": 7}, {"batch": 40}]
        assert report.max_difference <= 1e-4
    assert reports[0].path.read_bytes() == reports[1].path.read_bytes()
    assert reports[0].metadata["checkpoint_sha256"] == checksum(runs(name, "lightning")[1])
    assert reports[0].metadata["inputs"][0]["shape"][0] == "batch"
    assert sorted(one.name for one in tmp_path.iterdir()) == ["ignite.pte", "lightning.pte"]
    assert "cpuinfo" not in capfd.readouterr().err


def test_a_dict_comes_in_and_goes_out_by_the_order_of_its_keys(runs, tmp_path):
    trainer, inputs = runs("towers", "ignite")[0], OTHERS["towers"][1](3)
    report = trainer.export(tmp_path / "net.pte", dynamic_axes={one: {0: BATCH} for one in inputs})
    assert [one["name"] for one in report.metadata["inputs"]] == ["user", "item"]
    assert [one["name"] for one in report.metadata["outputs"]] == ["logits", "value"]
    logits, value = executorch.FORMAT.load(report.path)(*inputs.values())
    with torch.no_grad():
        wanted = trainer.model.eval()(inputs)
    assert (logits - wanted["logits"]).abs().max() <= 1e-5
    assert (value - wanted["value"]).abs().max() <= 1e-5


@pytest.mark.slow
def test_a_file_runs_in_a_process_that_cannot_import_unitrain(runs, tmp_path):
    report = runs("cnn", "ignite")[0].export(tmp_path / "net.pte", dynamic_axes={"input": {0: BATCH}})
    inputs = MODELS["cnn"][1](9)
    torch.save(inputs, tmp_path / "inputs.pt")
    code = """
import sys
sys.modules["unitrain"] = None
import torch
from executorch.runtime import Runtime
program = Runtime.get().load_program("net.pte")
output = program.load_method("forward").execute([torch.load("inputs.pt")])[0].clone()
torch.save((output, program.load_method("unitrain.json").execute([])[0]), "outputs.pt")
"""
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, capture_output=True)
    output, metadata = torch.load(tmp_path / "outputs.pt")
    assert torch.equal(output, executorch.FORMAT.load(report.path)(inputs)[0])
    assert '"unitrain"' in metadata
    assert str(Path(torch.__file__).parent).encode() not in report.path.read_bytes()


def test_the_command_takes_the_largest_batch_after_the_axis(runs, tmp_path, monkeypatch, capsys):
    (tmp_path / "their_models.py").write_text(
        "from tests.export.models import made\nmake_net = lambda: made('mlp')[0]\n"
    )
    monkeypatch.chdir(tmp_path)
    words = ["out.pte", "--model", "their_models:make_net", "--example", "3,5"]
    assert main(["export", str(runs("mlp", "ignite")[1]), *words, "--dynamic", "input:0=batch:12"]) == 0
    assert "output at batch=12:" in capsys.readouterr().out
    assert main(["export", str(runs("mlp", "ignite")[1]), *words]) != 0
    told = capsys.readouterr().err
    assert "'batch' has no maximum size" in told
    assert "--dynamic INPUT:AXIS=NAME:MAX" in told
    del sys.modules["their_models"]


def test_an_axis_without_a_largest_size_is_refused_with_what_to_write(tmp_path):
    with pytest.raises(ExportError, match=r'"input": \{0: torch.export.Dim\("batch", max=64\)\}') as caught:
        export_module(nn.Linear(4, 2), tmp_path / "net.pte", example_input=torch.randn(2, 4))
    assert "'batch' has no maximum size" in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_without_any_such_axis_it_takes_the_examples_size(tmp_path):
    report = export_module(nn.Linear(4, 2), tmp_path / "net.pte", example_input=torch.randn(2, 4), dynamic_axes={})
    assert report.sizes == [{}]
    with pytest.raises(RuntimeError, match="resize"):  # what the runtime wrote is in the error
        executorch.FORMAT.load(report.path)(torch.randn(3, 4))


def test_a_file_for_less_than_was_asked_is_refused(tmp_path, monkeypatch):
    """Seeded: followed at the example's size, where XNNPACK's partitioner concludes that there are at most 15."""
    monkeypatch.setattr(executorch, "_inputs_of", lambda request, sizes: request.inputs)
    example = torch.randn(3, 1, 8, 8)
    with pytest.raises(ExportError, match="supports at most 15 along axis 0 of 'input'; requested: 40"):
        exported(MODELS["cnn"][0](), tmp_path / "net.pte", example)
    assert not list(tmp_path.iterdir())


class Calls(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, inputs):
        return self.function(inputs)


@pytest.mark.parametrize(
    ("net", "example", "told"),
    [
        (nn.EmbeddingBag(7, 4), torch.ones(2, 3, dtype=torch.int64), "lacks aten::_embedding_bag.out"),
        (lambda inputs: torch.linalg.svd(inputs)[1], torch.randn(2, 3), "linalg_svd.default is not in Core ATen"),
    ],
)
def test_an_operator_that_it_lacks_is_named(tmp_path, net, example, told):
    with pytest.raises(ExportError, match=told) as caught:
        export_module(Calls(net), tmp_path / "net.pte", example_input=example, dynamic_axes={})
    assert f"node {'embedding_bag' if 'bag' in told else 'linalg_svd'} test_executorch.py:" in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_other_weights_in_the_file_are_noticed(tmp_path, monkeypatch):
    """Seeded: the graph is of a model whose bias is off by a thousandth."""
    follow = executorch.followed

    def faulty(request):
        program = follow(request)
        program.state_dict["model.bias"] = nn.Parameter(program.state_dict["model.bias"] + 1e-3)
        return program

    monkeypatch.setattr(executorch, "followed", faulty)
    with pytest.raises(ExportError, match="the outputs of the file differ from the model"):
        exported(nn.Linear(4, 2), tmp_path / "net.pte", torch.randn(2, 4))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("options", [{"half": True}, {"opset": 18}])
def test_an_option_of_other_formats_is_refused(tmp_path, options):
    with pytest.raises(ExportError, match=f"does not support {next(iter(options))}="):
        exported(nn.Linear(4, 2), tmp_path / "net.pte", torch.randn(2, 4), **options)


def test_its_packages_are_asked_for_by_their_extra(tmp_path, monkeypatch):
    monkeypatch.setattr("unitrain.export.formats.table.find_spec", lambda name: None)
    with pytest.raises(ExportError, match=r"pytorch-unitrain\[executorch\]"):
        exported(nn.Linear(4, 2), tmp_path / "net.pte", torch.randn(2, 4))
