"""What is refused before anything is done, and that no secret is told."""

import builtins
import logging
import subprocess
import sys

import pytest

import unitrain
from tests.deployment.aws.conftest import ROLE
from tests.deployment.fakes.aws import IMAGE, KEY, SECRET, TOKEN
from unitrain.cli import main
from unitrain.errors import DeployError

OTHER_REGION = IMAGE.replace("eu-west-1", "us-east-1")


@pytest.mark.parametrize("name", ["", "-a", "a-", "a_b", "a b", "a/b", "d" * 44, "é", "a\n"])
def test_names_that_sagemaker_refuses_are_refused_first(account, deployed, name):
    with pytest.raises(DeployError, match="name="):
        deployed(name=name)
    assert account.calls == []


def test_the_longest_name_is_accepted(account, deployed):
    assert deployed(name="d" * 43).status().is_ready


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"image": "docker.io/digits"}, "image= must be an image in ECR"),
        ({"image": None}, "needs image"),
        ({"role": "sagemaker"}, "role= must be the ARN of a role"),
        ({"role": None}, "needs role"),
        ({"instance": "m5.large"}, "instance= must be a type of machine"),
        ({"count": 0}, "count= must be a whole number from 1"),
        ({"count": True}, "count= must be"),
        ({"bucket": "UPPER"}, "bucket= must be"),
        ({"prefix": "/a"}, "prefix= must be"),
        ({"network_isolation": "no"}, "network_isolation= must be True or False"),
        ({"region": "europe"}, "region= must be"),
        ({"tags": {"unitrain-call": "x"}}, "reserved"),
        ({"tags": {"aws:x": "x"}}, "reserved"),
        ({"tags": {"a": "b\n"}}, "which AWS refuses"),
        ({"tags": {"a": "b" * 257}}, "which AWS refuses"),
        ({"tags": ["a"]}, "tags= must be"),
        ({"tags": {str(one): "" for one in range(49)}}, "at most 48"),
        ({"machine": "ml.m5.large"}, "machine"),
    ],
    ids=str,
)
def test_settings_are_checked_first(account, deployed, given, told):
    with pytest.raises(DeployError, match=told):
        deployed(**given)
    assert account.calls == []


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"bucket": "nowhere"}, r"there is no bucket nowhere.\n.*aws s3 mb"),
        ({"bucket": "other-account"}, "is another account's"),
        ({"bucket": "far"}, "is in us-east-1"),
        ({"image": IMAGE.replace(":1", ":9")}, "does not exist"),
        ({"image": IMAGE.replace("digits", "letters")}, "does not exist"),
        ({"image": OTHER_REGION}, "image= is in us-east-1"),
    ],
    ids=str,
)
def test_what_can_be_read_is_refused_before_anything_is_done(account, deployed, given, told):
    with pytest.raises(DeployError, match=told):
        deployed(**given)
    assert account.writes == []


@pytest.mark.parametrize(
    ("instance", "told"),
    [
        ("ml.p4d.24xlarge", r"ResourceLimitExceeded: The account-level service limit(.|\n)*Service Quotas"),
        ("ml.x9.large", "ml.x9.large is not supported in eu-west-1"),
    ],
    ids=["quota", "region"],
)
def test_a_machine_that_is_not_to_be_had_is_told_and_taken_back(account, deployed, instance, told):
    before = account.state()
    with pytest.raises(DeployError, match=told):
        deployed(instance=instance)
    assert account.state() == before


def test_missing_credentials_are_told(account, deployed, alone):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        alone.delenv(name)
    with pytest.raises(DeployError, match=r"no credentials for AWS.\n.*aws configure"):
        deployed()
    assert account.calls == []


def test_an_unknown_profile_is_told(account, deployed):
    with pytest.raises(DeployError, match=r"profile \(nobody\) could not be found"):
        deployed(profile="nobody")


