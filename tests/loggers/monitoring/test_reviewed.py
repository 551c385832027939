"""Faults that a review has found: runs that touch others, secrets in messages, ports and threads that remain."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import pytorch_lightning as pl
import torch
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceResponse

from tests.monitoring_servers import answering, eventually
from tests.servers import free_port
from unitrain import ConfigError, MetricsClient, OTLPLogger, PrometheusLogger, StatsDLogger, UnifiedTrainer, tune
from unitrain.loggers import reporter
from unitrain.utilities.signature import shown

HEADERS = "OTEL_EXPORTER_OTLP_HEADERS"
QUIET = {"enable_progress_bar": False}


def test_the_thread_of_an_old_run_touches_no_other(monkeypatch):
    """The end of the first run does not wait long enough; its thread deletes only its own group, later."""
    monkeypatch.setattr(reporter, "_PATIENCE", 0.01)
    tracker, done, release = PrometheusLogger(pushgateway="http://127.0.0.1:9"), [], threading.Event()

    def slow(kind, report):
        release.wait(30)
        done.append((kind, report.run, dict(report.values)))

    monkeypatch.setattr(tracker, "deliver", lambda report: slow("deliver", report))
    monkeypatch.setattr(tracker, "end", lambda report: slow("end", report))
    tracker.begin(0)
    first = tracker.run
    tracker.log_metrics({"one": 1.0}, 1)
    with pytest.warns(UserWarning, match="does not answer"):
        tracker.finalize("success")
    tracker.begin(0)
    second = tracker.run
    tracker.log_metrics({"two": 2.0}, 1)
    release.set()
    eventually(lambda: ("deliver", second, {"two": 2.0}) in done and len(done) == 3)
    tracker.finalize("failed")
    assert first != second
    assert [one for one in done if one[1] == first] == [("deliver", first, {"one": 1.0}), ("end", first, {"one": 1.0})]
    assert [one for one in done if one[1] == second] == [("deliver", second, {"two": 2.0})]


def test_an_evaluation_keeps_the_group_of_a_failed_run(monkeypatch):
    tracker, ended = PrometheusLogger(pushgateway="http://127.0.0.1:9"), []
    monkeypatch.setattr(tracker, "deliver", lambda report: None)
    monkeypatch.setattr(tracker, "end", lambda report: ended.append(report.run))
    for status, expected in (("failed", 0), ("success", 1)):
        tracker.begin(0)
        for end in (status, "success"):  # a fit, then an evaluation
            tracker.log_metrics({"one": 1.0}, 1)
            tracker.finalize(end)
        assert len(ended) == expected * 2


def test_a_run_resumed_before_its_first_row_keeps_its_name():
    tracker = StatsDLogger("127.0.0.1:9")
    tracker.load_run_state({"run": "mine"})
    tracker.begin(0)
    assert tracker.run == "mine"
    tracker.begin(0)
    assert tracker.run != "mine"
    tracker.finalize("success")


@pytest.mark.parametrize(
    "given", ["key=se\u20accret", "key=se%0Acret", "key=se%0D%0Acret", "a%20key=secret", "k\u20acey=secret"]
)
def test_a_header_that_cannot_be_sent_is_refused_without_its_value(train, monkeypatch, given):
    monkeypatch.setenv(HEADERS, given)
    with pytest.raises(ConfigError, match=HEADERS) as caught:
        train("reference", OTLPLogger("http://127.0.0.1:9"))
    assert "cret" not in str(caught.value)


@pytest.mark.parametrize("password", ["p@ss", "a@b@c", "x" * 200, "p'q", 'p"q'])
def test_no_part_of_a_password_is_shown(password):
    url = f"http://user:{password}@host:9091"
    for one in (url, [url], {"a": url}, ValueError(url)):
        assert "host" in shown(one)
        assert not [part for part in (password[:2], password[-2:], "user") if part in shown(one)]
    for refused in (lambda: OTLPLogger("http://u:12/secret@h:1"), lambda: StatsDLogger("http://u:secret@h:8125")):
        with pytest.raises(ConfigError) as caught:
            refused()
        assert "secret" not in str(caught.value)


class _Answer(BaseHTTPRequestHandler):
    status, headers_sent, body = 200, {}, b""

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(self.status)
        for name, value in {**self.headers_sent, "Content-Length": str(len(self.body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(self.body)

    def log_message(self, *_):
        pass


def _post_to(handler):
    """Deliver one report to a server; return the tracker and what was raised."""
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        tracker = OTLPLogger(f"http://user:word@127.0.0.1:{server.server_address[1]}")
        try:
            tracker.deliver(tracker.report())
        except OSError as error:
            return tracker, str(error)
        finally:
            server.shutdown()
            thread.join()
    return tracker, None


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_an_error_and_not_followed(status):
    seen = []
    with answering(200, seen) as other:
        kind = type("Redirects", (_Answer,), {"status": status, "headers_sent": {"Location": f"http://{other}/"}})
        assert _post_to(kind)[1] == f"HTTP status {status}"
    assert seen == []


def test_values_that_a_collector_rejects_are_counted_and_told_of():
    answer = ExportMetricsServiceResponse()
    answer.partial_success.rejected_data_points = 3
    tracker, error = _post_to(type("Rejects", (_Answer,), {"body": answer.SerializeToString()}))
    assert (error, tracker.rejected) == (None, 3)
    with pytest.warns(UserWarning, match="rejected 3 values"):
        tracker.finalize("success")
    assert _post_to(type("Odd", (_Answer,), {"body": b"\xff no protobuf"}))[0].rejected == 0


@pytest.mark.parametrize("wrap", [lambda one: one, MetricsClient], ids=["plain", "behind a client"])
def test_a_refused_run_leaves_no_port_open(train, framework, wrap):
    port = free_port()
    first, second = PrometheusLogger(port), PrometheusLogger(port)
    with pytest.raises(ConfigError, match="cannot listen"):
        train(framework, wrap(first), wrap(second))
    assert first.url is second.url is None
    assert train(framework, wrap(first)).state.step == 12


def test_a_logger_given_twice_is_refused():
    one = PrometheusLogger(port=0)
    for loggers in ([one, one], [one, MetricsClient(one)], [MetricsClient(one), MetricsClient(one, 2)]):
        with pytest.raises(ConfigError, match="the same PrometheusLogger twice"):
            UnifiedTrainer("reference", loggers=loggers)


def test_begin_ends_a_thread_that_still_runs():
    tracker = StatsDLogger("127.0.0.1:9")
    tracker.begin(0)
    old = tracker._sender._thread
    tracker.begin(0)
    assert not old.is_alive()
    tracker.finalize("success")


def test_a_user_s_tracker_may_have_methods_of_these_names(train, framework):
    class Own:
        follow = False

        def __init__(self):
            self.rows = 0

        def log_metrics(self, metrics, step):
            self.rows += 1

        def log_batch(self, batch):
            raise AssertionError

        def before_run(self, needed):
            raise AssertionError

    own = Own()
    train(framework, own)
    assert own.rows > 12


def test_an_async_client_is_refused():
    class Client:
        async def push_metrics(self, metrics): ...

    for make in (MetricsClient, lambda one: UnifiedTrainer("reference", loggers=[one])):
        with pytest.raises(ConfigError, match="async"):
            make(Client())


def test_counts_are_of_values_and_visible_during_the_run(monkeypatch):
    monkeypatch.setattr(reporter, "INTERVAL", 0.01)
    statsd = StatsDLogger("127.0.0.1:9")
    statsd.begin(0)
    statsd.log_metrics({"x": float("nan"), "y": 1.0}, 1)
    for _ in range(5):
        list(statsd._lines(statsd.report()))
    assert statsd.left_out == 1
    statsd._connection = None
    otlp = OTLPLogger("http://127.0.0.1:9")
    otlp.begin(0)
    otlp.log_metrics({"x": 1.0}, 1)
    eventually(lambda: otlp.failures)
    for one in (statsd, otlp):
        with pytest.warns(UserWarning, match=r"."):
            one.finalize("failed")
    assert otlp.failures > 0


def test_a_url_as_port_is_refused_with_the_right_argument():
    with pytest.raises(ConfigError, match=r"(?s)got a URL.*pushgateway=") as caught:
        PrometheusLogger("http://user:secret@127.0.0.1:9091")
    assert "secret" not in str(caught.value)


class _Module(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.net, self.tracker, self.seen = torch.nn.Linear(4, 3), None, []

    def training_step(self, batch, batch_idx):
        report = self.tracker.report()
        self.seen.append((report.step, report.epoch))
        return torch.nn.functional.cross_entropy(self.net(batch[0]), batch[1])

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


@pytest.mark.filterwarnings("ignore:Checkpoint directory")  # of the first fit
@pytest.mark.parametrize("wrap", [lambda one: one, MetricsClient], ids=["plain", "behind a client"])
def test_the_step_of_a_lightning_module_is_followed_and_each_fit_is_a_run(framework, wrap, tmp_path):
    module, tracker = _Module(), PrometheusLogger(port=0)
    module.tracker = tracker
    data = torch.utils.data.TensorDataset(torch.randn(24, 4), torch.arange(24) % 3)
    options = {"max_epochs": 2, "log_every_n_steps": 3, **QUIET, "default_root_dir": tmp_path}
    trainer = UnifiedTrainer(framework, loggers=[wrap(tracker)], **options)
    trainer.fit(module, torch.utils.data.DataLoader(data, 8))
    assert module.seen == [(0, 0), (1, 0), (2, 0), (3, 1), (4, 1), (5, 1)]
    first = tracker.run
    trainer.fit(module, torch.utils.data.DataLoader(data, 8))
    assert tracker.run != first


def test_a_study_takes_a_client_as_it_is(new_spec, batches, tmp_path):
    class Client:
        def push_metrics(self, metrics):
            pushed.append(metrics)

    pushed = []
    tune(
        lambda trial: new_spec(),
        batches,
        batches,
        n_trials=1,
        trainer={"max_epochs": 1, "loggers": [Client()], **QUIET},
        monitor="val/acc",
        direction="maximize",
        framework="reference",
        storage=f"journal:///{tmp_path / 'study.log'}",
        study_name="clients",
        dirpath=tmp_path / "runs",
    )
    assert len(pushed) == 6
