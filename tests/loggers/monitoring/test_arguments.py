"""What the trackers of monitoring refuse, and that no password is told."""

from __future__ import annotations

import sys

import pytest

from tests.monitoring_servers import answering
from tests.servers import free_port
from unitrain import BackendNotInstalledError, ConfigError, OTLPLogger, PrometheusLogger, StatsDLogger

REFUSED = {
    "neither": (PrometheusLogger, "port= or pushgateway=; got neither"),
    "both": (lambda: PrometheusLogger(9100, pushgateway="http://h"), "port= or pushgateway=; got both"),
    "a port as text": (lambda: PrometheusLogger("9100"), "port must be a number from 0 to 65535; got '9100'"),
    "a large port": (lambda: PrometheusLogger(70000), "port must be"),
    "a negative port": (lambda: PrometheusLogger(-1), "port must be"),
    "a truth as a port": (lambda: PrometheusLogger(True), "port must be"),
    "no URL": (lambda: PrometheusLogger(pushgateway="localhost:9091"), "pushgateway must be an http"),
    "another scheme": (lambda: PrometheusLogger(pushgateway="file:///etc/passwd"), "pushgateway must be an http"),
    "a broken URL": (lambda: PrometheusLogger(pushgateway="http://[::1"), "pushgateway must be an http"),
    "a query": (lambda: OTLPLogger("http://h/?token=secret-word"), "url must be an http"),
    "a number": (lambda: OTLPLogger(4318), "url must be an http"),
    "a broken port": (lambda: OTLPLogger("http://h:port"), "url must be an http"),
    "a host with a Pushgateway": (
        lambda: PrometheusLogger(pushgateway="http://h", host="0.0.0.0"),
        "host= has no effect",
    ),
    "no host": (lambda: PrometheusLogger(9100, host=""), "host must be an address"),
    "keep with a port": (lambda: PrometheusLogger(9100, keep=True), "keep= has no effect"),
    "an empty run": (lambda: PrometheusLogger(9100, run=" "), "run must be a printable text"),
    "a run of two lines": (lambda: OTLPLogger("http://h", run="a\nb"), "run must be a printable text"),
    "a job of nothing": (lambda: PrometheusLogger(9100, job=""), "job must be a printable text"),
    "no StatsD port": (lambda: StatsDLogger("localhost"), "address must be a host and a port"),
    "a StatsD URL": (lambda: StatsDLogger("udp://localhost:8125"), "address must be a host and a port"),
    "a StatsD number": (lambda: StatsDLogger(8125), "address must be a host and a port"),
    "a prefix": (lambda: StatsDLogger("h:1", prefix="a b"), "prefix must consist of"),
    "tags": (lambda: StatsDLogger("h:1", tags="datadog"), 'tags must be "dogstatsd" or None'),
    "a run without tags": (lambda: StatsDLogger("h:1", run="a"), "run= has no effect without tags"),
    "a misspelt argument": (lambda: PrometheusLogger(prot=9100), "prot"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_is_refused_with_a_hint(kind):
    make, said = REFUSED[kind]
    with pytest.raises(ConfigError) as caught:
        make()
    assert said in str(caught.value)
    assert "Hint: " in str(caught.value)
    assert "secret-word" not in str(caught.value)


def test_an_address_of_another_machine_is_refused_before_training(train):
    with pytest.raises(ConfigError, match=r"cannot listen on 192\.0\.2\.1:9100"):  # of documentation, nobody's
        train("reference", PrometheusLogger(9100, host="192.0.2.1"))


def test_ipv6_is_listened_on(train):
    tracker, seen = PrometheusLogger(0, host="::1"), []
    train("reference", tracker, at_end=lambda run: seen.append(tracker.url))
    assert seen[0].startswith("http://[::1]:")


@pytest.mark.parametrize(
    "make", [lambda url: PrometheusLogger(pushgateway=url), OTLPLogger], ids=["pushgateway", "otlp"]
)
def test_a_password_is_sent_and_never_told(train, make, capfd):
    seen = []
    with answering(200, seen) as address:
        tracker = make(f"http://user:secret-word@{address}")
        train("reference", tracker)
    assert seen[-1][2]["Authorization"] == "Basic dXNlcjpzZWNyZXQtd29yZA=="
    dead = make(f"http://user:secret-word@127.0.0.1:{free_port()}")
    with pytest.warns(UserWarning, match="could not send") as caught:
        train("reference", dead)
    told = [
        *(str(one.message) for one in caught),
        repr(dead),
        dead.destination,
        *capfd.readouterr(),
        str(vars(dead)["_" + ("collector" if make is OTLPLogger else "gateway")]),
    ]
    assert not [one for one in told if "secret-word" in one]


@pytest.mark.parametrize(
    ("name", "package"),
    [("prometheus_client", "prometheus-client"), ("opentelemetry.proto.collector.metrics.v1", "opentelemetry-proto")],
)
def test_a_missing_package_is_named(monkeypatch, name, package):
    monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, f"{name}.metrics_service_pb2", raising=False)
    make = PrometheusLogger if package.startswith("prometheus") else (lambda port: OTLPLogger("http://h"))
    with pytest.raises(BackendNotInstalledError, match=rf"(?s)needs the package {package}.*\[monitoring\]"):
        make(9100)
