"""What a hostile or clumsy client or file once reached, each on a real service."""

import io
import socket
import time
from urllib.parse import urlsplit

import numpy as np
import onnx as onnx_format
import psutil
import pytest
import torch
from starlette import testclient
from torch import nn

import unitrain
from tests.serving.clients import Client, raw
from unitrain.serving.serve import make_asgi

ROW = [0.5, 1.0, -1.0, 2.0]
BODY = b'{"data": [1, 2, 3, 4]}'


def request(path=b"/predict", body=BODY, *headers):
    lines = [b"POST " + path + b" HTTP/1.1", b"Host: localhost", b"Content-Type: application/json", *headers]
    return b"\r\n".join([*lines, b"Content-Length: %d" % len(body), b"", body])


def url_of(client):
    return f"http://{client.host}:{client.port}"


def foreign(path, node, inputs, outputs):
    """Write an ONNX file of another program: one operator."""
    helper = onnx_format.helper
    graph = helper.make_graph(
        node(helper),
        "graph",
        [helper.make_tensor_value_info(name, kind, shape) for name, kind, shape in inputs],
        [helper.make_tensor_value_info(name, kind, shape) for name, kind, shape in outputs],
    )
    onnx_format.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    return path


FLOAT, BOOL, INT32 = 1, 9, 6


def test_long_texts_do_not_multiply(serving, onnx):
    server = serving(onnx)
    process = psutil.Process(server.pid)
    body = b'{"data": ["' + b"a" * 300_000 + b'"' + b', "b"' * 600 + b"]}"
    with Client(server.url) as client:
        client.predict(ROW)
        before = process.memory_info().rss
        answer = client.post("/predict", body)
    assert (answer.status, "a text" in answer.json["error"]) == (422, True)
    assert process.memory_info().rss - before < 20 * 2**20


def test_a_wish_for_another_protocol_is_passed_over(client):
    upgrade = (
        b"Connection: Upgrade, HTTP2-Settings, close",
        b"Upgrade: h2c",
        b"HTTP2-Settings: AAMAAABkAAQBAAAAAAIAAAAA",
    )
    found = raw(url_of(client), request(b"/predict", BODY, b"Connection: close", *upgrade))
    assert found.startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("second", [request()[:-5], request()[:40]], ids=["half-a-body", "half-a-header"])
def test_a_request_behind_another_has_its_own_deadline(serving, onnx, second):
    server = serving(onnx, timeout=1.0)
    began = time.monotonic()
    found = raw(server.url, request() + second, timeout=8)
    assert found is not None, "it is still open"
    assert found.startswith(b"HTTP/1.1 200")
    assert b" 408 " in found
    assert time.monotonic() - began < 6


def test_a_client_that_does_not_read_is_closed(serving, onnx):
    server = serving(onnx, timeout=1.0)
    address = urlsplit(server.url)
    process = psutil.Process(server.pid)
    with socket.create_connection((address.hostname, address.port)) as sock:
        sock.settimeout(1)
        try:
            for _ in range(20):
                sock.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n" * 20)
        except (TimeoutError, ConnectionError):
            pass
        end = time.monotonic() + 8
        while any(one.status == "ESTABLISHED" for one in process.net_connections()):
            assert time.monotonic() < end, "it is still open"
            time.sleep(0.1)


def test_trailers_are_limited(serving, onnx):
    server = serving(onnx)
    address = urlsplit(server.url)
    head = b"GET /live HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n"
    with socket.create_connection((address.hostname, address.port), timeout=10) as sock:
        sock.sendall(head)
        trailers = (b"x-trailer: " + b"a" * 10_000 + b"\r\n") * 2000
        with pytest.raises(OSError):
            sock.sendall(trailers)


def test_requests_are_not_joined_where_rows_meet(tmp_path):
    path = foreign(
        tmp_path / "mean.onnx",
        lambda h: [
            h.make_node("Constant", [], ["axes"], value=h.make_tensor("a", 7, [1], [0])),
            h.make_node("ReduceMean", ["x", "axes"], ["m"], keepdims=1),
            h.make_node("Sub", ["x", "m"], ["y"]),
        ],
        [("x", FLOAT, ["batch", 2])],
        [("y", FLOAT, ["batch", 2])],
    )
    app = make_asgi(path)
    assert not app.served["mean"].loaded.joins


def test_a_row_of_a_model_that_returns_another_number_of_rows(tmp_path):
    class Boxes(nn.Module):
        def forward(self, x):
            return torch.cat([x, x, x]), x.sum()

    path = tmp_path / "boxes.onnx"
    unitrain.export_module(Boxes(), path, example_input=torch.randn(2, 4), output_names=["boxes", "total"])
    found = unitrain.InferenceEngine(path).predict(ROW)
    assert len(found["boxes"]) == 3
    assert found["total"] == pytest.approx(sum(ROW))


