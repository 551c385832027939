"""Each invalid request: its status, a text that says what was expected, and a service that goes on."""

import io
import json
import os

import numpy as np
import psutil
import pytest

from tests.serving.clients import Client, raw

ROW = [0.5, 1.0, -1.0, 2.0]


def json_of(text):
    return text if isinstance(text, bytes) else text.encode()


BODIES = {
    "empty": (b"", 400, "empty"),
    "not JSON": (b"{", 400, "not JSON"),
    "not UTF-8": (b'{"data": "\xff"}', 400, "not JSON"),
    "too deep": (b"[" * 100_000, 400, "not JSON"),
    "NaN": (b'{"data": [NaN, 1, 2, 3]}', 400, "not JSON"),
    "Infinity": (b'{"data": [Infinity, 1, 2, 3]}', 400, "not JSON"),
    "beyond float64": (b'{"data": [1e999, 1, 2, 3]}', 400, "not JSON"),
    "no data": (b'{"inputs": [1, 2, 3, 4]}', 422, '"data"'),
    "a list": (b"[1, 2, 3, 4]", 422, "got a list"),
    "an unknown key": (b'{"data": [1, 2, 3, 4], "extra": 1}', 422, "'extra'"),
    "texts": (b'{"data": ["a", "b", "c", "d"]}', 422, "a text"),
    "numbers as texts": (b'{"data": ["1", "2", "3", "4"]}', 422, "a text"),
    "null": (b'{"data": null}', 422, "null"),
    "a null within": (b'{"data": [1, null, 2, 3]}', 422, "null"),
    "an object within": (b'{"data": [1, {}, 2, 3]}', 422, "an object"),
    "ragged": (b'{"data": [[1, 2, 3, 4], [1]]}', 422, "ragged"),
    "a wrong width": (b'{"data": [1, 2, 3]}', 422, "float32 [batch, 4]; got the shape [3]"),
    "a wrong rank": (b'{"data": [[[1, 2, 3, 4]]]}', 422, "got the shape [1, 1, 4]"),
    "a number": (b'{"data": 7}', 422, "got the shape []"),
    "no rows": (b'{"data": []}', 422, "no rows"),
    "an empty row": (b'{"data": [[]]}', 422, "no numbers"),
    "too many rows": (json_of(json.dumps({"data": [ROW] * 65})), 422, "at most 64 rows"),
    "bools": (b'{"data": [true, false, true, false]}', 422, "true or false"),
    "a bool within": (b'{"data": [1, 2, 3, true]}', 422, "true or false"),
    "beyond float32": (b'{"data": [1e39, 1, 2, 3]}', 422, "1e+39"),
    "40 digits": (b'{"data": [' + b"9" * 40 + b", 1, 2, 3]}", 422, "1e+40"),
    "an unknown input": (b'{"data": {"other": [1, 2, 3, 4]}}', 422, "'other'"),
    "instances that are none": (b'{"instances": 5}', 422, "a number"),
    "uneven instances": (b'{"instances": [{"a": 1}, {"b": 1}]}', 422, "same keys"),
    "empty instances": (b'{"instances": [{}]}', 422, "got none"),
}


@pytest.mark.parametrize("case", BODIES, ids=[name.replace(" ", "-") for name in BODIES])
def test_a_bad_body_is_refused(client, case):
    body, status, told = BODIES[case]
    answer = client.post("/predict", body)
    assert answer.status == status, answer.body
    assert told in answer.json["error"]
    assert_plain(answer)
    assert client.predict(ROW).status == 200


def assert_plain(answer):
    text = answer.body.decode()
    assert "Traceback" not in text
    assert os.sep + "unitrain" not in text
    assert list(json.loads(text)) == ["error"]


def oip(name="input", shape=(1, 4), datatype="FP32", **rest):
    return {"inputs": [{"name": name, "shape": list(shape), "datatype": datatype, **rest}]}


@pytest.fixture(scope="module")
def name(client):
    return client.get("/models").json["models"][0]["inputs"][0]["name"]


OIP = {
    "no inputs": (lambda n: {"id": n}, 400, "inputs"),
    "inputs that are none": (lambda n: {"inputs": 3}, 400, "inputs"),
    "an input that is none": (lambda n: {"inputs": [3]}, 400, "needs a name"),
    "an unknown input": (lambda n: oip("other", data=ROW), 422, "'other'"),
    "an input twice": (lambda n: {"inputs": oip(n, data=ROW)["inputs"] * 2}, 422, "once each"),
    "a missing input": (lambda n: {"inputs": []}, 422, "got none"),
    "another datatype": (lambda n: oip(n, datatype="INT64", data=ROW), 422, "FP32"),
    "a negative shape": (lambda n: oip(n, (-1, 4), data=ROW), 400, "from 1"),
    "an overflowing shape": (lambda n: oip(n, (2**62, 4), data=ROW), 400, "from 1"),
    "a large shape": (lambda n: oip(n, (2**30, 2**30), data=ROW), 400, "numbers"),
    "a shape of texts": (lambda n: oip(n, ("a", 4), data=ROW), 400, "from 1"),
    "a shape unlike the data": (lambda n: oip(n, (2, 4), data=ROW), 400, "8 numbers; got 4"),
    "no data": (lambda n: oip(name=n), 400, '"data"'),
    "data that is none": (lambda n: oip(n, data=3), 400, '"data"'),
    "a binary size unlike the shape": (lambda n: oip(n, parameters={"binary_data_size": 15}), 400, "16 bytes"),
    "bytes that are missing": (lambda n: oip(n, parameters={"binary_data_size": 16}), 400, "0 are left"),
    "a flag that is none": (
        lambda n: {**oip(n, data=ROW), "parameters": {"binary_data_output": 1}},
        400,
        "true or false",
    ),
    "an unknown output": (lambda n: {**oip(n, data=ROW), "outputs": [{"name": "other"}]}, 404, "'other'"),
}


