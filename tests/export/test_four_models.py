"""Each format carries each model, trained on each backend: the same file, which runs without unitrain."""

import re
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.export.models import MODELS, made
from unitrain.checkpoint.convert.conversion import convert_checkpoint
from unitrain.export.formats.table import find_format
from unitrain.export.metadata import read_metadata
from unitrain.export.sources import checksum

FORMATS = {"onnx": ".onnx", "torch_export": ".pt2", "torchscript": ".pt", "safetensors": ".safetensors"}
NAMES = ["mlp", "dict", *(pytest.param(one, marks=pytest.mark.slow) for one in ("cnn", "transformer"))]
LIMITS = {"onnx": 1e-4, "torch_export": 1e-6, "torchscript": 1e-5, "safetensors": 0.0}


@pytest.fixture(scope="session")
def exports(runs, tmp_path_factory):
    """Return what writes a model to a format once, from the checkpoint of each backend's run."""
    folder, done = tmp_path_factory.mktemp("exports"), {}

    def export(name, kind):
        if (name, kind) not in done:
            done[name, kind] = [_export(folder, runs, name, kind, backend) for backend in ("lightning", "ignite")]
        return done[name, kind]

    return export


def _export(folder, runs, name, kind, backend):
    trainer, _ = runs(name, backend)
    shared = runs(name, "lightning")[1]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "TorchScript is deprecated", FutureWarning)
        return trainer.export(folder / f"{name}-{backend}{FORMATS[kind]}", format=kind, ckpt_path=shared)


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("name", NAMES)
def test_a_file_is_verified_at_three_sizes_and_is_the_same_from_both_backends(exports, name, kind):
    reports = exports(name, kind)
    for report in reports:
        assert report.tolerance.limit == LIMITS[kind]
        assert report.max_difference <= report.tolerance.limit
        assert [one["batch"] for one in report.sizes] == ([] if kind == "safetensors" else [1, 2, 7])
    first, second = (report.path.read_bytes() for report in reports)
    if kind == "torchscript":  # the names of its classes are numbered by what the process has traced before
        first, second = (_plain(report.path) for report in reports)
    assert first == second


def _plain(path):
    module = find_format("torchscript").load(path)
    numbered = str(module.inlined_graph)
    return re.sub(r"\.___torch_mangle_\d+| #.*", "", numbered), [
        (k, v.tolist()) for k, v in module.state_dict().items()
    ]


@pytest.mark.parametrize("name", NAMES)
def test_both_backends_runs_export_the_same_weights_too(runs, tmp_path, name):
    files = []
    for backend in ("lightning", "ignite"):
        report = runs(name, backend)[0].export(tmp_path / f"{backend}.pt2")
        assert report.metadata["checkpoint_sha256"] is None
        files.append(report.path.read_bytes())
    assert files[0] == files[1]


@pytest.mark.parametrize("name", NAMES)
def test_safetensors_holds_the_trained_weights(exports, runs, name):
    found = load_file(exports(name, "safetensors")[0].path)
    expected = runs(name, "ignite")[0].model.state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[key], value) for key, value in expected.items())


@pytest.mark.parametrize("kind", FORMATS)
def test_the_metadata_are_in_the_file(exports, runs, kind):
    report = exports("dict", kind)[0]
    found = read_metadata(report.path)
    assert found == report.metadata
    assert found["checkpoint_sha256"] == checksum(runs("dict", "lightning")[1])
    assert not any(word in str(found) for word in ("lightning", "ignite"))
    if kind != "safetensors":
        assert found["inputs"] == [
            {"name": "numbers", "dtype": "float32", "shape": ["batch", 5]},
            {"name": "kinds", "dtype": "int64", "shape": ["batch", 2]},
        ]
        assert found["outputs"] == [
            {"name": "logits", "dtype": "float32", "shape": ["batch", 3]},
            {"name": "features", "dtype": "float32", "shape": ["batch", 8]},
        ]
        assert found["example"] == {"numbers": [0.0] * 5, "kinds": [0, 0]}


@pytest.mark.parametrize("kind", ["onnx", "torch_export", "torchscript"])
def test_no_folder_of_this_machine_is_in_a_file(exports, kind):
    content = exports("dict", kind)[0].path.read_bytes()
    assert str(Path(torch.__file__).parent).encode() not in content
    assert str(Path(__file__).parent).encode() not in content


_FRESH = """
import sys, warnings
sys.modules["unitrain"] = None  # whoever imports it fails
warnings.simplefilter("ignore")
import numpy, onnxruntime, torch
def runs(path):
    if path.endswith(".onnx"):
        session = onnxruntime.InferenceSession(path)
        names = [one.name for one in session.get_inputs()]
        return lambda *given: [torch.as_tensor(one) for one in session.run(None, {n: g.numpy() for n, g in zip(names, given)})]
    return torch.export.load(path).module() if path.endswith(".pt2") else torch.jit.load(path)
for path, limit, inputs, expected in torch.load(sys.argv[1]):
    given = runs(path)(*inputs)
    given = [given] if isinstance(given, torch.Tensor) else list(given)
    assert len(given) == len(expected), path
    for one, other in zip(given, expected):
        assert one.shape == other.shape, path
        assert float((one - other).abs().max()) <= limit * float(other.abs().max()), path
print("all", end="")
"""


@pytest.mark.parametrize("names", [("mlp", "dict"), pytest.param(("cnn", "transformer"), marks=pytest.mark.slow)])
def test_a_file_runs_in_a_process_that_cannot_import_unitrain(exports, runs, tmp_path, names):
    cases = []
    for name in names:
        model = runs(name, "ignite")[0].model
        torch.manual_seed(1)
        value = MODELS[name][1](5)
        with torch.no_grad():
            output = model.eval()(value)
        rows = [list(one.values()) if isinstance(one, dict) else [one] for one in (value, output)]
        kinds = ("onnx", "torch_export", "torchscript")
        cases += [(str(exports(name, kind)[1].path), LIMITS[kind], *rows) for kind in kinds]
    torch.save(cases, tmp_path / "cases.pt")
    done = subprocess.run(
        [sys.executable, "-c", _FRESH, tmp_path / "cases.pt"], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert done.stdout == "all", done.stderr


def test_a_checkpoint_in_the_form_of_ignite_exports_as_the_portable_one_does(runs, tmp_path):
    from unitrain.export.pipeline import export_module
    from unitrain.export.sources import from_checkpoint

    path = runs("mlp", "ignite")[1]
    convert_checkpoint(path, tmp_path / "ignite.pt", "ignite")
    convert_checkpoint(path, tmp_path / "lightning.ckpt", "lightning")
    files = []
    for one in (path, tmp_path / "ignite.pt", tmp_path / "lightning.ckpt"):
        model, example = made("mlp")
        source = from_checkpoint(one, model, "model")
        export_module(model, tmp_path / "out.pt2", weights=source.tensors, example_input=example)
        files.append((tmp_path / "out.pt2").read_bytes())
    assert files[0] == files[1] == files[2]
