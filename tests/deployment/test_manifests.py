"""Manifests of others: whatever they hold, they are read as they are or refused with a DeployError."""

import json
import os.path
from copy import deepcopy

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unitrain.deployment.bundle.manifest import parsed, refuse_path, text_of
from unitrain.errors import DeployError

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
    max_leaves=4,
)
TOLD = {
    "format": 1,
    "name": "digits",
    "target": "docker",
    "model": {"file": "model/model.onnx", "format": "onnx", "sha256": "0" * 64},
    "signature": {
        "inputs": [{"name": "x", "dtype": "float32", "shape": ["batch", 4]}],
        "outputs": [{"name": "y", "dtype": "float32", "shape": ["batch", 3]}],
        "example": {},
    },
    "contracts": {"docker": {"is_managed": False, "log_format": "text", "max_body": 1, "timeout": 1}},
    "versions": {"python": "3.11", "unitrain": "0", "packages": {"numpy": "2"}, "exported_by": {}},
    "files": {"model/model.onnx": {"sha256": "0" * 64, "size": 1}},
}


def places(told, path=()):
    """Yield the paths to all values."""
    yield path
    entries = told.items() if isinstance(told, dict) else enumerate(told) if isinstance(told, list) else ()
    for key, value in entries:
        yield from places(value, (*path, key))


PLACES = [one for one in places(TOLD) if one]


def changed(path, value):
    told = deepcopy(TOLD)
    inner = told
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return told


def test_the_manifest_itself_is_read():
    assert parsed(text_of(TOLD)) == TOLD


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(PLACES), JSON)
def test_a_changed_value_is_read_or_refused(path, value):
    told = changed(path, value)
    try:
        assert parsed(text_of(told)) == told
    except DeployError:
        return
    assert all(isinstance(one, str) for one in told["versions"]["packages"].values())
    assert all(isinstance(one["max_body"], int) for one in told["contracts"].values())


WRONG = [
    (path, value)
    for path in PLACES
    for value in (None, [], {}, -1)
    if not (value == {} and path[-1] in ("packages", "exported_by", "contracts", "example"))  # may be empty
    and not (value in (None, []) and path[-1] == "shape")  # unknown, or a number
    and not (value == [] and path[-1] in ("inputs", "outputs"))
    and "shape" not in path[:-1]
]


@pytest.mark.parametrize(("path", "value"), WRONG, ids=repr)
def test_another_kind_of_value_is_refused(path, value):
    with pytest.raises(DeployError):
        parsed(text_of(changed(path, value)))


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=30) | st.text("./ax\\", max_size=12))
def test_an_accepted_path_stays_within_its_folder(name):
    if refuse_path(name) is None:
        assert os.path.normpath(f"/base/{name}") == f"/base/{name}"


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=50))
def test_other_bytes_are_refused(text):
    with pytest.raises(DeployError):
        parsed(text)


@pytest.mark.parametrize(
    "change",
    [lambda text: text + b" ", lambda text: json.dumps(json.loads(text)).encode()],
    ids=["a space", "other spaces"],
)
def test_an_edited_text_is_refused(change):
    with pytest.raises(DeployError, match="it was edited"):
        parsed(change(text_of(TOLD)))
