"""What is refused before anything is asked or done, for every provider."""

import re

import pytest

import unitrain
from unitrain.errors import DeployError

CASES = {
    "unknown provider": ({"provider": "azure"}, "provider='azure' is unknown; available: .*'local'"),
    "misspelt provider": ({"provider": "lcal"}, "did you mean 'local'"),
    "misspelt setting": ({"prot": 1}, "unknown argument 'prot'.*\n.*did you mean 'port'"),
    "setting of another": ({"image": "x"}, "unknown argument 'image'"),
    "port": ({"port": 70000}, "port= must be a whole number from 0 to 65535; got 70000"),
    "port as text": ({"port": "80"}, "port= must be a whole number"),
    "port as a truth": ({"port": True}, "port= must be a whole number"),
    "host": ({"host": ""}, "host= must be a text"),
    "name that climbs": ({"name": "../up"}, "name='../up' is invalid"),
    "name with a space": ({"name": "a b"}, "is invalid"),
    "empty name": ({"name": ""}, "name= must be a text; got ''"),
    "name that is none": ({"name": None}, "name= must be a text; got None"),
    "long name": ({"name": "a" * 64}, "1 to 63 letters"),
    "timeout": ({"timeout": 0}, "timeout= must be a number of seconds above 0; got 0"),
    "endless timeout": ({"timeout": float("inf")}, "timeout= must be"),
    "no bundle": ({"bundle": "nowhere"}, "there is no bundle nowhere"),
    "a number": ({"bundle": 3}, "bundle must be a str or a Path; got 3"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_bad_option_is_refused(shared, tmp_path, case):
    given, told = CASES[case]
    arguments = {"bundle": shared, "provider": "local", "name": "digits", "folder": tmp_path / "here", **given}
    if arguments["provider"] != "local":
        del arguments["folder"]
    with pytest.raises(DeployError, match=re.compile(told, re.DOTALL)):
        unitrain.deploy(**arguments)
    assert not (tmp_path / "here").exists()


def test_settings_of_a_deployment_are_refused_where_nothing_is_deployed(tmp_path):
    with pytest.raises(DeployError, match="port= has a meaning for a deployment only"):
        unitrain.undeploy("digits", provider="local", folder=tmp_path, port=1)


def test_a_cloud_model_deploys_what_its_framework_trained(shared, tmp_path):
    made = unitrain.CloudModel(framework="ignite", cloud_provider="local")
    plan = made.deploy(shared, name="digits", folder=tmp_path / "here", dry_run=True)
    assert "create  service" in str(plan)
    trainer = unitrain.UnifiedTrainer("lightning")
    with pytest.raises(DeployError, match=r"got a trainer of 'lightning'"):
        made.deploy(trainer, name="digits", folder=tmp_path / "here")
    with pytest.raises(DeployError, match="framework='lightening' is unknown"):
        unitrain.CloudModel(framework="lightening", cloud_provider="local")
    with pytest.raises(DeployError, match="provider='locale' is unknown"):
        unitrain.CloudModel(framework="lightning", cloud_provider="locale")


def test_a_model_is_not_a_bundle(onnx):
    with pytest.raises(DeployError, match=r"digits\.onnx is a model, not a bundle\.\nHint: unitrain bundle"):
        unitrain.deploy(onnx, provider="local", name="digits")
