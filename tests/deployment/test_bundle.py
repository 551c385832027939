"""What is in a bundle, what is refused, and that the same model gives the same bytes."""

import ast
import errno
import hashlib
import json
import os
import shutil
import stat
import subprocess
import sys
import tarfile
from functools import partial
from pathlib import Path

import onnx as onnx_format
import pytest
import torch
import yaml
from torch import nn

import unitrain
from unitrain.deployment.bundle import make, place
from unitrain.deployment.bundle.bundle import read_bundle
from unitrain.deployment.bundle.contracts import CONTRACTS
from unitrain.deployment.bundle.names import LONGEST, name_from, require_name
from unitrain.errors import DeployError

ALWAYS = {".dockerignore", "Dockerfile", "MODEL_CARD.md", "manifest.json", "requirements.txt", "sbom.cdx.json", "serve"}


def files(folder):
    """Return the content of each file below a folder by its path."""
    found = (one for one in sorted(folder.rglob("*")) if one.is_file())
    return {one.relative_to(folder).as_posix(): one.read_bytes() for one in found}


@pytest.mark.parametrize("target", CONTRACTS)
def test_a_bundle_holds_its_files_and_no_other(onnx, tmp_path, target):
    made = unitrain.bundle(onnx, tmp_path / "out", target=target)
    found = files(made.path)
    more = {"inferenceservice.yaml"} if target == "kserve" else set()
    assert {name for name in found if "/" not in name} == ALWAYS | more
    assert {name.partition("/")[0] for name in found if "/" in name} == {"model", "unitrain"}
    assert found["model/model.onnx"] == onnx.read_bytes()
    listed = made.manifest["files"]
    assert listed.keys() == found.keys() - {"manifest.json"}
    for name, one in listed.items():
        assert one == {"sha256": hashlib.sha256(found[name]).hexdigest(), "size": len(found[name])}
    assert made.digest == hashlib.sha256(found["manifest.json"]).hexdigest()
    assert (made.name, made.target, made.archive) == ("digits", target, None)
    assert [one.name for one in made.signature.inputs] == ["input"]
    assert ("USER" in found["Dockerfile"].decode()) == (target != "sagemaker")
    assert stat.S_IMODE((made.path / "serve").stat().st_mode) == 0o755


def test_two_bundles_of_one_model_are_the_same_bytes(onnx, tmp_path):
    one = unitrain.bundle(onnx, tmp_path / "one", archive=True)
    copy = Path(shutil.copy(onnx, tmp_path / "digits.onnx"))
    os.utime(copy, (1, 1))
    other = unitrain.bundle(copy, tmp_path / "deeper" / "other", archive=True)
    assert files(one.path) == files(other.path)
    assert one.digest == other.digest


def fitted(framework):
    torch.manual_seed(0)
    spec = unitrain.TrainSpec(
        model=nn.Linear(4, 3), loss=nn.CrossEntropyLoss(), optimizer=partial(torch.optim.SGD, lr=0.1)
    )
    batches = [(torch.randn(8, 4), torch.randint(0, 3, (8,))) for _ in range(2)]
    trainer = unitrain.UnifiedTrainer(framework, max_epochs=1, enable_progress_bar=False)
    return trainer, trainer.fit(spec, batches, batches)


def test_two_backends_give_the_same_bytes(tmp_path):
    found = []
    for framework in ("lightning", "ignite"):
        trainer, result = fitted(framework)
        given = {"name": "digits", "metrics": result.metrics, "example_input": torch.ones(2, 4)}
        made = unitrain.bundle(trainer, tmp_path / framework, archive=True, **given)
        found.append((made.digest, files(made.path)))
    assert found[0] == found[1]
    card = found[0][1]["MODEL_CARD.md"].decode()
    for told in (
        "| val/loss | ",
        "| model | Linear |",
        "| parameters | 15 |",
        "| loss | CrossEntropyLoss |",
        "SGD(lr=0.1",
    ):
        assert told in card


