"""A page of another site cannot ask a service on loopback: requests name their host (DNS rebinding)."""

from contextlib import nullcontext

import pytest

from tests.serving.clients import Client, raw
from unitrain.serving.http.hosts import Hosts
from unitrain.serving.options import service_config
from unitrain.serving.refusals import Refusal

ROW = [0.5, 1.0, -1.0, 2.0]

OTHERS = ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "localhost.evil.example", "", "localhost, evil"]
OURS = ["localhost", "LOCALHOST:8000", "localhost.", "127.0.0.1:9", "[::1]", "[::1]:8000"]


def answer(url, *hosts, path="/health"):
    head = [f"GET {path} HTTP/1.1", *(f"Host: {host}" for host in hosts), "Connection: close", "", ""]
    return raw(url, "\r\n".join(head).encode())


@pytest.mark.parametrize("path", ["/", "/health", "/metrics", "/openapi.json", "/nothing"])
def test_another_host_gets_nothing_of_the_service(client, path):
    for host in OTHERS:
        found = answer(f"http://{client.host}:{client.port}", host, path=path)
        assert found.startswith(b"HTTP/1.1 421 "), (host, found)
        assert b"--allowed-hosts" in found
        assert b"unitrain_" not in found


def test_another_host_gets_no_prediction(client):
    refused = client.predict(ROW, Host="evil.example")
    assert (refused.status, "evil.example" in refused.json["error"]) == (421, True)
    assert client.predict(ROW).status == 200
    assert 'code="421"' in client.get("/metrics").body.decode()


def test_the_names_of_this_machine_are_answered(client):
    url = f"http://{client.host}:{client.port}"
    for host in OURS:
        assert answer(url, host).startswith(b"HTTP/1.1 200 "), host
    assert answer(url, "localhost", "evil.example").startswith(b"HTTP/1.1 421 ")
    assert b" 200 " in raw(url, b"GET /health HTTP/1.0\r\n\r\n")  # of no browser


def test_further_names_are_accepted_by_the_option(serving, onnx):
    server = serving(onnx, allowed_hosts=["Models.example"])
    with Client(server.url) as client:
        assert client.predict(ROW, Host="models.example:443").status == 200
        assert client.predict(ROW).status == 200
        assert client.predict(ROW, Host="evil.example").status == 421


@pytest.mark.parametrize(
    ("options", "has_token", "is_refused"),
    [
        ({}, False, True),
        ({}, True, False),
        ({"host": "::1"}, False, True),
        ({"host": "0.0.0.0"}, False, False),
        ({"host": "0.0.0.0", "allowed_hosts": ["models.example"]}, False, True),
        ({"allowed_hosts": ["models.example"]}, True, True),
        ({"allowed_hosts": ["*"]}, False, False),
        ({"host": "evil.example"}, False, False),
    ],
)
def test_when_the_host_is_looked_at(options, has_token, is_refused):
    hosts = Hosts(service_config(options), has_token=has_token)
    with pytest.raises(Refusal, match="evil") if is_refused else nullcontext():
        hosts.require(b"evil.example:8000")
    hosts.require(b"127.0.0.1:8000")


def test_the_accepted_values_that_are_kept_are_few():
    hosts = Hosts(service_config({}), has_token=False)
    for port in range(1000):
        hosts.require(f"localhost:{port}".encode())
    assert len(hosts._seen) == 100
    with pytest.raises(Refusal, match="evil"):
        hosts.require(b"evil.example")
