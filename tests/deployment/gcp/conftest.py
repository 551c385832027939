"""A fake Vertex AI that is asked with the credentials of a service account, and two bundles."""

import json
from json import dumps
from types import SimpleNamespace
from urllib.parse import urlsplit

import pytest
import requests
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

import unitrain
from tests.deployment.fakes.gcp import Vertex
from tests.deployment.fakes.gcp_server import serving
from unitrain.deployment import execution
from unitrain.deployment.providers.gcp import api, operations

IMAGE = "europe-west4-docker.pkg.dev/my-project/models/digits:1"
PLACE = {"provider": "gcp", "project": "my-project", "location": "europe-west4"}


class Cloud:
    """What the tests do with the fake."""

    def __init__(self, app):
        self.app = app
        self.place = PLACE | {"address": app.url}

    @property
    def vertex(self):
        return self.app.vertex

    def anew(self, **settings):
        """Put an empty region in the place of the present one."""
        self.app.vertex = Vertex(images=(IMAGE,), port=self.vertex.port, **settings)
        return self.vertex

    def deploy(self, bundle, **options):
        return unitrain.deploy(bundle, **{**self.place, "name": "digits", "image": IMAGE, "progress": False, **options})

    def undeploy(self, **options):
        return unitrain.undeploy("digits", **{**self.place, "progress": False, **options})

    def status(self):
        return unitrain.deployment.undeploy.status("digits", **self.place)


@pytest.fixture(scope="session")
def key():
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@pytest.fixture(scope="session")
def private(key):
    form = serialization.PrivateFormat.TraditionalOpenSSL
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()).decode()


@pytest.fixture(scope="session")
def app(key):
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    with serving(Vertex(images=(IMAGE,)), key.public_key().public_bytes(serialization.Encoding.PEM, form)) as app:
        yield app


@pytest.fixture
def cloud(app, private, tmp_path, monkeypatch):
    """Return an empty region; waiting is short."""
    account = {
        "type": "service_account",
        "project_id": "my-project",
        "private_key_id": "1",
        "private_key": private,
        "client_email": "robot@my-project.iam.gserviceaccount.com",
        "token_uri": f"{app.url}/token",
    }
    (tmp_path / "account.json").write_text(json.dumps(account))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "account.json"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    monkeypatch.setattr(execution, "_FIRST_PAUSE", 0.001)
    monkeypatch.setattr(execution, "_LONGEST_PAUSE", 0.001)
    monkeypatch.setattr(operations, "_PATIENCE", 5.0)
    monkeypatch.setattr(api, "_FIRST_PAUSE", 0.001)
    monkeypatch.setattr(api, "_LONGEST_PAUSE", 0.001)
    made = Cloud(app)
    made.anew()
    app.echoes = False
    return made


class Direct:
    """A session that asks the fake without a socket, for tests with hundreds of deploys."""

    def __init__(self, app):
        self._app, self.credentials = app, SimpleNamespace(token="no-token")

    def request(self, method, url, *, params=None, json=None, **_):
        path, host = urlsplit(url).path.removeprefix("/v1/"), urlsplit(url).netloc
        query = {key: str(value) for key, value in (params or {}).items()}
        answer = requests.Response()
        answer.status_code, content = self._app.vertex.handle(method, path, query, json, host)
        answer._content = dumps(content).encode()
        return answer


@pytest.fixture
def direct(cloud, app, monkeypatch):
    """Return an empty region that is asked without a socket."""
    monkeypatch.setattr(api.Api, "_session", lambda self: Direct(app))
    return cloud


@pytest.fixture(scope="session")
def bundles(onnx, tmp_path_factory):
    """Return two bundles of different content."""
    folder = tmp_path_factory.mktemp("gcp")
    return [unitrain.bundle(onnx, folder / name, target="vertex", name=name) for name in ("digits", "digits-2")]
