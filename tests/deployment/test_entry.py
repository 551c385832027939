"""The program `serve` of a bundle, as a real process: ports, places, checksums, signals, workers."""

import json
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

import unitrain
from tests.deployment.driving import PLAIN, copied, process_of, refused, running
from unitrain.deployment.bundle import entry
from unitrain.deployment.bundle.bundle import read_bundle
from unitrain.deployment.bundle.contracts import CONTRACTS

ROW = [0.5, 1.0, -1.0, 2.0]


@pytest.fixture
def folder(shared, tmp_path):
    return copied(shared, tmp_path / "out")


def image(bundle, root):
    """Lay out the files as the Dockerfile does, from a context as .dockerignore leaves it, and return the entry point."""
    lines = (bundle.path / ".dockerignore").read_text().splitlines()
    assert lines[1] == "*"
    sent = {line[1:] for line in lines[2:]}
    commands = [line.split() for line in (bundle.path / "Dockerfile").read_text().splitlines()]
    work = next(root / line[1].lstrip("/") for line in commands if line[:1] == ["WORKDIR"])
    for line in commands:
        if line[:1] != ["COPY"]:
            continue
        *sources, target = line[1:]
        for source in sources:
            assert source in sent
            place = work / target / source if (bundle.path / source).is_file() else work / target
            place.parent.mkdir(parents=True, exist_ok=True)
            copy = shutil.copytree if (bundle.path / source).is_dir() else shutil.copy
            copy(bundle.path / source, place)
    entry_point = next(line for line in commands if line[:1] == ["ENTRYPOINT"])
    return json.loads(" ".join(entry_point[1:])), work


@pytest.mark.parametrize("target", ["docker", "kserve", "sagemaker", "vertex"])
def test_what_the_dockerfile_copies_is_enough(onnx, tmp_path, target):
    made = unitrain.bundle(onnx, tmp_path / "out", target=target)
    (made.path / ".env").write_text("SECRET=hunter2")
    command, work = image(made, tmp_path / "image")
    assert command == ["python", "/opt/unitrain/serve"]
    assert not (work / ".env").exists()
    shutil.rmtree(made.path)
    with running(work, *(["serve"] if target == "sagemaker" else [])) as (client, _):
        assert len(client.predict(ROW).json["prediction"]) == 3


def test_the_archive_serves_where_sagemaker_unpacks_it(shared, folder, tmp_path):
    place = tmp_path / "opt" / "ml" / "model"
    place.mkdir(parents=True)
    subprocess.run(["tar", "xzf", str(shared.archive)], cwd=place, check=True)
    with running(folder, "serve", port_variable="SAGEMAKER_BIND_TO_PORT", UNITRAIN_MODEL_DIR=str(place)) as (
        client,
        process,
    ):
        assert client.get("/ping").status == 200
        assert len(client.post("/invocations", {"data": ROW}).json["prediction"]) == 3
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
        assert time.monotonic() - began < 5


def test_onnx_is_served_without_torch_or_a_framework(folder, tmp_path):
    """Python imports what is installed here from this folder first, which refuses them."""
    for name in ("torch", "lightning", "pytorch_lightning", "ignite", "torchmetrics", "rich"):
        (tmp_path / f"{name}.py").write_text("raise ImportError('it is not in the image')")
    with running(folder, PYTHONPATH=str(tmp_path)) as (client, _):
        assert client.predict(ROW).status == 200
        assert client.get("/").status == client.get("/openapi.json").status == client.get("/metrics").status == 200
        body = {"inputs": [{"name": "input", "shape": [1, 4], "datatype": "FP32", "data": ROW}]}
        assert client.post("/v2/models/digits/infer", body).status == 200
    (tmp_path / "orjson.py").write_text("raise ImportError('it is not in the image')")
    assert "it is not in the image" in crashed(folder, PYTHONPATH=str(tmp_path), PORT="0")


def crashed(folder, **environment):
    with process_of(folder, **environment) as process:
        said = process.communicate(timeout=60)[0]
    assert process.returncode != 0
    return said


@pytest.mark.parametrize("name", ["model/model.onnx", "unitrain/serving/page/page.js", "Dockerfile", "serve"])
def test_a_changed_byte_is_refused(folder, name):
    content = bytearray((folder / name).read_bytes())
    place = content.index(b"SageMaker") if name == "serve" else len(content) // 2
    content[place] ^= 1
    (folder / name).write_bytes(content)
    assert f"serve: {name} was changed: its sha256 is not that of manifest.json" in refused(folder)


