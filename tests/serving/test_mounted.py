"""The service as an application within FastAPI."""

import fastapi
import pytest

import unitrain
from unitrain.serving.serve import make_asgi


def test_it_answers_within_fastapi(onnx):
    from fastapi.testclient import TestClient

    app = fastapi.FastAPI()
    app.mount("/ml", make_asgi({"small": onnx}))
    with TestClient(app) as client:
        assert client.post("/ml/predict", json={"data": [1, 2, 3, 4]}).status_code == 200
        assert client.get("/ml/health").json() == {"status": "healthy"}


def test_options_of_a_server_are_refused(onnx):
    with pytest.raises(unitrain.ConfigError, match="belongs to the server"):
        make_asgi(onnx, port=1)