def test_another_model_name_or_target_has_another_digest(onnx, tmp_path, shared):
    unitrain.export_module(nn.Linear(4, 3), tmp_path / "digits.onnx", example_input=torch.ones(2, 4))
    others = [
        unitrain.bundle(tmp_path / "digits.onnx", tmp_path / "1", target="sagemaker"),
        unitrain.bundle(onnx, tmp_path / "2", target="sagemaker", name="other"),
        unitrain.bundle(onnx, tmp_path / "3", target="vertex"),
        unitrain.bundle(onnx, tmp_path / "4", target="sagemaker", licence="MIT"),
    ]
    assert len({shared.digest, *(one.digest for one in others)}) == 5


def test_the_archive_has_no_time_no_owner_and_no_folder(shared):
    with tarfile.open(shared.archive) as archive:
        members = archive.getmembers()
    assert {(one.mtime, one.uid, one.gid, one.uname, one.gname, one.isreg()) for one in members} == {
        (0, 0, 0, "", "", True)
    }
    names = [one.name for one in members]
    assert names == ["manifest.json", *sorted(shared.manifest["files"])]
    assert {one.name for one in members if one.mode & 0o111} == {"serve"}
    assert shared.archive.read_bytes()[4:8] == bytes(4)  # the time of gzip


def test_a_bundle_is_read_back_from_its_folder_and_its_archive(shared, tmp_path):
    assert read_bundle(shared.path) == shared
    other = read_bundle(shared.archive, into=tmp_path / "unpacked")
    assert (other.digest, other.archive) == (shared.digest, shared.archive)
    assert files(other.path) == {name: one for name, one in files(shared.path).items() if name != "model.tar.gz"}
    temporary = read_bundle(shared.archive)
    assert temporary.digest == shared.digest
    assert read_bundle(other.path).digest == shared.digest
    assert (
        repr(shared)
        == f"Bundle({str(shared.path)!r}, target='sagemaker', name='digits', digest={shared.digest[:12]!r})"
    )


def test_an_own_folder_is_replaced_and_nothing_else_remains(onnx, tmp_path):
    first = unitrain.bundle(onnx, tmp_path / "out", target="kserve", archive=True)
    second = unitrain.bundle(onnx, tmp_path / "out", target="vertex")
    assert first.digest != second.digest
    assert "inferenceservice.yaml" not in files(tmp_path / "out")
    assert "model.tar.gz" not in files(tmp_path / "out")
    assert list(tmp_path.iterdir()) == [tmp_path / "out"]


@pytest.mark.parametrize("exchanges", [True, False], ids=["in one step", "in three"])
def test_a_failure_keeps_what_was_there(onnx, tmp_path, monkeypatch, exchanges):
    if not exchanges:
        monkeypatch.setattr(place, "_exchanged", lambda *_: False)
    first = unitrain.bundle(onnx, tmp_path / "out")
    monkeypatch.setattr(make, "put", fails)
    with pytest.raises(DeployError, match="No space left on device"):
        unitrain.bundle(onnx, tmp_path / "out", target="vertex")
    assert read_bundle(tmp_path / "out").digest == first.digest
    assert list(tmp_path.iterdir()) == [tmp_path / "out"]
    monkeypatch.undo()
    if not exchanges:
        monkeypatch.setattr(place, "_exchanged", lambda *_: False)
    assert unitrain.bundle(onnx, tmp_path / "out", target="vertex").target == "vertex"
    assert list(tmp_path.iterdir()) == [tmp_path / "out"]


