"""The bill of materials is valid CycloneDX 1.6, read by the format's own library, and lists what is installed."""

import json
from importlib.metadata import version

import pytest
from cyclonedx.model.bom import Bom
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

import unitrain


def bill(bundle):
    return (bundle.path / "sbom.cdx.json").read_text()


@pytest.mark.parametrize("licence", [None, "MIT", "Apache-2.0 OR MIT", "ask our lawyers"])
def test_it_is_valid(onnx, tmp_path, licence):
    made = unitrain.bundle(onnx, tmp_path / "out", licence=licence)
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(bill(made)) is None
    told = json.loads(bill(made))["metadata"]["component"].get("licenses")
    expected = {None: None, "ask our lawyers": [{"license": {"name": licence}}]}
    assert told == expected.get(licence, [{"expression": licence}])


def test_a_wrong_bill_is_noticed(shared):
    told = json.loads(bill(shared))
    for change in ({"components": [{"name": "x"}]}, {"serialNumber": "1"}, {"more": 1}):
        assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(json.dumps(told | change)) is not None


def test_it_lists_each_package_and_the_model(shared):
    read = Bom.from_json(json.loads(bill(shared)))
    found = {one.name: one.version for one in read.components}
    assert found.pop("pytorch-unitrain") == unitrain.__version__
    assert found == shared.manifest["versions"]["packages"]
    assert found["onnxruntime"] == version("onnxruntime")
    assert read.metadata.component.name == "digits"
    assert [one.content for one in read.metadata.component.hashes] == [shared.manifest["model"]["sha256"]]
    needs = {one.ref.value: {need.ref.value for need in one.dependencies} for one in read.dependencies}
    assert f"pkg:pypi/h11@{version('h11')}" in needs[f"pkg:pypi/uvicorn@{version('uvicorn')}"]
    assert json.loads(bill(shared))["metadata"].keys() == {"component"}  # no time


def test_its_number_follows_from_its_content(onnx, shared, tmp_path):
    same = unitrain.bundle(onnx, tmp_path / "same", target="sagemaker")
    other = unitrain.bundle(onnx, tmp_path / "other", target="sagemaker", licence="MIT")
    numbers = [json.loads(bill(one))["serialNumber"] for one in (shared, same, other)]
    assert numbers[0] == numbers[1] != numbers[2]
