"""The life of a service: overload, slow clients, signals, killed processes, replaced files."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import psutil
import pytest
import torch
from torch import nn

import unitrain
from tests.serving.clients import Client, raw
from tests.serving.load import Load

ROW = [0.5, 1.0, -1.0, 2.0]


def until(true, seconds=10):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


def status(url, path="/health"):
    with contextlib.suppress(OSError), Client(url, timeout=5) as client:
        return client.get(path).status
    return None


def test_overload_is_refused_with_a_time_to_retry(serving, slow_onnx):
    server = serving(slow_onnx, queue=2, max_batch=1)
    with Load(server.url, clients=12) as load:
        until(lambda: any(one[0] == 503 for one in load.answers))
        until(lambda: any(one[0] == 200 for one in load.answers), 30)
    assert {one[0] for one in load.answers} == {200, 503}
    assert not load.lost
    refused = next(body for code, body in load.answers if code == 503)
    assert b"2 requests are waiting" in refused


def test_the_answer_comes_in_time_or_504(serving, slow_onnx):
    server = serving(slow_onnx, queue=100, max_batch=1, timeout=0.5)
    with Load(server.url, clients=20) as load:
        until(lambda: any(one[0] == 504 for one in load.answers), 20)
    assert {200, 504} >= {one[0] for one in load.answers}


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"POST /predict HTTP/1.1\r\nHost",
        b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{",
    ],
    ids=["nothing", "half-a-header", "half-a-body"],
)
def test_slow_clients_are_closed_and_others_are_served(serving, onnx, sent):
    server = serving(onnx, timeout=1.0)
    address = urlsplit(server.url)
    slow = [socket.create_connection((address.hostname, address.port)) for _ in range(200)]
    try:
        for one in slow:
            one.sendall(sent)
        with Client(server.url) as client:
            began = time.monotonic()
            assert client.predict(ROW).status == 200
            assert time.monotonic() - began < 1
        began = time.monotonic()
        for one in slow:
            one.settimeout(10)
            assert b" 408 " in one.recv(65536)
        assert time.monotonic() - began < 5
    finally:
        for one in slow:
            one.close()


def test_trickled_bytes_do_not_extend_the_deadline(serving, onnx):
    server = serving(onnx, timeout=1.0)
    address = urlsplit(server.url)
    with socket.create_connection((address.hostname, address.port)) as sock:
        began = time.monotonic()
        with contextlib.suppress(OSError):
            for byte in b"POST /predict HTTP/1.1\r\n" * 10:
                sock.sendall(bytes([byte]))
                time.sleep(0.1)
        assert time.monotonic() - began < 6


@pytest.mark.parametrize("delay", [0.0, 1.0])
def test_sigterm_under_load_loses_nothing(serving, onnx, delay):
    server = serving(onnx, drain_delay=delay)
    process = psutil.Process(server.pid)
    with Load(server.url) as load:
        until(lambda: len(load.answers) > 50)
        process.terminate()
        if delay:
            until(lambda: status(server.url) == 503, 2)
            assert status(server.url, "/live") == 200
        until(lambda: not server.is_running)
    assert {one[0] for one in load.answers} == {200}
    assert not load.lost
    assert server._child.process.returncode == 0


def test_a_connection_in_use_is_answered_once_more(serving, onnx):
    server = serving(onnx)
    with Client(server.url) as client:
        assert client.predict(ROW).status == 200
        psutil.Process(server.pid).terminate()
        time.sleep(0.5)
        answer = client.predict(ROW)
        assert (answer.status, answer.headers["connection"]) == (200, "close")
    until(lambda: not server.is_running, 5)


def test_a_slow_request_is_finished_before_the_end(serving, slow_onnx):
    server = serving(slow_onnx, max_batch=1)
    found = []

    def ask():
        with Client(server.url) as client:
            found.append(client.predict(ROW).status)

    rows = [threading.Thread(target=ask) for _ in range(4)]
    for one in rows:
        one.start()
    time.sleep(0.05)
    server.stop()
    for one in rows:
        one.join()
    assert found == [200] * 4


def test_a_killed_worker_is_replaced_and_the_sums_stay(serving, onnx):
    server = serving(onnx, workers=2)
    with Client(server.url) as client:
        for _ in range(20):
            assert client.predict(ROW).status == 200
    children = psutil.Process(server.pid).children()
    assert len(children) == 2
    for child in children:
        child.kill()
    began = time.monotonic()
    until(lambda: status(server.url) == 200)
    assert time.monotonic() - began < 10
    with Client(server.url) as client:
        assert counted(client.get("/metrics").body.decode()) == 20
        assert client.predict(ROW).status == 200
        assert counted(client.get("/metrics").body.decode()) == 21


def counted(text):
    start = 'unitrain_requests_total{code="200",model="small",route="/predict"} '
    return sum(float(line.removeprefix(start)) for line in text.splitlines() if line.startswith(start))


@pytest.mark.parametrize("workers", [1, 2])
def test_no_process_outlives_a_killed_parent(onnx, tmp_path, workers):
    script = tmp_path / "parent.py"
    script.write_text(
        "import sys, time, unitrain\n"
        f"server = unitrain.serve({str(onnx)!r}, port=0, block=False, workers={workers})\n"
        "print(server.url, server.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True) as parent:
        url, pid = parent.stdout.readline().split()
        processes = [psutil.Process(int(pid)), *psutil.Process(int(pid)).children()]
        assert len(processes) == 1 + (workers if workers > 1 else 0)
        assert status(url) == 200
        parent.kill()
    _, alive = psutil.wait_procs(processes, timeout=10)
    assert not alive


@pytest.mark.parametrize("rounds", [1, pytest.param(7, marks=pytest.mark.slow)])
def test_a_replaced_file_is_loaded_under_load(serving, tmp_path, rounds):
    path = tmp_path / "model.onnx"
    versions = [tmp_path / f"version{index}.onnx" for index in range(2)]
    for index, one in enumerate(versions):
        export(one, weight=float(index + 1))
    other = tmp_path / "other.onnx"
    unitrain.export_module(nn.Linear(5, 1), other, example_input=torch.randn(2, 5))
    shutil.copy(versions[0], path)
    server = serving({"model": path}, watch=True)
    expected = {b'{"prediction":[%d.0],"confidence":null}' % (4 * one) for one in (1, 2)}
    body = b'{"data": [1, 1, 1, 1]}'
    with Load(server.url, body=body) as load, Client(server.url) as client:
        for round_ in range(rounds):
            for replacement in (versions[(round_ + 1) % 2], None, other):
                replace(path, replacement)
                label = {None: "broken", other: "refused"}.get(replacement, "reloaded")
                until(lambda label=label, round_=round_: reloads(client, label) > round_, 20)
    assert {one[0] for one in load.answers} == {200}
    assert {one[1] for one in load.answers} == expected
    assert not load.lost


def export(path, weight):
    net = nn.Linear(4, 1, bias=False)
    nn.init.constant_(net.weight, weight)
    unitrain.export_module(net, path, example_input=torch.randn(2, 4))


def replace(path, source):
    part = path.with_suffix(".part")
    if source is None:
        part.write_bytes(b"this is not a model" + os.urandom(8))
    else:
        shutil.copy(source, part)
    part.replace(path)


def reloads(client, result):
    start = f'unitrain_reloads_total{{model="model",result="{result}"}} '
    text = client.get("/metrics").body.decode()
    return next(float(line.removeprefix(start)) for line in text.splitlines() if line.startswith(start))


def test_a_token_is_asked_for_by_all_routes_but_health(serving, onnx, tmp_path):
    token = tmp_path / "token"
    token.write_text("a secret\n")
    server = serving({"small": onnx}, token_file=token)
    with Client(server.url) as client:
        for path in ("/health", "/ping", "/live", "/v2/health/live", "/v2/health/ready"):
            assert client.get(path).status == 200
        for path in ("/metrics", "/openapi.json", "/docs", "/models", "/stats", "/v2/models/small"):
            assert client.get(path).status == 401
            assert client.get(path, Authorization="Bearer a secret").status == 200
        for given in ("", "a secret", "Bearer", "Bearer ", "Bearer a secre", "Bearer a secrett", "bearer a secret "):
            assert client.predict(ROW, Authorization=given).status == 401, given
        assert client.predict(ROW, Authorization="Bearer a secret").status == 200


def test_tls(serving, onnx, tmp_path):
    import ssl
    import urllib.request

    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    made = subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", cert, "-days", "1",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"],
        capture_output=True, check=False,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    server = serving(onnx, tls_cert=cert, tls_key=key)
    assert server.url.startswith("https://")
    context = ssl.create_default_context(cafile=str(cert))
    with urllib.request.urlopen(f"{server.url}/health", context=context) as answer:
        assert answer.status == 200


def test_a_port_in_use_is_an_error(serving, onnx):
    port = urlsplit(serving(onnx).url).port
    with pytest.raises(unitrain.ConfigError, match=f":{port}: Address already in use"):
        unitrain.serve(onnx, port=port, block=False)


def test_a_broken_file_is_an_error(tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"nothing")
    for workers in (1, 2):
        with pytest.raises(unitrain.ConfigError, match=r"onnxruntime cannot load model\.onnx"):
            unitrain.serve(tmp_path / "model.onnx", port=0, block=False, workers=workers)


def test_several_models(serving, onnx, slow_onnx):
    server = serving({"small": onnx, "slow": slow_onnx}, max_batch=1)
    with Client(server.url) as client:
        assert client.post("/models/small/predict", {"data": ROW}).status == 200
        assert client.post("/models/slow/predict", {"data": ROW}).json["prediction"] == pytest.approx(ROW)
        answer = client.predict(ROW)
        assert answer.status == 404
        assert "/models/slow/predict" in answer.json["error"]


def test_vertex_names_the_routes(serving, onnx, monkeypatch):
    monkeypatch.setenv("AIP_HEALTH_ROUTE", "/is/it/well")
    monkeypatch.setenv("AIP_PREDICT_ROUTE", "/answer")
    with Client(serving(onnx).url) as client:
        assert client.get("/is/it/well").status == 200
        assert client.post("/answer", {"instances": [ROW], "parameters": {}}).json.keys() == {"predictions"}


@contextlib.contextmanager
def started(*command, signal_=signal.SIGTERM, **streams):
    """Start `unitrain serve`, yield its address and the process, and end it; the status must be 0."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, **streams) as process:
        try:
            yield process.stdout.readline().split()[2], process
        finally:
            process.send_signal(signal_)
            process.log = process.communicate(timeout=20)[1]
    assert process.returncode == 0