def test_a_missing_region_is_told(account, deployed, alone):
    alone.delenv("AWS_DEFAULT_REGION")
    with pytest.raises(DeployError, match=r"no region is set.\n.*region="):
        deployed()
    assert deployed(region="eu-west-1").status().is_ready


@pytest.mark.parametrize("code", ["ExpiredToken", "InvalidClientTokenId", "SignatureDoesNotMatch"])
def test_credentials_that_aws_refuses_are_told_without_the_token(account, deployed, code):
    account.keys[KEY] = code
    with pytest.raises(DeployError, match=f"AWS refused GetCallerIdentity: {code}") as caught:
        deployed()
    assert TOKEN not in "".join(map(str, (caught.value, caught.value.__cause__, caught.value.__dict__)))
    assert caught.value.__cause__ is None
    assert account.writes == []


def test_an_address_that_nobody_answers_is_told(alone, deployed, free_port):
    alone.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port}")
    alone.setattr("unitrain.deployment.providers.aws.calls._RETRIES", 1)
    with pytest.raises(DeployError, match=r"AWS did not answer get_caller_identity: .*\n.*the network"):
        deployed()


def test_a_missing_boto3_is_told(account, deployed, monkeypatch):
    real = builtins.__import__

    def refuse(name, *given, **options):
        if name.partition(".")[0] in ("boto3", "botocore"):
            raise ImportError(name)
        return real(name, *given, **options)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(DeployError, match=r"needs boto3(.|\n)*pytorch-unitrain\[aws\]"):
        deployed()


def test_the_provider_is_imported_without_boto3():
    code = "import sys, unitrain.deployment.providers.aws as one; print(one.AWS.name, 'boto3' in sys.modules, 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split()[:2] == ["aws", "False"]


def test_no_secret_is_told(account, deployed, alone, caplog, capsys):
    alone.setenv("PLANTED", "planted-in-the-environment")
    made = deployed(progress=True)
    told = [str(made), repr(made), str(made.status()), made.url, repr(made._provider.settings)]
    account.denied = {"UpdateEndpoint"}
    with pytest.raises(DeployError) as caught:
        deployed(count=2, progress=True)
    with pytest.raises(DeployError) as refused:
        deployed(image=f"https://user:{SECRET}@host/digits:1")
    told += [str(caught.value), str(refused.value), caplog.text, *capsys.readouterr(), str(account.state())]
    told += [f"{body!r} {url}" for _, body, url in account.bodies]
    assert account.bodies
    for secret in (SECRET, TOKEN, "planted-in"):
        assert not [text for text in told if secret in text]
    assert logging.getLogger("botocore").level == logging.NOTSET


def test_command_line(account, shared, capsys):
    given = ["--provider", "aws", "--name", "digits", "--image", IMAGE, "--role", ROLE, "--tags", "team=vision"]
    assert main(["deploy", str(shared.path), *given, "--no-network-isolation", "--dry-run"]) == 0
    assert "create  endpoint  digits" in capsys.readouterr().out
    assert account.writes == []
    assert main(["deploy", str(shared.path), *given, "--no-network-isolation"]) == 0
    assert capsys.readouterr().out.rstrip().endswith("/endpoints/digits/invocations")
    (model,) = account.sagemaker.found["model"].values()
    assert (model["given"]["EnableNetworkIsolation"], model["tags"]["team"]) == (False, "vision")
    assert main(["status", "digits", "--provider", "aws", "--region", "eu-west-1"]) == 0
    assert main(["undeploy", "digits", "--provider", "aws"]) == 0
    assert main(["status", "digits", "--provider", "aws"]) == 3
    assert account.objects == {}


def test_another_target_is_refused(account, deployed, onnx, tmp_path):
    made = unitrain.bundle(onnx, tmp_path / "out", target="vertex")
    with pytest.raises(DeployError, match="sagemaker"):
        deployed(bundle=made)
    assert account.calls == []