def test_bytes_of_bools_are_bools(tmp_path):
    path = foreign(
        tmp_path / "cast.onnx",
        lambda h: [h.make_node("Cast", ["x"], ["y"], to=FLOAT)],
        [("x", BOOL, ["batch", 2])],
        [("y", FLOAT, ["batch", 2])],
    )
    file = io.BytesIO()
    np.save(file, np.array([[True, False]]))
    body = file.getvalue()[:-2] + b"\x05\x00"
    with testclient.TestClient(make_asgi(path)) as client:
        answer = client.post("/predict", content=body, headers={"Content-Type": "application/x-npy"})
    assert np.load(io.BytesIO(answer.content)).tolist() == [[1.0, 0.0]]


@pytest.mark.parametrize(
    "given",
    [np.array([[2**32 + 5, 1]]), np.array([[2**63 + 1, 1]], np.uint64), [[2**53 + 1, 1.0]]],
    ids=["int64", "uint64", "beyond-float64"],
)
def test_integers_do_not_wrap(tmp_path, given):
    path = foreign(
        tmp_path / "add.onnx",
        lambda h: [h.make_node("Add", ["x", "x"], ["y"])],
        [("x", INT32, ["batch", 2])],
        [("y", INT32, ["batch", 2])],
    )
    with pytest.raises(unitrain.DataError, match=r"beyond|uint64"):
        unitrain.InferenceEngine(path).predict(given)


def test_floats_do_not_become_infinite(onnx):
    engine = unitrain.InferenceEngine(onnx)
    with pytest.raises(unitrain.DataError, match="beyond"):
        engine.predict(np.array([[1e39, 1, 2, 3]]))
    assert np.isnan(engine.predict(np.array([[np.nan, 1, 2, 3]]))).all()
    assert np.isnan(engine.predict([[float("nan"), 1, 2, 3]])).all()


def test_an_output_is_sent_once(client):
    (model,) = client.get("/models").json["models"]
    inputs = [{"name": model["inputs"][0]["name"], "shape": [1, 4], "datatype": "FP32", "data": ROW}]
    twice = [{"name": model["outputs"][0]["name"]}] * 2
    assert client.post("/v2/models/small/infer", {"inputs": inputs, "outputs": twice}).status == 422


def test_names_of_models_are_behind_the_token(serving, onnx, monkeypatch):
    monkeypatch.setenv("UNITRAIN_TOKEN", "secret")
    with Client(serving({"project-x": onnx}).url) as client:
        for answer in (
            client.post("/models/zzz/predict", {"data": ROW}),
            client.get("/predict"),
            client.get("/nothing"),
        ):
            assert answer.status == 401
            assert b"project-x" not in answer.body
        assert client.get("/nothing", Authorization="bearer secret").status == 404


def test_too_many_connections_are_told_to_come_later(serving, onnx):
    server = serving(onnx, max_connections=2)
    with Client(server.url) as first, Client(server.url) as second, Client(server.url) as third:
        assert first.get("/health").status == second.get("/health").status == 200
        answer = third.get("/health")
        assert (answer.status, answer.headers["retry-after"]) == (503, "1")
        assert "2 connections" in answer.json["error"]


def test_a_service_keeps_its_model_where_a_worker_is_replaced(serving, onnx, tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(onnx.read_bytes())
    server = serving({"model": path}, workers=2)
    with Client(server.url) as client:
        expected = client.predict(ROW).body
    unitrain.export_module(nn.Linear(4, 3), tmp_path / "part.onnx", example_input=torch.randn(2, 4))
    part = tmp_path / "part.onnx"
    part.replace(path)
    psutil.Process(server.pid).children()[0].kill()
    time.sleep(2.5)
    assert server.is_running
    for _ in range(10):
        with Client(server.url) as client:
            assert client.predict(ROW).body == expected


@pytest.mark.parametrize("workers", [1, 2])
def test_a_bad_certificate_is_an_error(onnx, tmp_path, workers):
    empty = tmp_path / "empty.pem"
    empty.write_text("")
    with pytest.raises(unitrain.ConfigError, match="tls_cert="):
        unitrain.serve(onnx, port=0, block=False, tls_cert=empty, tls_key=empty, workers=workers)


def test_a_name_with_an_equals_sign_is_a_file(tmp_path, onnx):
    from unitrain.serving.command import _models

    path = tmp_path / "epoch=3.onnx"
    path.write_bytes(onnx.read_bytes())
    assert _models([str(path)]) == {"epoch-3": path}
    assert list(_models([f"digits={path}"])) == ["digits"]


def test_a_file_of_complex_numbers_is_refused(tmp_path):
    class Real(nn.Module):
        def forward(self, x):
            return torch.view_as_real(x).sum(-1)

    path = tmp_path / "complex.pt2"
    unitrain.export_module(Real(), path, example_input=torch.randn(2, 4, dtype=torch.complex64))
    with pytest.raises(unitrain.UnitrainError, match="complex64, which cannot be served"):
        unitrain.serve(path, port=0, block=False)
