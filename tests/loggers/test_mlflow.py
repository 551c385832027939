"""A real MLflow server with an SQLite store, started here and read back through its REST API."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest

from unitrain import BackendNotInstalledError, Callback, MLflowLogger
from unitrain.loggers import dispatch
from unitrain.testing import cases

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning"
)


class Server:
    """An MLflow server in a process group of its own, so that all of it can be ended."""

    def __init__(self, folder):
        self.folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.uri = f"http://127.0.0.1:{self.port}"
        self.process = None

    def start(self):
        command = [
            sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port), "--workers", "1",
            "--backend-store-uri", f"sqlite:///{self.folder}/store.db", "--default-artifact-root", f"{self.folder}/files",
        ]  # fmt: skip
        environment = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=log, start_new_session=True, env=environment, cwd=self.folder
            )
        deadline = time.monotonic() + 120
        while not self.answers():
            assert self.process.poll() is None, (self.folder / "log").read_text()
            assert time.monotonic() < deadline, (self.folder / "log").read_text()
            time.sleep(0.1)

    def answers(self):
        try:
            with urllib.request.urlopen(f"{self.uri}/health", timeout=2) as answer:
                return answer.status == 200
        except OSError:
            return False

    def stop(self):
        """End the whole group, and wait until no process of it is left."""
        if self.process is None:
            return
        group = self.process.pid
        os.killpg(group, signal.SIGKILL)
        self.process.wait(30)
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            try:
                os.killpg(group, 0)
            except ProcessLookupError:
                break
            time.sleep(0.05)
        else:
            raise AssertionError("a process of the server is left")
        self.process = None

    def get(self, path, **query):
        arguments = "&".join(f"{name}={value}" for name, value in query.items())
        with urllib.request.urlopen(f"{self.uri}/api/2.0/mlflow/{path}?{arguments}", timeout=20) as answer:
            return json.load(answer)

    def history(self, run_id, name):
        found = self.get("metrics/get-history", run_id=run_id, metric_key=name.replace("/", "%2F"))
        return sorted((int(one.get("step", 0)), float(one["value"])) for one in found.get("metrics", []))


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("mlflow"))
    try:
        server.start()
        yield server
    finally:
        server.stop()


class Rows:
    def __init__(self):
        self.rows = []

    def log_metrics(self, metrics, step):
        self.rows.append((step, metrics))

    def history(self, name):
        return sorted((step, row[name]) for step, row in self.rows if name in row)

    @property
    def names(self):
        return {name for _, row in self.rows for name in row}


def assert_all_arrived(server, logger, rows):
    run = server.get("runs/get", run_id=logger.run_id)["run"]
    assert {one["key"] for one in run["data"]["metrics"]} == rows.names
    for name in rows.names:
        assert server.history(logger.run_id, name) == rows.history(name), name
    return run


def test_server_has_what_was_logged(framework, fit, server):
    logger, rows = MLflowLogger("first", tracking_uri=server.uri, run_name=framework), Rows()
    hparams = {"lr": 0.1, "net": {"width": 8}, **{f"p{number}": number for number in range(150)}}
    fit(framework, logger, rows, spec=lambda: cases.spec(hparams=hparams))
    run = assert_all_arrived(server, logger, rows)
    params = {one["key"]: one["value"] for one in run["data"]["params"]}
    assert len(params) == 152
    assert (params["lr"], params["net/width"]) == ("0.1", "8")
    assert (run["info"]["status"], run["info"]["run_name"]) == ("FINISHED", framework)


def test_server_that_goes_down_and_comes_back_loses_nothing(framework, fit, server, monkeypatch):
    monkeypatch.setattr(dispatch, "_FIRST_PAUSE", 0.0)
    logger, rows = MLflowLogger("second", tracking_uri=server.uri), Rows()

    class Outage(Callback):
        def on_batch_start(self, run):
            if run.state.batch == 4:
                server.stop()
            if run.state.batch == 9:
                server.start()

    with pytest.warns(UserWarning, match="the tracker MLflowLogger failed"):
        fit(framework, logger, rows, spec=lambda: cases.spec(callbacks=[Outage()]), log_every_n_steps=1)
    assert len(rows.rows) == 14
    assert assert_all_arrived(server, logger, rows)["info"]["status"] == "FINISHED"


def test_server_that_is_never_there_costs_its_rows_and_a_warning(fit):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    logger = MLflowLogger("third", tracking_uri=f"http://127.0.0.1:{port}")
    started = time.monotonic()
    with pytest.warns(UserWarning, match="MLflowLogger failed") as caught:
        trainer = fit("reference", logger)
    assert trainer.state.step == 12
    assert str(caught[-1].message).endswith("8 rows were lost.")
    assert time.monotonic() - started < 30


def test_broken_run_is_marked_as_failed(fit, server):
    logger = MLflowLogger("fourth", tracking_uri=server.uri)

    class Break(Callback):
        def on_epoch_end(self, run):
            raise RuntimeError("on purpose")

    with pytest.raises(RuntimeError, match="on purpose"):
        fit("reference", logger, spec=lambda: cases.spec(callbacks=[Break()]))
    assert server.get("runs/get", run_id=logger.run_id)["run"]["info"]["status"] == "FAILED"


def test_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(BackendNotInstalledError, match=r"pip install 'pytorch-unitrain\[mlflow\]'"):
        MLflowLogger()
