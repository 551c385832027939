"""The format aoti: compiled for real, the same code from both backends, a process of its own, and refusals."""

import os
import re
import subprocess
import sys
import tempfile
import zipfile

import psutil
import pytest
import torch
from torch import nn

from tests.export.models import MODELS, made
from unitrain.errors import ExportError
from unitrain.export.formats import aoti
from unitrain.export.pipeline import export_module
from unitrain.export.sources import checksum

SLOW = pytest.mark.slow


@pytest.fixture(autouse=True)
def quickly():
    """Compile without optimization and without looking for the processor's vector units: half of the time."""
    from torch._inductor import config

    with config.patch({"aot_inductor.compile_wrapper_opt_level": "O0", "cpp.simdlen": 1}):
        yield


def parts(path):
    """Return what is in the package but for its machine code and torch's own marks."""
    with zipfile.ZipFile(path) as package:
        return {
            name.partition("/")[2]: package.read(name)
            for name in package.namelist()
            if name.endswith((".cpp", ".json"))
        }


def code(path):
    """Return the C++ in a package, without the comments, which name temporary folders, and the names made from them."""
    found = [content.decode() for name, content in parts(path).items() if name.endswith(".cpp")]
    return sorted(re.sub(r"//.*|\bc[a-z2-7]{51}\b", "", one) for one in found)


@pytest.mark.parametrize("name", ["mlp", *(pytest.param(one, marks=SLOW) for one in MODELS if one != "mlp")])
def test_a_file_is_verified_and_nothing_else_stays(runs, tmp_path, monkeypatch, name):
    children = set(psutil.Process().children(recursive=True))  # a server of other tests, perhaps
    trainer, checkpoint = runs(name, "ignite")
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    before = dict(os.environ)
    report = trainer.export(tmp_path / "net.pt2", format="aoti", ckpt_path=checkpoint)
    assert report.sizes == [{"batch": 1}, {"batch": 2}, {"batch": 7}]
    assert report.max_difference <= 1e-4
    assert report.metadata["checkpoint_sha256"] == checksum(checkpoint)
    assert report.metadata["format"] == "aoti"
    assert os.environ == before
    assert sorted(one.name for one in tmp_path.rglob("*")) == ["net.pt2", "temporary"]
    assert not set(psutil.Process().children(recursive=True)) - children

    inputs = MODELS[name][1](9)
    torch.save(inputs, tmp_path / "inputs.pt")
    script = """
import sys
sys.modules["unitrain"] = None
import torch
torch.set_num_threads(1)
inputs = torch.load("inputs.pt")
row = inputs.values() if isinstance(inputs, dict) else [inputs]
package = torch._inductor.aoti_load_package("net.pt2")
given = package(*row)
torch.save((list(given) if isinstance(given, (tuple, list)) else [given], package.get_metadata()), "outputs.pt")
"""
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=True, capture_output=True)
    given, metadata = torch.load(tmp_path / "outputs.pt")
    with torch.no_grad():
        wanted = trainer.model.eval()(inputs)
    for one, other in zip(given, wanted.values() if isinstance(wanted, dict) else [wanted], strict=True):
        assert one.shape == other.shape
        assert (one - other).abs().max() <= 1e-4 * other.abs().max()
    assert '"unitrain"' in metadata["unitrain.json"]


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_both_backends_give_the_same_code_and_weights(runs, tmp_path, name):
    reports = [
        runs(name, backend)[0].export(tmp_path / f"{backend}.pt2", format="aoti", weights="model")
        for backend in ("lightning", "ignite")
    ]
    first, second = (code(report.path) for report in reports)
    assert first
    assert first == second
    inputs = MODELS[name][1](9)
    row = list(inputs.values()) if isinstance(inputs, dict) else [inputs]
    outputs = [aoti.FORMAT.load(report.path)(*row) for report in reports]
    outputs = [list(one) if isinstance(one, (tuple, list)) else [one] for one in outputs]
    assert all(torch.equal(one, other) for one, other in zip(*outputs, strict=True))


@pytest.mark.slow
def test_other_weights_in_the_file_are_noticed(tmp_path, monkeypatch):
    """Seeded: the graph is of a model whose bias is off by a thousandth."""
    graph = aoti.graph_of

    def faulty(request):
        program, metadata = graph(request)
        program.state_dict["model.bias"] = nn.Parameter(program.state_dict["model.bias"] + 1e-3)
        return program, metadata

    monkeypatch.setattr(aoti, "graph_of", faulty)
    with pytest.raises(ExportError, match="the outputs of the file differ from the model"):
        export_module(nn.Linear(4, 2), tmp_path / "net.pt2", format="aoti", example_input=torch.randn(2, 4))
    assert not list(tmp_path.iterdir())


def test_without_a_compiler_it_is_refused_before_the_model_is_followed(tmp_path, monkeypatch):
    from torch._inductor import config

    monkeypatch.setattr(aoti, "graph_of", lambda request: pytest.fail("followed"))
    with config.patch({"cpp.cxx": ("no-such-compiler",)}), pytest.raises(ExportError, match="needs a C") as caught:
        export_module(nn.Linear(4, 2), tmp_path / "net.pt2", format="aoti", example_input=torch.randn(2, 4))
    assert "CXX" in caught.value.hint
    assert not list(tmp_path.iterdir())


def test_what_the_compiler_says_is_in_the_error(tmp_path, monkeypatch):
    """Seeded: a compiler that always fails."""
    from torch._inductor import config

    compiler = tmp_path / "broken-g++"
    compiler.write_text(
        '#!/bin/sh\ncase "$*" in *--version*) echo g++ 12; exit 0;; esac\necho no room left >&2; exit 1\n'
    )
    compiler.chmod(0o755)
    (tmp_path / "out").mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with (
        config.patch({"cpp.cxx": (str(compiler),)}),
        pytest.raises(ExportError, match="AOTInductor cannot compile") as caught,
    ):
        export_module(nn.Linear(4, 2), tmp_path / "out" / "net.pt2", format="aoti", example_input=torch.randn(2, 4))
    assert "no room left" in str(caught.value)
    assert not list((tmp_path / "out").iterdir())


def test_what_depends_on_numbers_is_refused_with_its_line(tmp_path):
    class Branches(nn.Module):
        def forward(self, inputs):
            return inputs * 2 if inputs.sum() > 0 else inputs

    with pytest.raises(ExportError, match=r"inputs \* 2 if inputs.sum\(\) > 0"):
        export_module(Branches(), tmp_path / "net.pt2", format="aoti", example_input=torch.randn(2, 4))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("options", [{"half": True}, {"opset": 18}])
def test_an_option_of_other_formats_is_refused(tmp_path, options):
    model, example = made("mlp")
    with pytest.raises(ExportError, match=f"does not support {next(iter(options))}="):
        export_module(model, tmp_path / "net.pt2", format="aoti", example_input=example, **options)