def test_a_changed_module_is_refused_before_it_runs(folder, tmp_path):
    note = tmp_path / "it ran"
    module = folder / "unitrain" / "errors.py"
    module.write_text(f"open({str(note)!r}, 'w')\n" + module.read_text())
    assert "unitrain/errors.py was changed: its sha256 is not that of manifest.json" in refused(folder)
    assert not note.exists()


MANIFESTS = {
    "no JSON": (lambda told: None, "was not written by unitrain.bundle()"),
    "another format": (lambda told: told | {"format": 2}, "has the format 2"),
    "no model": (lambda told: told | {"model": {"file": "../model.onnx"}}, "the model is not among the files"),
    "a path that leads out": (
        lambda told: told | {"files": told["files"] | {"../x": {"sha256": ""}}},
        "lists '../x', which is not in the bundle",
    ),
    "an absolute path": (
        lambda told: told | {"files": told["files"] | {"/etc/passwd": {"sha256": ""}}},
        "lists '/etc/passwd', which is not in the bundle",
    ),
    "a missing file": (lambda told: told | {"files": told["files"] | {"x": {"sha256": ""}}}, "cannot be read"),
    "a list": (lambda told: [], "was not written by"),
    "no limits": (lambda told: told | {"contracts": {}}, "manifest.json has no limits for docker"),
}


@pytest.mark.parametrize("name", MANIFESTS)
def test_a_changed_manifest_is_refused(folder, name):
    change, message = MANIFESTS[name]
    told = change(json.loads((folder / "manifest.json").read_text()))
    (folder / "manifest.json").write_text("{" if told is None else json.dumps(told))
    assert message in refused(folder)


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"PORT": "a"}, "PORT must be a whole number from 0 to 65535; got 'a'"),
        ({"PORT": "65536"}, "PORT must be"),
        ({"PORT": "٣"}, "PORT must be"),
        ({"PORT": "0" * 9 + "65536"}, "PORT must be"),
        ({"AIP_HTTP_PORT": "-1"}, "AIP_HTTP_PORT must be"),
        ({"SAGEMAKER_BIND_TO_PORT": "9" * 5000}, "SAGEMAKER_BIND_TO_PORT must be"),
        ({"UNITRAIN_WORKERS": "0"}, "UNITRAIN_WORKERS must be a whole number from 1 to 1000"),
        ({"AIP_STORAGE_URI": "gs://bucket/model"}, "deploy it without an artifact URI"),
        ({"UNITRAIN_MODEL_DIR": "/nowhere"}, "/nowhere/manifest.json cannot be read: No such file"),
        ({"UNITRAIN_TOKEN": " "}, "the variable UNITRAIN_TOKEN is set but empty"),
    ],
    ids=[
        "a word",
        "too high",
        "another digit",
        "zeros first",
        "negative",
        "long",
        "no worker",
        "artifacts",
        "no model",
        "no token",
    ],
)
def test_a_wrong_variable_is_told(folder, environment, message):
    assert message in refused(folder, **environment)


def test_a_port_in_use_is_told(folder):
    with socket.create_server(("127.0.0.1", 0)) as held:
        assert "Address already in use" in refused(folder, "--port", str(held.getsockname()[1]))