@pytest.mark.parametrize("case", OIP, ids=[name.replace(" ", "-") for name in OIP])
def test_a_bad_open_inference_request_is_refused(client, name, case):
    make, status, told = OIP[case]
    answer = client.post("/v2/models/small/infer", make(name))
    assert answer.status == status, answer.body
    assert told in answer.json["error"]
    assert_plain(answer)


@pytest.mark.parametrize("length", ["0", "-1", "99999", "x", "9" * 30, ""])
def test_a_bad_length_of_the_json_part_is_refused(client, name, length):
    answer = client.post("/v2/models/small/infer", oip(name, data=ROW), Inference_Header_Content_Length=length)
    assert answer.status == 400


def npy(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def header(shape, descr="<f4"):
    text = f"{{'descr': {descr!r}, 'fortran_order': False, 'shape': {shape}}}".encode()
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"\x93NUMPY", 400),
        (npy(np.ones((1, 4), np.float32))[:-1], 400),
        (npy(np.ones((1, 4), np.float32)) + b"x", 400),
        (header("(1000000000000, 4)"), 400),
        (header("(-1, 4)"), 400),
        (header("(1, 4)", "|O"), 400),
        (header("(2, 'a')"), 400),
        (header("(" * 5000), 400),
        (npy(np.array(["a"])), 400),
        (npy(np.ones((1, 3), np.float32)), 422),
        (npy(np.ones((1, 4), np.complex64)), 400),
        (npy(np.ones((1, 4), bool)), 422),
    ],
    ids=[f"case{index}" for index in range(13)],
)
def test_a_bad_array_is_refused(client, body, status):
    answer = client.post("/predict", body, "application/x-npy")
    assert answer.status == status, answer.body
    assert_plain(answer)


def test_routes_and_methods(client):
    assert client.get("/nothing").status == 404
    assert client.post("/models/other/predict", {"data": ROW}).status == 404
    assert "served: small" in client.post("/models/other/predict", {"data": ROW}).json["error"]
    answer = client.get("/predict")
    assert (answer.status, answer.headers["allow"]) == (405, "POST")
    assert client.post("/predict", b"a=1", "application/x-www-form-urlencoded").status == 415
    assert client.post("/v2/models/small/infer", b"a=1", "text/csv").status == 415


def test_a_body_that_is_too_large_is_refused(serving, onnx):
    server = serving(onnx, max_body=1000)
    url = server.url
    with Client(url) as client:
        assert client.post("/predict", b'{"data": [1, 2, 3, 4]}'.ljust(1000)).status == 200
        assert client.post("/predict", b'{"data": [1, 2, 3, 4]}'.ljust(1001)).status == 413
    head = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunk = b"1f4\r\n" + b" " * 500 + b"\r\n"
    assert b" 413 " in raw(url, head + chunk * 3 + b"0\r\n\r\n")
    no_length = b"POST /predict HTTP/1.1\r\nHost: localhost\r\n\r\n"
    assert b" 411 " in raw(url, no_length)


def test_what_is_not_http_is_refused(client):
    url = f"http://{client.host}:{client.port}"
    assert b" 400 " in raw(url, b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n")
    large = b"GET /health HTTP/1.1\r\nX: " + b"a" * 100_000
    assert b" 431 " in raw(url, large + b"\r\n\r\n")
    assert b" 431 " in raw(url, b"GET /health HTTP/1.1\r\n" + b"X: a\r\n" * 20_000)
    assert client.predict(ROW).status == 200


@pytest.mark.parametrize("count", [1000, pytest.param(10_000, marks=pytest.mark.slow)])
def test_memory_is_flat_over_many_bad_requests(serving, onnx, count):
    server = serving(onnx)
    process = psutil.Process(server.pid)
    cases = [body for body, _, _ in BODIES.values() if 0 < len(body) < 2000]
    with Client(server.url) as client:
        for _ in range(20):
            for body in cases:
                client.post("/predict", body)
        before = process.memory_info().rss
        for _ in range(count // len(cases)):
            for body in cases:
                assert client.post("/predict", body).status in (400, 422)
        assert process.memory_info().rss - before < 2 * 2**20
