"""Each option of a service is checked before anything starts."""

import warnings

import pytest

import unitrain
from unitrain.serving import options
from unitrain.serving.options import ServeOptions, ServiceConfig, service_config

BAD = {
    "host": ["", 3],
    "port": [-1, 65536, "80", True],
    "allowed_hosts": [[], "models", [1], ["http://models"], ["models:80"], ["a/b"], ["a,b"]],
    "workers": [0, 1.5],
    "max_batch": [0, "64"],
    "max_wait_ms": [-1, "x", float("nan")],
    "queue": [0],
    "max_body": [0, "10XB", "", -5, None],
    "timeout": [0, float("inf"), None],
    "drain_delay": [-1],
    "drain_timeout": ["x"],
    "token_file": ["missing", 3],
    "tls_cert": ["missing"],
    "tls_key": ["missing"],
    "metrics": ["yes"],
    "watch": [1],
    "access_log": [None],
    "log_format": ["xml"],
    "max_connections": [0],
}


def test_every_option_has_bad_values_here():
    assert set(BAD) == set(ServeOptions.__annotations__) == set(ServiceConfig.__dataclass_fields__)


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in BAD.items() for value in values])
def test_bad_values_are_refused(name, value):
    with pytest.raises(unitrain.ConfigError, match=f"{name}="):
        service_config({name: value})


def test_sizes_are_read_with_their_units():
    assert service_config({"max_body": "10MB"}).max_body == 10**7
    assert service_config({"max_body": "1.5 kb"}).max_body == 1500


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"prot": 1}, "did you mean 'port'"),
        ({"max_batch_size": 8}, "max_batch="),
        ({"token": "a"}, "token_file="),
    ],
)
def test_unknown_options_name_the_intended_one(given, told):
    with pytest.raises(unitrain.ConfigError, match=told):
        service_config(given)


def test_options_that_belong_together(tmp_path):
    cert = tmp_path / "cert"
    cert.write_text("x")
    with pytest.raises(unitrain.ConfigError, match="belong together"):
        service_config({"tls_cert": cert})


def test_an_empty_token_is_refused(tmp_path, monkeypatch):
    empty = tmp_path / "token"
    empty.write_text("\n")
    with pytest.raises(unitrain.ConfigError, match="is empty"):
        service_config({"token_file": empty})
    monkeypatch.setenv("UNITRAIN_TOKEN", " ")
    with pytest.raises(unitrain.ConfigError, match="UNITRAIN_TOKEN"):
        service_config({})


def test_an_open_service_without_a_token_warns(onnx):
    with (
        pytest.warns(UserWarning, match="anyone can ask the model") as caught,
        unitrain.serve(onnx, host="0.0.0.0", port=0, block=False),
    ):
        pass
    assert {one.filename for one in caught} == {__file__}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        unitrain.serve(onnx, port=0, block=False).stop()


@pytest.mark.parametrize("models", [{}, None, 3, "", "missing.onnx", {"a/b": "x"}, {"": "x"}])
def test_bad_models_are_refused(models):
    with pytest.raises(unitrain.ConfigError):
        unitrain.serve(models, block=False)


@pytest.mark.parametrize("package", ["uvicorn", "orjson", "httptools", "prometheus_client"])
def test_a_missing_package_is_told_before_anything_starts(onnx, package, monkeypatch):
    find_spec = options.find_spec
    monkeypatch.setattr(options, "find_spec", lambda name: None if name == package else find_spec(name))
    with pytest.raises(unitrain.ConfigError, match=rf"serving needs {package}.\nHint: pip install .*\[serve\]"):
        unitrain.serve(onnx, port=0, block=False)
