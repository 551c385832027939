"""What is posted to a collector is what OpenTelemetry's own messages say."""

from __future__ import annotations

import math

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from tests.monitoring_servers import answering
from unitrain import OTLPLogger, __version__


def decoded(body):
    """Return the resource, the scope, and the points by name: value and attributes."""
    request = ExportMetricsServiceRequest.FromString(body)
    (resource,) = request.resource_metrics
    (scope,) = resource.scope_metrics
    points = {}
    for metric in scope.metrics:
        assert metric.WhichOneof("data") == "gauge"
        (point,) = metric.gauge.data_points
        assert point.time_unix_nano > 1.7e18
        points[metric.name] = (point.as_double, {one.key: one.value.string_value for one in point.attributes})
    return {one.key: one.value.string_value for one in resource.resource.attributes}, scope.scope, points


def test_a_collector_gets_the_run(train, framework):
    seen = []
    with answering(200, seen) as address:
        tracker = OTLPLogger(f"http://{address}", job="digits", run="one")
        train(framework, tracker)
    method, path, headers, body = seen[-1]
    assert (method, path, headers["Content-Type"]) == ("POST", "/v1/metrics", "application/x-protobuf")
    resource, scope, points = decoded(body)
    assert resource == {"service.name": "digits"}
    assert (scope.name, scope.version) == ("unitrain", __version__)
    assert points.pop("unitrain.last_step_timestamp_seconds")[0] > 1.7e9
    expected = {
        f"unitrain.{name.replace('/', '.')}": (value, {"run": "one", "stage": name.split("/")[0]})
        for name, value in train.result.metrics.items()
    }
    train_stage = {"run": "one", "stage": "train"}
    assert points == {**expected, "unitrain.step": (12, train_stage), "unitrain.epoch": (1, train_stage)}


def test_values_that_are_not_finite_are_sent_as_they_are():
    tracker = OTLPLogger("http://127.0.0.1:4318")
    tracker._name(values := {"nan": math.nan, "inf": math.inf, "negative": -1.5})
    tracker._values.update(values)
    points = decoded(tracker.encoded(tracker.report()))[2]
    assert math.isnan(points["unitrain.nan"][0])
    assert points["unitrain.inf"] == (math.inf, {"run": tracker.run})
    assert points["unitrain.negative"][0] == -1.5


def test_the_path_is_added_once():
    for given in ("http://h:4318", "http://h:4318/", "http://h:4318/v1/metrics"):
        assert OTLPLogger(given).destination == "http://h:4318/v1/metrics"
    assert OTLPLogger("https://h/prefix").destination == "https://h/prefix/v1/metrics"


def test_headers_come_from_the_variable_and_the_url(train, monkeypatch):
    seen = []
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "api-key=a%20secret, x=1")
    with answering(200, seen) as address:
        train("reference", OTLPLogger(f"http://user:pass%40word@{address}"))
    headers = seen[-1][2]
    assert headers["Api-Key"] == "a secret"
    assert headers["X"] == "1"
    assert headers["Authorization"] == "Basic dXNlcjpwYXNzQHdvcmQ="


@pytest.mark.parametrize("status", [400, 429, 500, 503])
def test_an_error_is_told_by_its_status(train, status):
    with answering(status) as address, pytest.warns(UserWarning, match=f"HTTP status {status}"):
        assert train("reference", OTLPLogger(f"http://{address}")).state.step == 12
