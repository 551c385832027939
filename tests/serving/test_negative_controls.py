"""Without the mechanism, what it prevents happens: the tests beside this one can fail."""

import numpy as np
import pytest
from starlette import testclient

from unitrain.serving import arrays
from unitrain.serving.arrays import InputReader
from unitrain.serving.http.app import App
from unitrain.serving.refusals import Refusal
from unitrain.serving.serve import make_asgi
from unitrain.serving.signature import TensorInfo

READER = TensorInfo("x", "float32", ("batch", 4))


def test_without_the_check_a_large_number_becomes_infinite(monkeypatch):
    with pytest.raises(Refusal):
        InputReader(READER).from_json([1e39, 1, 2, 3])
    monkeypatch.setitem(arrays._CASTS, "f", ("fiu", lambda raw, reader: raw.astype(reader.dtype)))
    with pytest.warns(RuntimeWarning, match="overflow"):
        assert np.isinf(InputReader(READER).from_json([1e39, 1, 2, 3])[0])


def test_without_the_check_bools_are_numbers(monkeypatch):
    reader = InputReader(READER)
    with pytest.raises(Refusal):
        reader.from_json([1, 2, 3, True])
    monkeypatch.setattr(reader, "_odd", arrays._ODD)
    assert reader.from_json([1, 2, 3, True])[3] == 1


def test_without_the_token_check_anyone_is_answered(onnx, monkeypatch):
    monkeypatch.setenv("UNITRAIN_TOKEN", "secret")
    client = testclient.TestClient(make_asgi(onnx))
    body = {"data": [1, 2, 3, 4]}
    assert client.post("/predict", json=body).status_code == 401
    monkeypatch.setattr(App, "_require_token", lambda self, given: None)
    assert client.post("/predict", json=body).status_code == 200


def test_without_the_limit_a_large_body_is_read(onnx, monkeypatch):
    client = testclient.TestClient(make_asgi(onnx, max_body=10))
    body = b'{"data": [1, 2, 3, 4]}'
    assert client.post("/predict", content=body).status_code == 413

    async def all_of_it(self, request, receive):
        return (await receive())["body"]

    monkeypatch.setattr(App, "_body", all_of_it)
    assert client.post("/predict", content=body).status_code == 200
