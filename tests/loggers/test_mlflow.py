"""A real MLflow server with an SQLite store, started here and read back through its REST API."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request

import pytest
import torch

from tests.backends import one_quickly
from tests.servers import answers
from unitrain import BackendNotInstalledError, Callback, MLflowLogger, UnifiedTrainer
from unitrain.loggers import outlet
from unitrain.testing import cases
from unitrain.testing.models import loader

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
        return answers(f"{self.uri}/health", timeout=2)

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


@pytest.mark.parametrize("framework", one_quickly("ignite"))  # the server takes seconds to come back
def test_server_that_goes_down_and_comes_back_loses_nothing(framework, fit, server, monkeypatch):
    monkeypatch.setattr(outlet, "_FIRST_PAUSE", 0.0)
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


BROKEN_OFF = """
import os, sys
import torch
from unitrain import Event, MLflowLogger, UnifiedTrainer
from unitrain.testing import cases
from unitrain.testing.models import loader

framework, uri, path = sys.argv[1:]
torch.set_num_threads(1)
torch.manual_seed(0)
logger = MLflowLogger("again", tracking_uri=uri)
options = {"max_epochs": 2, "seed": 3, "enable_progress_bar": False, "log_every_n_steps": 1}
trainer = UnifiedTrainer(framework, loggers=[logger], **options)
trainer.on(Event.BATCH_END(once=4), lambda run: run.save_checkpoint(path))


@trainer.on(Event.EPOCH_START(once=2))
def die():
    print(logger.run_id, flush=True)
    os._exit(9)


trainer.fit(cases.spec("mlp", "sgd", "step"), loader(), loader(samples=6))
"""


def broken_off(framework, server, folder):
    """Train in a process that dies behind its checkpoint; return the run's id and the checkpoint."""
    path = folder / "saved.ckpt"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "MLFLOW_DISABLE_TELEMETRY": "true"}
    command = [sys.executable, "-W", "ignore", "-c", BROKEN_OFF, framework, server.uri, str(path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 9, done.stderr
    return done.stdout.split()[-1], path


def go_on(framework, path, *loggers):
    torch.manual_seed(0)
    options = {"max_epochs": 2, "seed": 3, "enable_progress_bar": False, "log_every_n_steps": 1}
    trainer = UnifiedTrainer(framework, loggers=loggers, **options)
    return trainer.fit(cases.spec("mlp", "sgd", "step"), loader(), loader(samples=6), ckpt_path=path)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("lightning", "ignite"),
        pytest.param("ignite", "reference", marks=pytest.mark.slow),
        pytest.param("reference", "lightning", marks=pytest.mark.slow),
    ],
)
def test_fit_that_is_resumed_in_a_new_process_goes_on_in_its_run(before, after, server, tmp_path):
    run_id, path = broken_off(before, server, tmp_path)
    assert server.get("runs/get", run_id=run_id)["run"]["info"]["status"] == "RUNNING"
    logger, rows = MLflowLogger("again", tracking_uri=server.uri), Rows()
    go_on(after, path, logger, rows)
    assert logger.run_id == run_id
    history = server.history(run_id, "train/loss")
    # the process that died had logged steps 5 and 6, and the epoch, beyond its checkpoint: the same values again
    assert [step for step, _ in history] == [1, 2, 3, 4, 5, 5, 6, 6, 6, 6, 7, 8, 9, 10, 11, 12, 12]
    assert {*rows.history("train/loss")} == {one for one in history if one[0] >= 5}
    assert server.get("runs/get", run_id=run_id)["run"]["info"]["status"] == "FINISHED"


@pytest.mark.slow
def test_run_of_the_checkpoint_is_left_alone_where_it_is_not_meant(server, tmp_path):
    """The user's own run_id stands above it; another experiment has other runs; and a deleted run is gone."""
    from mlflow import MlflowClient

    run_id, path = broken_off("reference", server, tmp_path)
    named = MLflowLogger("again", tracking_uri=server.uri)
    named.log_metrics({"epoch": 0}, 0)
    logger = MLflowLogger("again", tracking_uri=server.uri, run_id=named.run_id)
    go_on("reference", path, logger)
    assert logger.run_id == named.run_id != run_id
    assert [step for step, _ in server.history(named.run_id, "val/loss")] == [6, 12]
    assert server.history(run_id, "val/loss")[-1][0] == 6
    other = MLflowLogger("elsewhere", tracking_uri=server.uri)
    go_on("reference", path, other)
    assert other.run_id != run_id
    assert server.get("runs/get", run_id=run_id)["run"]["info"]["status"] == "RUNNING"
    MlflowClient(server.uri).delete_run(run_id)
    again = MLflowLogger("again", tracking_uri=server.uri)
    with pytest.warns(UserWarning, match=f"MLflow run {run_id} does not exist"):
        go_on("reference", path, again)
    assert again.run_id != run_id
    assert server.history(again.run_id, "val/loss")[-1][0] == 12


def test_test_after_a_fit_is_in_the_run_of_the_fit(framework, fit, server):
    logger = MLflowLogger("tested", tracking_uri=server.uri)
    trainer = fit(framework, logger)
    run_id = logger.run_id
    result = trainer.test(cases.spec(), loader())
    assert logger.run_id == run_id
    assert server.history(run_id, "test/loss") == [(12, result["test/loss"])]
    assert server.get("runs/get", run_id=run_id)["run"]["info"]["status"] == "FINISHED"


def test_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(BackendNotInstalledError, match=r"pip install 'pytorch-unitrain\[mlflow\]'"):
        MLflowLogger()


def test_names_that_mlflow_does_not_take_are_stored_under_those_of_the_table(framework, fit, server):
    def spec():
        return cases.spec("mlp", "sgd", "step", hparams={"k@5": 1, "lr": 0.1}, callbacks=[Odd()])

    class Odd(Callback):
        def on_epoch_end(self, run):
            run.log("acc@5", 0.5)

    logger = MLflowLogger(tracking_uri=server.uri)
    with pytest.warns(UserWarning, match="MLflow does not allow the name '(k@5|train/acc@5)'"):
        fit(framework, logger, spec=spec)
    run = server.get("runs/get", run_id=logger.run_id)["run"]["data"]
    assert {"train/acc_at_5", "train/loss", "epoch"} <= {one["key"] for one in run["metrics"]}
    assert {one["key"]: one["value"] for one in run["params"]} == {"k_at_5": "1", "lr": "0.1"}
