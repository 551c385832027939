"""`Bundle.check()` starts the entry point by each contract; each check notices a bundle that breaks it."""

import json

import pytest
import torch
from torch import nn

import unitrain
from tests.deployment.driving import copied, forged
from unitrain.cli import main
from unitrain.deployment.bundle import check as checking
from unitrain.deployment.bundle.bundle import read_bundle
from unitrain.deployment.bundle.contracts import CONTRACTS
from unitrain.errors import DeployError

SERVING = "unitrain/serving/"


def failed(report):
    return [(one.contract, one.what) for one in report.checks if not one.passed]


def content(folder):
    return {one: one.read_bytes() for one in folder.rglob("*") if one.is_file()}


def test_a_bundle_meets_each_contract_and_is_unchanged_afterwards(shared):
    before = content(shared.path)
    report = shared.check()
    assert report.passed, str(report)
    assert content(shared.path) == before
    tried = {name: [one.what for one in report.checks if one.contract == name] for name in CONTRACTS}
    assert tried["sagemaker"] == [
        "ready",
        "GET /ping within 2 s",
        "POST /invocations of 6291456 bytes",
        "one byte more is refused",
        "SIGTERM ends it within 30 s",
    ]
    assert "POST /v2/models/digits/infer of 10000000 bytes" in tried["kserve"]
    assert "POST /v1/endpoints/1:predict of 10000000 bytes" in tried["vertex"]
    assert "POST /predict of 10000000 bytes" in tried["docker"]
    assert str(report).splitlines()[0].split() == ["contract", "expected", "found"]


class Two(nn.Module):
    def forward(self, left, right):
        return left + right.unsqueeze(-1), (left * 2).sum(-1)


class Whole(nn.Module):
    def forward(self, x):
        return x.sum(0) > 0


MODELS = {
    "two inputs and outputs": (Two(), (torch.randn(2, 3), torch.randn(2)), {}),
    "words to bool": (Whole(), torch.ones(3, 2, dtype=torch.int64), {"dynamic_axes": {}}),
}


@pytest.mark.parametrize(
    "name", [next(iter(MODELS)), *(pytest.param(one, marks=pytest.mark.slow) for one in [*MODELS][1:])]
)
def test_other_signatures_are_asked_for_by_each_protocol(tmp_path, monkeypatch, name):
    only(monkeypatch, "docker", "kserve", "vertex")
    model, example, options = MODELS[name]
    unitrain.export_module(model, tmp_path / "model.onnx", example_input=example, **options)
    report = unitrain.bundle(tmp_path / "model.onnx", tmp_path / "out").check()
    assert report.passed, str(report)


@pytest.mark.slow  # three imports of torch each
@pytest.mark.filterwarnings("ignore:TorchScript is deprecated:FutureWarning")
@pytest.mark.parametrize(
    ("file", "options"),
    [("model.pt2", {}), ("model.pt", {}), ("model.pt2", {"quantize": "int8"}), ("model.pt2", {"format": "aoti"})],
    ids=["torch_export", "torchscript", "int8", "aoti"],
)
def test_torch_files_meet_each_contract(tmp_path, file, options):
    model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 3))
    unitrain.export_module(model, tmp_path / file, example_input=torch.randn(4, 64), **options)
    made = unitrain.bundle(tmp_path / file, tmp_path / "out", archive=True)
    assert made.manifest["versions"]["packages"]["torch"] == torch.__version__.partition("+")[0]
    report = made.check()
    assert report.passed, str(report)


