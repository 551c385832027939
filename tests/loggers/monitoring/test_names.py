"""Any name of a value is reported, under a name that the server takes, and none hides another."""

from __future__ import annotations

import math
import re
import warnings

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from prometheus_client import generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families

from unitrain import OTLPLogger, PrometheusLogger, StatsDLogger

NAMES = st.dictionaries(
    st.text(st.characters(), min_size=1, max_size=30), st.floats(allow_nan=True, allow_infinity=True), max_size=8
)
# the first draw builds Hypothesis's table of all characters, which takes seconds on a busy machine
ANY_SPEED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
ODD = {"train/f1 (macro)": 1.0, "train/f1 [macro]": 2.0, "train/f1__macro_": 3.0, "step": 4.0, "µ": 5.0, "ä": 6.0}


def filled(tracker, values):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # names that collide
        tracker._name(values)
    tracker._values.update(values)
    return tracker


def equal(found, values):
    key = sorted(map(repr, values.values()))
    return sorted(map(repr, found)) == key


@ANY_SPEED
@given(NAMES)
def test_prometheus_s_own_parsers_read_each_value_back(values):
    tracker = filled(PrometheusLogger(port=0, run='a "quoted" \\ run'), values)
    expected = {name: value for name, value in values.items() if name != "epoch"}
    for written, read in ((generate_latest, text_string_to_metric_families), (openmetrics, read_openmetrics)):
        families = list(read(written(tracker.registry()).decode()))
        samples = [sample for family in families for sample in family.samples]
        assert len({sample.name for sample in samples}) == len(samples) == len(expected) + 3
        assert all(re.fullmatch(r"[a-zA-Z_:][a-zA-Z0-9_:]*", sample.name) for sample in samples)
        assert all(sample.labels["run"] == 'a "quoted" \\ run' for sample in samples)
        by_name = {sample.name: sample.value for sample in samples}
        for name, value in expected.items():
            found = by_name[f"unitrain_{tracker.report().stored_as(name)}"]
            assert found == value or (math.isnan(found) and math.isnan(value))


@ANY_SPEED
@given(NAMES)
def test_opentelemetry_s_own_messages_have_each_value(values):
    tracker = filled(OTLPLogger("http://127.0.0.1:4318"), values)
    request = ExportMetricsServiceRequest.FromString(tracker.encoded(tracker.report()))
    metrics = request.resource_metrics[0].scope_metrics[0].metrics
    names = [metric.name for metric in metrics]
    assert len({*names}) == len(names)
    assert all(re.fullmatch(r"[A-Za-z][A-Za-z0-9_.\-/]{0,254}", name) for name in names)
    expected = [value for name, value in values.items() if name != "epoch"]
    assert equal([metric.gauge.data_points[0].as_double for metric in metrics][3:], dict(enumerate(expected)))


@ANY_SPEED
@given(NAMES)
def test_statsd_lines_hold_each_finite_value(values):
    tracker = filled(StatsDLogger("127.0.0.1:8125"), values)
    lines = "\n".join(tracker._lines(tracker.report())).split("\n")
    parsed = {}
    for line in lines:
        match = re.fullmatch(r"([a-zA-Z0-9_.-]+):(\S+)\|g", line)
        assert match, line
        parsed[match[1]] = float(match[2])  # the last of a name counts
    finite = {name: value for name, value in values.items() if math.isfinite(value) and name != "epoch"}
    assert {name: parsed[f"unitrain.{tracker.report().stored_as(name)}"] for name in finite} == finite
    assert len(parsed) == len(finite) + 3 + (tracker.left_out > 0)


MAKE = {
    "prometheus": lambda: PrometheusLogger(port=0),
    "otlp": lambda: OTLPLogger("http://h"),
    "statsd": lambda: StatsDLogger("h:1"),
}


@pytest.mark.parametrize("kind", MAKE)
def test_a_collision_is_told_once_and_hides_nothing(kind):
    tracker = MAKE[kind]()
    with pytest.warns(UserWarning, match="the plain name is taken") as caught:
        tracker._name(ODD)
    assert len(caught) == 4  # the second and third f1, the step, and one of the two letters
    stored = [tracker.report().stored_as(name) for name in ODD]
    assert len({*stored, "step", "epoch", "last_step_timestamp_seconds"}) == len(ODD) + 3
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tracker._name(ODD)
    assert [tracker.report().stored_as(name) for name in ODD] == stored


def test_a_value_that_is_no_number_is_refused_and_the_rest_is_sent(train):
    tracker = PrometheusLogger(port=0)
    found = {}

    def log(run):
        run.hub.trackers.log_metrics({"a": 1.0, "word": "two"})
        found.update(tracker.report().values)

    with pytest.warns(UserWarning, match="refused the value 'word'"):
        train("reference", tracker, at_end=log)
    assert found["a"] == 1.0
    assert "word" not in found