def fails(*_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_folder_is_never_half_of_a_bundle(onnx, tmp_path):
    """Another process looks at it all the time, while bundles replace each other."""
    folder = tmp_path / "out"
    unitrain.bundle(onnx, folder)
    script = (
        "import pathlib, sys, time\n"
        "end = time.monotonic() + 60\n"
        "while time.monotonic() < end and not pathlib.Path(sys.argv[2]).exists():\n"
        "    if not pathlib.Path(sys.argv[1], 'serve').exists(): sys.exit('it was not there')\n"
    )
    done = tmp_path / "done"
    with subprocess.Popen([sys.executable, "-c", script, folder, done], stderr=subprocess.PIPE, text=True) as looks:
        for index in range(10):
            unitrain.bundle(onnx, folder, target=("vertex", "docker")[index % 2])
        done.touch()
        assert looks.communicate(timeout=60)[1] == ""


def test_two_processes_do_not_write_one_folder_at_once(onnx, tmp_path):
    with place.alone(tmp_path / "out"), pytest.raises(DeployError, match="another process is writing"):
        unitrain.bundle(onnx, tmp_path / "out")
    assert unitrain.bundle(onnx, tmp_path / "out").digest


def test_one_of_several_processes_of_a_trainer_is_refused(tmp_path):
    trainer, _ = fitted("reference")
    trainer._world = object()
    with pytest.raises(DeployError, match="is for a single process"):
        unitrain.bundle(trainer, tmp_path / "out")


def test_a_trainer_that_has_not_run_is_refused(tmp_path):
    with pytest.raises(unitrain.ExportError, match="nothing has run yet"):
        unitrain.bundle(unitrain.UnifiedTrainer("reference"), tmp_path / "out")
    assert not list(tmp_path.iterdir())


def added(folder):
    (folder / "notes.txt").write_text("mine")


def edited(folder):
    (folder / "Dockerfile").write_text("FROM other")


def without_manifest(folder):
    (folder / "manifest.json").unlink()


def foreign(folder):
    shutil.rmtree(folder)
    folder.mkdir()
    (folder / "manifest.json").write_text('{"name": "an app"}')


def a_file(folder):
    shutil.rmtree(folder)
    folder.write_text("mine")


def a_link(folder):
    folder.rename(folder.with_name("elsewhere"))
    folder.symlink_to("elsewhere")


@pytest.mark.parametrize(
    "change", [added, edited, without_manifest, foreign, a_file, a_link], ids=lambda one: one.__name__
)
def test_what_bundle_did_not_leave_so_is_kept(onnx, tmp_path, change):
    folder = tmp_path / "out"
    unitrain.bundle(onnx, folder)
    change(folder)
    before = files(tmp_path)
    with pytest.raises(DeployError, match="Hint: choose"):
        unitrain.bundle(onnx, folder, target="vertex")
    assert files(tmp_path) == before
    assert folder.is_symlink() == (change is a_link)


def test_an_empty_folder_is_filled(onnx, tmp_path):
    (tmp_path / "out").mkdir()
    assert unitrain.bundle(onnx, tmp_path / "out").path == tmp_path / "out"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"target": "azure"}, "target= must be one of 'docker', 'kserve'"),
        ({"target": "sagemakr"}, "did you mean 'sagemaker'"),
        ({"target": None}, "target= must be"),
        ({"name": "Digits"}, "name='digits'"),
        ({"name": "a" * (LONGEST + 1)}, "at most 40"),
        ({"name": ""}, "name= must be"),
        ({"name": "-a"}, "name= must be"),
        ({"name": "a--b"}, "name='a-b'"),
        ({"name": "a\n"}, "name= must be"),
        ({"name": 3}, "name= must be"),
        ({"archive": "yes"}, "archive= must be True or False"),
        ({"licence": ""}, "licence= must be a text"),
        ({"data": 3}, "data= must be a text"),
        ({"metrics": [1]}, "metrics= must be numbers by name"),
        ({"metrics": {"a": "1"}}, "metrics= must be numbers by name"),
        ({"example_input": 1}, "unknown argument 'example_input'"),
        ({"arch": True}, "unknown argument 'arch'"),
        ({"folder": ""}, "folder='' is not a path"),
        ({"model": 3}, "model must be a str or a Path"),
        ({"model": "no.onnx"}, "is not a file"),
        ({"model": "run.ckpt"}, "unitrain export run.ckpt"),
        ({"model": "weights.safetensors"}, "the suffix must be one of"),
    ],
)
def test_bad_arguments_are_refused_before_anything_is_written(onnx, tmp_path, monkeypatch, change, message):
    monkeypatch.chdir(tmp_path)
    given = {"model": onnx, "folder": "out"} | change
    with pytest.raises(DeployError, match=message):
        unitrain.bundle(given.pop("model"), given.pop("folder"), **given)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("place", ["weights.bin", "../../weights.bin", "/etc/passwd"])