FAULTS = {
    "the route of Vertex is not served": (
        {SERVING + "contracts.py": ('"AIP_PREDICT_ROUTE"', '"AIP_OTHER_ROUTE"')},
        {"vertex": ["POST /v1/endpoints/1:predict of 10000000 bytes", "one byte more is refused"]},
    ),
    "KServe gets other numbers": (
        {SERVING + "protocols/open_inference.py": ("ascontiguousarray(array).ravel()", "ravel(array) * 2")},
        {"docker": [], "kserve": ["POST /v2/models/digits/infer of 10000000 bytes"]},
    ),
    "ping is never ready": (
        {SERVING + "http/routes.py": ('"/ping", "/v2/health/ready"', '"/v2/health/ready"')},
        {"sagemaker": ["ready"]},
    ),
    "SIGTERM is not heard": (
        {SERVING + "server.py": ("        del frame\n", "        return\n")},
        {"docker": ["SIGTERM ends it within 2 s"]},
    ),
    "the program fails": ({"serve": ("def main(", "raise SystemExit(7)\ndef main(")}, {"docker": ["ready"]}),
    "bodies have lower limits": (
        {"serve": ("**process, **limits", "**process, **limits | {'max_body': 10**6}")},
        {"vertex": ["POST /v1/endpoints/1:predict of 10000000 bytes"]},
    ),
    "bodies have higher limits": (
        {"serve": ("**process, **limits", "**process, **limits | {'max_body': 10**8}")},
        {"sagemaker": ["one byte more is refused"]},
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_broken_bundle_is_noticed(shared, tmp_path, monkeypatch, name):
    edits, expected = FAULTS[name]
    only(monkeypatch, *expected)
    for limit, seconds in {"START": 4.0, "END": 2.0, "_PATIENCE": 1.0}.items():
        monkeypatch.setattr(checking, limit, seconds)
    report = forged(shared, tmp_path / "out", edits).check()
    assert failed(report) == [(contract, what) for contract, all_ in expected.items() for what in all_], str(report)


def only(monkeypatch, *names):
    """Check these contracts only."""
    monkeypatch.setattr(checking, "CONTRACTS", {name: CONTRACTS[name] for name in names})


def test_other_packages_are_noticed(shared, tmp_path, monkeypatch):
    monkeypatch.setattr(checking, "_drive", lambda _: None)
    versions = shared.manifest["versions"]
    packages = versions["packages"] | {"numpy": "1.0", "nothing-of-that-name": "2"}
    report = forged(shared, tmp_path / "out", {}, versions=versions | {"packages": packages}).check()
    assert failed(report) == [("all", "packages as in requirements.txt")]
    assert "numpy==1.0 (installed: " in report.checks[0].found
    assert "nothing-of-that-name==2 (installed: nothing)" in report.checks[0].found


def test_a_changed_bundle_is_not_started(shared, tmp_path, monkeypatch):
    bundle = read_bundle(copied(shared, tmp_path / "out"))
    monkeypatch.setattr(checking, "check", lambda _: pytest.fail("it was started"))
    (bundle.path / "model" / "model.onnx").write_bytes(b"other")
    with pytest.raises(DeployError, match=r"model/model\.onnx in .* was changed"):
        bundle.check()


def test_the_command_packs_and_checks(onnx, tmp_path, capsys, monkeypatch):
    folder = tmp_path / "out"
    given = ["--target", "sagemaker", "--archive", "--name", "net", "--licence", "MIT", "--data", "rows"]
    assert main(["bundle", str(onnx), str(folder), *given]) == 0
    made = read_bundle(folder)
    said = capsys.readouterr().out
    assert said == f"{folder / 'model.tar.gz'}\nnet for sagemaker, sha256 {made.digest}\n"
    only(monkeypatch, "sagemaker")
    for one in (folder, folder / "model.tar.gz"):
        assert main(["bundle", "--check", str(one)]) == 0
        assert "POST /invocations" in capsys.readouterr().out
    monkeypatch.setattr(checking, "START", 5.0)
    broken = forged(made, tmp_path / "broken", {"serve": ("def main(", "raise SystemExit(7)\ndef main(")})
    assert main(["bundle", "--check", str(broken.path)]) == 1
    assert "FAILED" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["out"], "MODEL or FOLDER is missing"),
        (["--check", "model.onnx", "out"], "--check takes only FOLDER; got MODEL too"),
        (["--check", "out", "--archive"], "--check takes only FOLDER; got --archive too"),
        (["--check", "out"], "there is no bundle out"),
        (["model.onnx", "out"], "model.onnx is not a file"),
    ],
)
def test_the_command_tells_what_is_wrong(given, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["bundle", *given]) == 1
    assert f"unitrain bundle: {message}" in capsys.readouterr().err


def test_a_checked_bundle_sees_no_secret_and_nothing_of_this_process(shared, tmp_path, monkeypatch):
    for name in ("AWS_SECRET_ACCESS_KEY", "UNITRAIN_TOKEN", "HF_TOKEN", "PYTHONPATH"):
        monkeypatch.setenv(name, "hunter2")
    note = tmp_path / "environment.json"
    tells = f"import json, os\nopen({str(note)!r}, 'w').write(json.dumps([dict(os.environ), sys.argv]))\n"
    only(monkeypatch, "docker")
    assert not failed(
        forged(shared, tmp_path / "out", {"serve": ("import signal\n", f"import signal\nimport sys\n{tells}")}).check()
    )
    found = json.loads(note.read_text())
    assert "hunter2" not in str(found)
    assert found[0].keys() <= {*checking._PASSED_ON, "PORT", "UNITRAIN_MODEL_DIR", "LC_CTYPE"}