def test_a_mounted_model_goes_first_and_a_foreign_one_is_refused(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(entry, "_MOUNTED", (str(tmp_path / "ml"), str(tmp_path / "mnt")))
    for name in ("UNITRAIN_MODEL_DIR", "AIP_STORAGE_URI"):
        monkeypatch.delenv(name, raising=False)
    assert entry.model_folder(folder) == folder
    (tmp_path / "ml").mkdir()
    assert entry.model_folder(folder) == folder
    shutil.copytree(folder, tmp_path / "mnt")
    assert entry.model_folder(folder) == tmp_path / "mnt"
    (tmp_path / "ml" / "model.pkl").write_text("")
    with pytest.raises(entry.Refused, match=r"holds files but no manifest\.json"):
        entry.model_folder(folder)


@pytest.mark.parametrize(
    ("target", "environment", "is_sagemaker", "expected"),
    [
        ("kserve", {}, False, "kserve"),
        ("docker", {}, False, "docker"),
        ("vertex", {}, False, "docker"),
        ("docker", {}, True, "sagemaker"),
        ("docker", {"SAGEMAKER_BIND_TO_PORT": "8080"}, False, "sagemaker"),
        ("kserve", {"AIP_HTTP_PORT": "8080"}, False, "vertex"),
    ],
)
def test_the_platform_is_known_by_its_variables(monkeypatch, target, environment, is_sagemaker, expected):
    for name in ("SAGEMAKER_BIND_TO_PORT", "AIP_HTTP_PORT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    manifest = {"target": target, "contracts": {name: one.settings() for name, one in CONTRACTS.items()}}
    assert entry.settings_of(manifest, is_sagemaker=is_sagemaker) == CONTRACTS[expected].settings()


def test_sigterm_ends_it_at_any_time(folder):
    for wait in (0.05, 0.2, 0.4):
        with process_of(folder, "--port", "0") as process:
            time.sleep(wait)
            began = time.monotonic()
            process.terminate()
            assert process.wait(30) in (0, 128 + signal.SIGTERM, -signal.SIGTERM)
            assert time.monotonic() - began < 10


def test_as_the_first_process_of_a_container_it_hears_sigterm_before_it_serves(folder):
    """The first process of a PID namespace has no default handlers: without an own one, the signal would be lost."""
    command = ["unshare", "--pid", "--fork", "--kill-child", sys.executable, str(folder / "serve"), "--port", "0"]
    made = subprocess.run(["unshare", "--pid", "--fork", "true"], capture_output=True, check=False)
    if made.returncode:
        pytest.skip("this user may make no PID namespace")
    with subprocess.Popen(command, env=PLAIN, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            end = time.monotonic() + 10
            while not (inner := psutil.Process(process.pid).children()) or not hears(inner[0].pid, signal.SIGTERM):
                assert time.monotonic() < end
            inner[0].terminate()
            assert process.wait(10) in (0, 128 + signal.SIGTERM)
        finally:
            process.kill()


IN_A_FINALIZER = """
import signal
from unitrain.deployment.bundle import entry

class Told:
    def __del__(self):
        signal.raise_signal(signal.SIGTERM)

def verified(folder):
    Told()
    raise AssertionError("the signal was lost")

entry.verified = verified
entry.main([])
"""


def test_a_signal_during_a_finalizer_before_it_serves_is_not_lost():
    """Imports run finalizers, and Python ignores what is raised in one."""
    done = subprocess.run([sys.executable, "-c", IN_A_FINALIZER], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (128 + signal.SIGTERM, "", "")


def hears(pid, number):
    """Return whether a process handles a signal."""
    line = next(one for one in Path(f"/proc/{pid}/status").read_text().splitlines() if one.startswith("SigCgt"))
    return bool(int(line.split()[1], 16) >> (number - 1) & 1)


def test_a_request_in_flight_is_answered_after_sigterm(folder):
    body = json.dumps({"data": ROW}).encode().ljust(100_000)
    head = f"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    with running(folder) as (client, process), socket.create_connection((client.host, client.port)) as sock:
        sock.sendall(head.encode() + body[:1000])
        time.sleep(0.2)
        process.terminate()
        time.sleep(0.2)
        sock.sendall(body[1000:])
        assert sock.recv(65536).startswith(b"HTTP/1.1 200 ")
        assert process.wait(30) == 0


def test_workers_share_the_port_and_end_together(folder):
    with running(folder, UNITRAIN_WORKERS="2") as (client, process):
        assert client.predict(ROW).status == 200
        children = psutil.Process(process.pid).children()
        assert len(children) == 2
        process.terminate()
        assert process.wait(30) == 0
        assert not psutil.wait_procs(children, 5)[1]
    assert read_bundle(folder).digest


def test_a_token_protects_a_container(folder):
    with running(folder, UNITRAIN_TOKEN="hunter2") as (client, _):
        assert client.predict(ROW).status == 401
        assert client.predict(ROW, Authorization="Bearer hunter2").status == 200


@pytest.mark.parametrize(("given", "warns"), [((), True), (("serve",), False)], ids=["docker", "sagemaker"])
def test_an_open_port_is_warned_of_where_nothing_else_asks_for_credentials(onnx, tmp_path, given, warns):
    made = unitrain.bundle(onnx, tmp_path / "out")
    command = [sys.executable, str(made.path / "serve"), *given, "--port", "0"]
    with subprocess.Popen(command, env=PLAIN, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline().startswith("digits at http://")
        process.terminate()
        assert ("there is no token" in process.communicate(timeout=30)[1]) == warns