def test_weights_in_other_files_are_refused(onnx, tmp_path, place):
    model = onnx_format.load(onnx)
    path = tmp_path / "digits.onnx"
    onnx_format.save_model(model, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    model = onnx_format.load(path, load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            entry.value = place if entry.key == "location" else entry.value
    path.write_bytes(model.SerializeToString())
    with pytest.raises(DeployError, match="keeps its weights in other files"):
        unitrain.bundle(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_model_that_cannot_be_served_leaves_nothing(tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"nothing")
    with pytest.raises(unitrain.ExportError, match="onnxruntime cannot load"):
        unitrain.bundle(tmp_path / "model.onnx", tmp_path / "out")
    assert list(tmp_path.iterdir()) == [tmp_path / "model.onnx"]


@pytest.mark.parametrize(
    "text", ["Digits v2.1", "-x-", "007 bond", "ümlaut", "日本", "", "a" * 99, "a" * 39 + "--b", "_a_"]
)
def test_names_from_files_are_accepted(text):
    assert require_name(name_from(text))


def test_the_service_of_kserve_is_what_the_contract_says(onnx, tmp_path):
    made = unitrain.bundle(onnx, tmp_path / "out", target="kserve")
    told = yaml.safe_load((made.path / "inferenceservice.yaml").read_text())
    assert (told["apiVersion"], told["kind"]) == ("serving.kserve.io/v1beta1", "InferenceService")
    assert told["metadata"]["name"] == "digits"
    (container,) = told["spec"]["predictor"]["containers"]
    assert container["name"] == "kserve-container"
    assert container["ports"] == [{"containerPort": 8080, "protocol": "TCP"}]
    contract = CONTRACTS["kserve"]
    assert container["livenessProbe"]["httpGet"] == {"path": contract.live, "port": 8080}
    assert container["readinessProbe"]["httpGet"] == {"path": contract.ready, "port": 8080}
    assert container["securityContext"]["runAsNonRoot"]
    assert "USER 65532:65532" in (made.path / "Dockerfile").read_text()


def test_onnx_needs_no_torch(shared):
    packages = shared.manifest["versions"]["packages"]
    assert not packages.keys() & {"torch", "torchmetrics", "rich", "pytorch-unitrain"}
    lines = (shared.path / "requirements.txt").read_text().splitlines()
    assert lines[1:] == [f"{name}=={version}" for name, version in sorted(packages.items())]
    for path, content in files(shared.path).items():
        if path.endswith(".py"):
            assert not top_level_imports(content) & {"torch", "torchmetrics", "rich"}, path


def top_level_imports(source):
    nodes = [node for node in ast.parse(source).body if isinstance(node, (ast.Import, ast.ImportFrom))]
    names = [getattr(node, "module", None) or node.names[0].name for node in nodes]
    return {name.partition(".")[0] for name in names}


def test_the_model_card_tells_what_is_known(onnx, tmp_path):
    given = {"licence": "MIT", "data": "digits | 2026", "metrics": {"val/acc": 0.97, "val/nan": float("nan")}}
    made = unitrain.bundle(onnx, tmp_path / "out", **given)
    card = (made.path / "MODEL_CARD.md").read_text()
    for told in ("MIT", "digits | 2026", "| val/acc | 0.97 |", "| val/nan | nan |", made.manifest["model"]["sha256"]):
        assert told in card
    assert "float32 [batch, 4]" in card
    assert json.loads((made.path / "sbom.cdx.json").read_text())["metadata"]["component"]["licenses"]
