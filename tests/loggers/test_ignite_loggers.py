"""Loggers of ignite.handlers as trackers, on every backend: the names and steps of unitrain's own."""

from __future__ import annotations

import csv
import math

import pytest
from ignite.engine import Events
from ignite.handlers import ProgressBar
from ignite.handlers.base_logger import BaseLogger, BaseOutputHandler
from ignite.handlers.mlflow_logger import MLflowLogger
from ignite.handlers.tensorboard_logger import TensorboardLogger

from unitrain import Callback, ConfigError, CSVLogger, LRMonitor, UnifiedTrainer
from unitrain.testing import cases
from unitrain.testing.models import loader

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning:tensorboard", "ignore::DeprecationWarning:google", "ignore::FutureWarning"
)

HPARAMS = {"lr": 0.1, "net": {"width": 8}}


class Bare(Callback):
    """Logs a value whose name has two slashes."""

    def on_epoch_end(self, run):
        run.log("deep/down/here", run.state.epoch / 3)


def spec():
    return cases.spec(hparams=HPARAMS, callbacks=[LRMonitor(), Bare()])


def by_name(path):
    """Return (step, value) by column of a CSV file."""
    found = {}
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            step = int(row.pop("step"))
            for name, value in row.items():
                if value:
                    found.setdefault(name, []).append((step, float(value)))
    return found


def test_tensorboard_holds_the_rows_of_the_csv_file(framework, fit, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    rows = CSVLogger(tmp_path / "csv")
    with TensorboardLogger(log_dir=str(tmp_path / "events")) as logger:
        trainer = fit(framework, logger, rows, spec=spec)
        trainer.test(spec(), loader())
    read = EventAccumulator(str(tmp_path / "events"))
    read.Reload()
    expected = by_name(rows.path)
    assert {"epoch", "lr/optimizer", "deep/down/here", "train/loss", "val/acc", "test/loss"} <= set(expected)
    assert set(read.Tags()["scalars"]) == set(expected)
    for name, values in expected.items():
        got = [(event.step, event.value) for event in read.Scalars(name)]
        assert [step for step, _ in got] == [step for step, _ in values], name
        # event files hold float32
        assert all(math.isclose(a, b, rel_tol=1e-6) for (_, a), (_, b) in zip(got, values, strict=True)), name
    text = b"".join(path.read_bytes() for path in (tmp_path / "events").glob("events.*"))
    assert b"net/width" in text


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_mlflow_holds_the_rows_of_the_csv_file(framework, fit, tmp_path, monkeypatch):
    import mlflow

    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    rows = CSVLogger(tmp_path / "csv")
    before = mlflow.get_tracking_uri()
    try:
        with MLflowLogger(f"sqlite:///{tmp_path}/store.db") as logger:
            fit(framework, logger, rows, spec=spec)
            run_id = logger.active_run.info.run_id
        client = mlflow.MlflowClient(f"sqlite:///{tmp_path}/store.db")
        run = client.get_run(run_id)
        expected = by_name(rows.path)
        assert set(run.data.metrics) == set(expected)
        for name, values in expected.items():
            history = client.get_metric_history(run_id, name)
            assert sorted((one.step, one.value) for one in history) == sorted(values), name
        assert run.data.params == {"lr": "0.1", "net/width": "8"}
        assert run.info.status == "FINISHED"
    finally:
        mlflow.set_tracking_uri(before)


class Own(BaseLogger):
    """A user's own logger, in Ignite's way: its handler writes lines into a file."""

    def __init__(self, path):
        self.path = path

    def _create_output_handler(self, *args, **kwargs):
        return OwnHandler(*args, **kwargs)

    def _create_opt_params_handler(self, *args, **kwargs):
        raise NotImplementedError


class OwnHandler(BaseOutputHandler):
    def __call__(self, engine, logger, event_name):
        step = self.global_step_transform(engine, event_name)
        with logger.path.open("a") as file:
            for name, value in self._setup_output_metrics_state_attrs(engine, key_tuple=False).items():
                file.write(f"{step},{name},{value!r}\n")


def test_logger_of_ones_own_gets_the_rows(framework, fit, tmp_path):
    logger, rows = Own(tmp_path / "lines"), CSVLogger(tmp_path / "csv")
    fit(framework, logger, rows, spec=spec)
    found = {}
    for line in logger.path.read_text().splitlines():
        step, name, value = line.split(",")
        found.setdefault(name.removeprefix("run/"), []).append((int(step), float(value)))
    assert found == by_name(rows.path)


def test_logger_that_fails_does_not_stop_training(framework, fit, tmp_path):
    with pytest.warns(UserWarning, match="failed") as caught:
        assert fit(framework, Own(tmp_path)).state.step == 12
    assert "failed: IsADirectoryError" in str(caught[0].message)
    assert str(caught[-1].message).endswith("8 rows were lost.")


@pytest.mark.parametrize("given", [Events.STARTED, ProgressBar(), TensorboardLogger])
def test_what_is_no_logger_is_refused(framework, given):
    with pytest.raises(ConfigError, match=r"loggers must be a sequence[\s\S]*Hint"):
        UnifiedTrainer(framework, loggers=[given])
