"""What is wrong is told plainly, before anything is made; secrets are told nowhere."""

import json
import subprocess
import sys

import pytest

from tests.deployment.gcp.conftest import IMAGE
from unitrain.cli import main
from unitrain.deployment.providers.gcp import api
from unitrain.deployment.providers.gcp.settings import labels_from
from unitrain.errors import DeployError

EMPTY = {"endpoints": {}, "models": {}, "running": []}
BAD = {
    "a name with capitals": ({"name": "Digits"}, "name= must be lower-case"),
    "a name that is too long": ({"name": "d" * 41}, "at most 40"),
    "no image": ({"image": None}, "needs image"),
    "no project": ({"project": None}, "needs project"),
    "a project that is none": ({"project": "My Project"}, "project= must be the ID of a project"),
    "a location that is none": ({"location": "europe"}, "location= must be a region"),
    "an image with a scheme": ({"image": f"https://{IMAGE}"}, "image= must be an image without a scheme"),
    "an image without a registry": ({"image": "digits"}, "image= must be an image"),
    "a machine that is none": ({"machine": "big"}, "machine= must be a type of machine"),
    "no replicas": ({"min_replicas": 0}, "min_replicas= must be a whole number from 1; got 0"),
    "a truth value as a number": ({"max_replicas": True}, "max_replicas= must be a whole number"),
    "fewer at most than at least": ({"min_replicas": 3, "max_replicas": 2}, "max_replicas=2 is below min_replicas=3"),
    "accelerators of no type": ({"accelerators": 2}, "accelerators= needs accelerator="),
    "a text for dedicated": ({"dedicated": "yes"}, "dedicated= must be True or False"),
    "a label of ours": ({"labels": {"unitrain-call": "x"}}, "labels= has the key 'unitrain-call'"),
    "a label with capitals": ({"labels": {"Team": "x"}}, "labels= has the key 'Team'"),
    "a label with a space": ({"labels": {"team": "a b"}}, "labels= has a value for 'team'"),
    "too many labels": ({"labels": {f"k{n}": "" for n in range(61)}}, "at most 60 labels"),
    "an address without TLS": ({"address": "http://10.0.0.1"}, "address= must begin with https://"),
    "an address with a password": ({"address": "https://me:hunter2@host"}, "without a user"),
    "an address that is none": ({"address": "https://host:port"}, "address= must be an address"),
    "an unknown setting": ({"machin": "n1-standard-2"}, "machin"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_setting_is_refused_before_any_call(case, direct, bundles):
    settings, told = BAD[case]
    with pytest.raises(DeployError) as raised:
        direct.deploy(bundles[0], **settings)
    assert told in str(raised.value)
    assert "hunter2" not in str(raised.value)
    assert direct.vertex.calls == []


def test_a_bundle_for_another_platform_is_refused(direct, shared):
    with pytest.raises(DeployError, match="takes bundles for vertex; this one is for 'sagemaker'"):
        direct.deploy(shared)
    assert direct.vertex.calls == []


def test_labels_of_a_command_line():
    assert labels_from("team=vision, stage=test") == {"team": "vision", "stage": "test"}


REFUSED = {
    "no permission": (
        {},
        {"POST"},
        r"step 1 of 3, create endpoint digits: Permission.*denied",
        "roles/aiplatform.user",
    ),
    "nothing may be read": (
        {},
        {"GET"},
        r"Permission 'aiplatform' denied on resource \(PERMISSION_DENIED\)",
        "services enable",
    ),
    "another region": ({"location": "europe-west9"}, set(), "Location is not supported", "roles/"),
    "a machine that the region lacks": ({"machine": "a9-highgpu-1g"}, set(), 'Machine type "a9-highgpu-1g" is not', ""),
    "an image that does not exist": (
        {"image": "europe-west4-docker.pkg.dev/my-project/models/none:1"},
        set(),
        r"create model unitrain-digits-\w+: The container image .*/none:1\" does not exist",
        "",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_the_cloud_refuses_is_told_in_its_words(case, direct, bundles):
    settings, denied, told, hint = REFUSED[case]
    direct.vertex.denied = denied
    with pytest.raises(DeployError, match=told) as raised:
        direct.deploy(bundles[0], **settings)
    assert hint in (raised.value.hint or "")
    assert direct.vertex.state() == EMPTY


def test_a_quota_that_stays_exceeded_is_told(direct, bundles, monkeypatch):
    monkeypatch.setattr(api, "_ATTEMPTS", 3)
    direct.vertex.failing["deployModel"] = ("RESOURCE_EXHAUSTED", "quota custom_model_serving_cpus is exceeded")
    with pytest.raises(DeployError, match="quota custom_model_serving_cpus is exceeded") as raised:
        direct.deploy(bundles[0])
    assert "ask for more quota" in raised.value.hint
    assert direct.vertex.state() == EMPTY


def test_missing_credentials_are_told(cloud, bundles, tmp_path, monkeypatch):
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS")
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    with pytest.raises(DeployError, match="there are no credentials for Google Cloud") as raised:
        cloud.deploy(bundles[0], dry_run=True)
    assert "gcloud auth application-default login" in raised.value.hint
    assert cloud.vertex.calls == []


def test_a_revoked_key_is_told(cloud, bundles, app, monkeypatch):
    monkeypatch.setattr(app, "_public", other_key())
    with pytest.raises(DeployError, match="there is no token for Google Cloud: invalid_grant"):
        cloud.deploy(bundles[0])
    assert cloud.vertex.calls == []


def other_key():
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    public = rsa.generate_private_key(public_exponent=65537, key_size=2048).public_key()
    return public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def test_an_expired_token_is_renewed(cloud, bundles, app):
    made, given = cloud.deploy(bundles[0], wait=False), app.given
    app.tokens.clear()
    assert made.wait().is_complete
    assert app.given == given + 1


def test_an_address_that_nobody_answers_is_told(cloud, bundles, monkeypatch):
    monkeypatch.setattr(api, "_ATTEMPTS", 2)
    with pytest.raises(DeployError, match=r"127\.0\.0\.1:1 cannot be reached: ConnectionError") as raised:
        cloud.deploy(bundles[0], address="http://127.0.0.1:1")
    assert "location= is a region" in raised.value.hint


def test_secrets_are_told_nowhere(cloud, bundles, app, private, monkeypatch, capfd):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2-environment")
    told, app.echoes = [], True
    made = cloud.deploy(bundles[0], progress=True, labels={"team": "vision"})
    told += [str(made), repr(made), json.dumps([step.described() for step in made.plan.steps]), str(cloud.status())]
    cloud.vertex.failing["deployModel"] = ("INTERNAL", "it crashed")
    with pytest.raises(DeployError) as failed:
        cloud.deploy(bundles[1], progress=True)
    cloud.vertex.denied = {"POST"}
    with pytest.raises(DeployError) as denied:
        cloud.deploy(bundles[1], progress=True)
    assert "'authorization': 'Bearer ***'" in str(denied.value)  # the fake has shown the header
    with pytest.raises(DeployError) as misplaced:
        cloud.deploy(bundles[1], service_account=private)
    told += [str(failed.value), str(denied.value), str(misplaced.value), *capfd.readouterr()]
    told.append(json.dumps(cloud.vertex.state()))
    everything = "\n".join(told)
    assert "create endpoint digits" in everything
    lines = [line for line in private.splitlines() if line]
    for secret in (*app.tokens, *lines, "hunter2-environment"):
        assert secret not in everything


def test_it_imports_without_google_auth_and_says_what_to_install(bundles):
    script = f"""
import sys
sys.modules["google.auth"] = sys.modules["requests"] = None
import unitrain
from unitrain.deployment.providers.gcp import GCP
assert not [name for name in sys.modules if name.startswith("google.auth.")]
try:
    unitrain.deploy({str(bundles[0].path)!r}, provider="gcp", name="digits", project="my-project",
                    location="europe-west4", image={IMAGE!r})
except unitrain.errors.DeployError as error:
    print(error)
"""
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert 'provider="gcp" needs google-auth and requests' in ran.stdout
    assert "pip install 'pytorch-unitrain[gcp]'" in ran.stdout


def test_a_command_line_deploys(cloud, bundles):
    place = [f"--{key}={cloud.place[key]}" for key in ("provider", "project", "location", "address")]
    given = [str(bundles[0].path), "--name=digits", f"--image={IMAGE}", "--labels=team=vision"]
    assert main(["deploy", *given, *place, "--dry-run"]) == 0
    assert cloud.vertex.writes == []
    assert main(["deploy", *given, *place]) == 0
    assert cloud.vertex.endpoints["digits"]["labels"]["team"] == "vision"
    assert main(["status", "digits", *place]) == 0
    assert main(["undeploy", "digits", *place]) == 0
    assert cloud.vertex.state() == EMPTY