def command_of(onnx, *options):
    return [sys.executable, "-m", "unitrain", "serve", str(onnx), "--port", "0", *options]


def test_no_file_descriptors_left(onnx):
    """A process that may open few files refuses connections for a while, and then goes on."""
    script = f"ulimit -n 64; exec {' '.join(command_of(onnx))}"
    with started("bash", "-c", script, stderr=subprocess.DEVNULL) as (url, _):
        address = urlsplit(url)
        held = [socket.create_connection((address.hostname, address.port)) for _ in range(100)]
        time.sleep(0.5)
        for one in held:
            one.close()
        until(lambda: status(url) == 200, 20)


def test_a_full_disk_for_the_log_changes_no_answer(onnx):
    with (
        Path("/dev/full").open("w") as full,
        started(*command_of(onnx, "--access-log"), stderr=full) as (url, _),
        Client(url) as client,
    ):
        assert [client.predict(ROW).status for _ in range(20)] == [200] * 20


def test_the_command_prints_its_address_and_exits_with_0(onnx):
    command = command_of(onnx, "--log-format", "json")
    with started(*command, signal_=signal.SIGINT, stderr=subprocess.PIPE) as (url, process):
        until(lambda: status(url) == 200)
    assert '"message": "the service is draining' in process.log


IN_A_FINALIZER = """
import signal, sys
from unitrain.cli import main
from unitrain.serving import command

class Told:
    def __del__(self):
        signal.raise_signal(int(sys.argv[1]))

def models(given):
    Told()
    raise AssertionError("the signal was lost")

command._models = models
main(["serve", "model.onnx"])
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_during_a_finalizer_before_it_serves_is_not_lost(number):
    """Imports run finalizers, and Python ignores what is raised in one."""
    done = subprocess.run(
        [sys.executable, "-c", IN_A_FINALIZER, str(int(number))], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_serving_onnx_imports_no_torch(serving, onnx):
    server = serving(onnx)
    maps = [one.path for one in psutil.Process(server.pid).memory_maps()]
    assert any("onnxruntime" in one for one in maps)
    assert not any("libtorch" in one for one in maps)


def test_rows_of_many_clients_are_joined(serving, slow_onnx):
    server = serving(slow_onnx, max_batch=4)
    with Load(server.url, clients=8) as load:
        until(lambda: len(load.answers) > 16, 30)
    with Client(server.url) as client:
        told = client.get("/stats").json
    assert told["rows"] > 1.5 * told["batches"]
    predictions = {body for _, body in load.answers}
    assert len(predictions) == 1


def test_raw_pipelined_requests_are_answered_in_order(serving, onnx):
    server = serving(onnx)
    one = b'{"data": [1, 2, 3, 4]}'
    head = (
        b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n"
        % len(one)
    )
    found = raw(server.url, (head + b"\r\n" + one) * 2 + head + b"Connection: close\r\n\r\n" + one)
    assert found.count(b"HTTP/1.1 200 OK") == 3
    assert np.isfinite(float(found.rpartition(b":")[2].rstrip(b"}")))
