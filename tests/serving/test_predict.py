"""The answers are the bits of the file in onnxruntime at the same batch, by each protocol."""

import io

import numpy as np
import onnxruntime
import pytest
import tritonclient.http as triton
from openapi_spec_validator import validate

ROWS = np.random.default_rng(0).standard_normal((5, 4)).astype(np.float32)


@pytest.fixture(scope="module")
def session(onnx):
    return onnxruntime.InferenceSession(str(onnx), providers=["CPUExecutionProvider"])


@pytest.fixture(scope="module")
def name(session):
    return session.get_inputs()[0].name


def of_file(session, rows):
    return session.run(None, {session.get_inputs()[0].name: rows})[0]


def test_plain_json_gives_the_bits_of_the_file(client, session):
    for path in ("/predict", "/models/small/predict", "/invocations"):
        answer = client.post(path, {"data": ROWS.tolist()})
        assert answer.status == 200, answer.body
        assert np.array_equal(np.float32(answer.json["prediction"]), of_file(session, ROWS))


def test_one_row_gives_one_row(client, session):
    answer = client.predict(ROWS[0].tolist())
    assert np.array_equal(np.float32(answer.json["prediction"]), of_file(session, ROWS[:1])[0])


def test_confidence_is_the_mean_of_the_largest_softmax(client, session):
    logits = of_file(session, ROWS).astype(np.float64)
    by_hand = (np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)).max(-1).mean()
    assert client.predict(ROWS.tolist()).json["confidence"] == pytest.approx(by_hand, rel=1e-12)


def test_instances_give_predictions(client, session, name):
    expected = of_file(session, ROWS)
    named = [{name: row} for row in ROWS.tolist()]
    for body in ({"instances": ROWS.tolist()}, {"instances": named, "parameters": {}}):
        found = client.post("/predict", body).json
        assert list(found) == ["predictions"]
        assert np.array_equal(np.float32(found["predictions"]), expected)


def test_npy_gives_the_bits(client, session):
    for rows, expected in (
        (ROWS, of_file(session, ROWS)),
        (np.asfortranarray(ROWS), of_file(session, ROWS)),
        (ROWS[0], of_file(session, ROWS[:1])[0]),
    ):
        file = io.BytesIO()
        np.save(file, rows)
        answer = client.post("/predict", file.getvalue(), "application/x-npy")
        assert answer.headers["content-type"] == "application/x-npy"
        assert np.array_equal(np.load(io.BytesIO(answer.body)), expected)


def test_open_inference_as_json(client, session, name):
    asked = {"id": "7", "inputs": [{"name": name, "shape": [5, 4], "datatype": "FP32", "data": ROWS.ravel().tolist()}]}
    found = client.post("/v2/models/small/infer", asked).json
    assert (found["id"], found["model_name"]) == ("7", "small")
    (output,) = found["outputs"]
    assert (output["shape"], output["datatype"]) == ([5, 3], "FP32")
    assert np.array_equal(np.float32(output["data"]).reshape(5, 3), of_file(session, ROWS))


@pytest.mark.parametrize("binary", [True, False])
def test_open_inference_by_tritons_client(client, session, name, binary):
    with triton.InferenceServerClient(f"{client.host}:{client.port}") as asking:
        assert asking.is_server_live()
        assert asking.is_server_ready()
        assert asking.is_model_ready("small")
        assert asking.is_model_ready("small", "1")
        told = asking.get_model_metadata("small")
        assert told["inputs"] == [{"name": name, "datatype": "FP32", "shape": [-1, 4]}]
        given = triton.InferInput(name, [5, 4], "FP32")
        given.set_data_from_numpy(ROWS, binary_data=binary)
        wanted = triton.InferRequestedOutput(told["outputs"][0]["name"], binary_data=binary)
        found = asking.infer("small", [given], outputs=[wanted])
        assert np.array_equal(found.as_numpy(wanted.name()), of_file(session, ROWS))


def test_binary_carries_nan_and_json_refuses_it(client, name):
    rows = np.full((1, 4), np.nan, np.float32)
    file = io.BytesIO()
    np.save(file, rows)
    assert np.isnan(np.load(io.BytesIO(client.post("/predict", file.getvalue(), "application/x-npy").body))).all()
    head = (
        b'{"inputs":[{"name":"%s","shape":[1,4],"datatype":"FP32","parameters":{"binary_data_size":16}}]}'
        % name.encode()
    )
    answer = client.post(
        "/v2/models/small/infer", head + rows.tobytes(), Inference_Header_Content_Length=str(len(head))
    )
    assert answer.status == 500
    assert "NaN" in answer.json["error"]


def test_the_service_describes_its_model(client, onnx, name):
    (model,) = client.get("/models").json["models"]
    assert (model["name"], model["file"], model["format"]) == ("small", "small.onnx", "onnx")
    assert model["inputs"] == [{"name": name, "dtype": "float32", "shape": ["batch", 4]}]
    assert str(onnx.parent) not in client.get("/models").body.decode()


def test_health_and_the_other_routes(client):
    for path in ("/health", "/ping", "/v2/health/ready"):
        assert client.get(path).json == {"status": "healthy"}
    for path in ("/live", "/v2/health/live", "/v2", "/docs", "/stats", "/metrics", "/openapi.json", "/v2/models/small"):
        assert client.get(path).status == 200, path


def test_the_example_of_the_document_is_answered(client):
    document = client.get("/openapi.json").json
    validate(document)
    for path in ("/predict", "/models/small/predict"):
        example = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["example"]
        assert client.post(path, example).status == 200


def test_the_request_id_comes_back(client):
    assert client.predict(ROWS[0].tolist(), X_Request_Id="abc-1").headers["x-request-id"] == "abc-1"
    made = {client.predict(ROWS[0].tolist()).headers["x-request-id"] for _ in range(3)}
    assert len(made) == 3
