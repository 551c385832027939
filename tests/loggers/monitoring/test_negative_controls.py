"""Without the mechanism, what it prevents happens: the tests beside this one can fail."""

from __future__ import annotations

import threading
import time

import pytest

from tests.monitoring_servers import eventually, get, hanging, running_collectd, running_pushgateway
from unitrain import MetricsClient, OTLPLogger, PrometheusLogger, StatsDLogger
from unitrain.loggers import batches as batch_values
from unitrain.loggers import otlp, reporter, statsd


def reported(tracker, value, status="success"):
    tracker.begin(0)
    tracker.log_metrics({"train/reward": value}, 1)
    tracker.finalize(status)


def test_without_the_zero_a_negative_value_is_a_decrement(tmp_path, monkeypatch):
    monkeypatch.setattr(statsd.math, "copysign", lambda *_: 1.0)  # no value is negative
    with running_collectd(tmp_path) as server:
        for value in (-1.5, -2.5):
            reported(StatsDLogger(server.address), value)
        eventually(lambda: server.gauges().get("unitrain.train.reward") == -4.0)


def test_without_the_run_in_the_group_one_run_removes_another(tmp_path, monkeypatch):
    group = PrometheusLogger._group
    with running_pushgateway(tmp_path) as gateway:
        reported(PrometheusLogger(pushgateway=gateway, run="dead"), 1.0, "failed")
        reported(PrometheusLogger(pushgateway=gateway, run="other"), 2.0)
        assert 'run="dead"' in get(f"{gateway}/metrics")
        monkeypatch.setattr(PrometheusLogger, "_group", lambda *given: {**group(*given), "grouping_key": {}})
        reported(PrometheusLogger(pushgateway=gateway, run="second"), 1.0, "failed")
        reported(PrometheusLogger(pushgateway=gateway, run="other"), 2.0)
        assert 'run="second"' not in get(f"{gateway}/metrics")


def test_without_suffixes_one_value_hides_another(monkeypatch):
    tracker = OTLPLogger("http://h")
    monkeypatch.setattr(reporter.Report, "stored_as", lambda _, name: tracker.accepted(name))
    with pytest.warns(UserWarning, match="the plain name is taken"):
        tracker._name(values := {"a b": 1.0, "a_b": 2.0})
    tracker._values.update(values)
    assert tracker.encoded(tracker.report()).count(b"unitrain.a_b") == 2


def test_read_at_the_end_of_a_batch_the_rate_is_the_next_one_s(train, monkeypatch):
    class Client:
        def __init__(self):
            self.rates = []

        def push_metrics(self, metrics):
            self.rates.append(metrics["learning_rate"])

    def late(self, run):
        self._rate = self._optimizer.param_groups[0]["lr"]
        return values(self, run)

    right, wrong, values = Client(), Client(), batch_values.BatchValues._values
    train("reference", right)
    monkeypatch.setattr(batch_values.BatchValues, "_values", late)
    train("reference", wrong)
    assert right.rates[:4] == [0.1, 0.1, 0.1 * 0.1, 0.1 * 0.1]
    assert wrong.rates[:3] == right.rates[1:4]


@pytest.mark.parametrize("pushing", [True, False], ids=["by the loop", "by a thread"])
def test_without_the_thread_a_server_that_hangs_holds_up_the_loop(monkeypatch, pushing):
    monkeypatch.setattr(otlp, "TIMEOUT", 0.3)
    with hanging() as address:
        tracker = OTLPLogger(f"http://{address}")
        tracker.begin(0)
        began = time.monotonic()
        for step in range(3):
            tracker.log_metrics({"train/loss": 1.0}, step)
            if pushing:
                with pytest.raises(OSError, match="timed out"):
                    tracker.deliver(tracker.report())
        assert (time.monotonic() - began > 0.8) == pushing
        with pytest.warns(UserWarning, match="could not send"):
            tracker.finalize("success")


def test_without_the_thread_a_client_is_called_by_the_loop(train, monkeypatch):
    class Client:
        def push_metrics(self, metrics):
            callers.add(threading.current_thread() is threading.main_thread())

    def by_the_loop(self, values, step):
        self.target.push_metrics(values)

    callers = set()
    train("reference", Client())
    assert callers == {False}
    callers.clear()
    monkeypatch.setattr(MetricsClient, "log_batch", by_the_loop)
    train("reference", Client())
    assert callers == {True}
