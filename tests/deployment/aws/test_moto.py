"""The plain path against moto's server, which knows S3, STS, ECR and SageMaker without its states."""

import json

import boto3
import pytest
from moto.server import ThreadedMotoServer

import unitrain
from tests.deployment.fakes.aws import IMAGE, REGION
from unitrain.deployment.undeploy import status
from unitrain.errors import DeployError

BUCKET = f"sagemaker-{REGION}-123456789012"
KIND = "application/vnd.docker.distribution.manifest.v2+json"
MANIFEST = json.dumps(
    {"schemaVersion": 2, "mediaType": KIND, "config": {"digest": "sha256:0", "size": 1}, "layers": []}
)


@pytest.fixture
def moto(alone):
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    alone.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    alone.setattr("unitrain.deployment.providers.aws.calls._RETRIES", 1)
    yield
    server.stop()


def test_plain_path_on_moto(moto, deployed, shared, other):
    with pytest.raises(DeployError, match=f"there is no bucket {BUCKET}"):
        deployed()
    s3 = boto3.client("s3")
    s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
    with pytest.raises(DeployError, match="does not exist"):
        deployed()
    ecr = boto3.client("ecr")
    ecr.create_repository(repositoryName="digits")
    ecr.put_image(repositoryName="digits", imageManifest=MANIFEST, imageTag=IMAGE.rpartition(":")[2])
    made = deployed()
    assert [step.verb.value for step in made.plan.steps] == ["create"] * 4
    assert made.status().is_ready
    (found,) = s3.list_objects_v2(Bucket=BUCKET)["Contents"]
    stored = s3.get_object(Bucket=BUCKET, Key=found["Key"], ChecksumMode="ENABLED")
    assert stored["Body"].read() == shared.archive.read_bytes()
    assert stored["ChecksumSHA256"]
    assert not deployed().plan.changes
    sagemaker = boto3.client("sagemaker")
    (model,) = sagemaker.list_models()["Models"]
    assert sagemaker.describe_model(ModelName=model["ModelName"])["PrimaryContainer"]["Image"] == IMAGE
    with pytest.raises(DeployError, match="Taken back"):  # moto answers 500 to update_endpoint
        deployed(bundle=other)
    assert [one["ModelName"] for one in sagemaker.list_models()["Models"]] == [model["ModelName"]]
    assert not deployed().plan.changes
    unitrain.undeploy("digits", provider="aws", progress=False)
    assert status("digits", provider="aws").state == "absent"
    assert sagemaker.list_models()["Models"] == []
    assert sagemaker.list_endpoint_configs()["EndpointConfigs"] == []
    assert s3.list_objects_v2(Bucket=BUCKET)["KeyCount"] == 0
    assert not unitrain.undeploy("digits", provider="aws").steps
