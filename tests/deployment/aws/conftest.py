"""A fake account, reached as users reach AWS: by the variables that boto3 reads."""

import socket

import pytest

import unitrain
from tests.deployment.fakes.aws import AWS as Account
from tests.deployment.fakes.aws import IMAGE, KEY, REGION, SECRET, TOKEN, served
from unitrain.deployment import execution
from unitrain.deployment.providers.aws.calls import Calls

ROLE = "arn:aws:iam::123456789012:role/sagemaker"


@pytest.fixture
def alone(monkeypatch, tmp_path):
    """Let boto3 find nothing of the machine."""
    for name in ("AWS_PROFILE", "AWS_REGION", "AWS_ROLE_ARN", "AWS_WEB_IDENTITY_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_SESSION_TOKEN", TOKEN)
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
    return monkeypatch


class Front:
    """Passes requests on to the account of the present test."""

    def __init__(self):
        self.account, self.clients = None, {}

    async def __call__(self, scope, receive, send):
        await self.account(scope, receive, send)


@pytest.fixture(scope="session")
def front():
    """Serve accounts for all tests at one address, so that they share clients: one takes boto3 0.3 s."""
    made = Front()
    with served(made) as made.address:
        yield made


@pytest.fixture
def account(alone, front):
    """Return an account with nothing in it but images and buckets."""
    made = Calls.__init__

    def init(self, *given):
        made(self, *given)
        self._clients = front.clients

    alone.setattr(Calls, "__init__", init)
    alone.setattr(execution, "_FIRST_PAUSE", 0.005)
    alone.setenv("AWS_ENDPOINT_URL", front.address)
    front.account = Account()
    return front.account


@pytest.fixture
def deployed(shared):
    """Return what deploys the shared bundle."""

    def deploy(**given):
        options = {"name": "digits", "image": IMAGE, "role": ROLE, "progress": False}
        return unitrain.deploy(given.pop("bundle", shared), provider="aws", **(options | given))

    return deploy


@pytest.fixture(scope="session")
def other(onnx, tmp_path_factory):
    """Return a bundle with another content, without an archive."""
    return unitrain.bundle(onnx, tmp_path_factory.mktemp("other") / "out", target="sagemaker", licence="MIT")


@pytest.fixture
def free_port():
    """Return a port on which nobody listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]
