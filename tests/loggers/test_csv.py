"""The CSV file: the same bytes on every backend, whole after a failure, and continued by a resume."""

from __future__ import annotations

import csv
import json
import os
import pickle
from functools import partial
from pathlib import Path

import pytest
from torch import nn

from unitrain import Callback, CSVLogger, LRMonitor
from unitrain.testing import cases
from unitrain.testing.conformance import ALL
from unitrain.testing.trace import record

FRAMEWORKS = ("reference", "lightning", "ignite")


def rows(logger):
    with logger.path.open(newline="") as file:
        return list(csv.DictReader(file))


class Noted(Callback):
    """Logs in a batch, in one epoch only, and at the end of an epoch."""

    def on_batch_end(self, run):
        if run.state.epoch == 1:
            run.log("late", run.state.batch / 7)

    def on_epoch_end(self, run):
        run.log("total", float(run.state.batch))


def step(model, batch):
    output = model(batch[0])
    loss = nn.functional.cross_entropy(output, batch[1])
    return {"loss": loss, "scale": output.abs().mean(), "output": output, "target": batch[1]}


SPECS = {
    "plain": (partial(cases.spec, "cnn", "groups", "step"), {}),
    "logged": (lambda: cases.spec(training_step=step, callbacks=[Noted(), LRMonitor()]), {}),
    "accumulating": (cases.spec, {"accumulate_grad_batches": 4, "log_every_n_steps": 1, "val_check_interval": 2}),
    "two optimizers": (cases.adversarial, {"log_every_n_steps": 1}),
}


@pytest.mark.parametrize("name", SPECS)
def test_file_is_the_same_on_every_backend(name, fit, tmp_path):
    spec, options = SPECS[name]
    files = []
    for framework in FRAMEWORKS:
        logger = CSVLogger(tmp_path / framework)
        if name == "two optimizers":
            fit(framework, logger, spec=spec, limit_val_batches=0, **options)
        else:
            fit(framework, logger, spec=spec, **options)
        files.append(logger.path.read_bytes())
    assert files[0].count(b"\n") > 3
    assert files[1:] == files[:1] * 2


@pytest.mark.parametrize("name", ["noisy", "stream", "adversarial-clipped", "custom-steps", "max-steps-accumulated"])
def test_file_of_a_conformance_case_is_the_same_on_every_backend(name, tmp_path):
    from dataclasses import replace

    files = []
    for framework in FRAMEWORKS:
        logger = CSVLogger(tmp_path / framework)
        options = {**ALL[name].options, "loggers": [logger], "log_every_n_steps": 1}
        record(framework, replace(ALL[name], options=options))
        files.append(logger.path.read_bytes())
    assert files[0].count(b"\n") > 3
    assert files[1:] == files[:1] * 2


def test_rows_are_steps_and_epochs(framework, fit, tmp_path):
    logger = CSVLogger(tmp_path)
    trainer = fit(framework, logger)
    assert logger.path == tmp_path / "run" / "metrics.csv"
    lines = logger.path.read_text().splitlines()
    assert lines[0] == "step,epoch,train/acc,train/error,train/loss,val/acc,val/error,val/loss"
    assert [(row["step"], row["epoch"]) for row in rows(logger)] == [
        ("2", "0"), ("4", "0"), ("6", "0"), ("6", "0"), ("8", "1"), ("10", "1"), ("12", "1"), ("12", "1"),
    ]  # fmt: skip
    last = {name: float(value) for name, value in rows(logger)[-1].items()}
    assert last == {"step": 12, "epoch": 1, **trainer.state.metrics}
    assert rows(logger)[0]["val/loss"] == ""


def test_row_of_a_step_holds_the_values_of_its_batch(framework, fit, tmp_path):
    logger, losses = CSVLogger(tmp_path), []

    class Losses(Callback):
        def on_batch_end(self, run):
            losses.append(run.state.loss.item())
            run.log("double", run.state.loss * 2)

    fit(framework, logger, spec=partial(cases.spec, callbacks=[Losses()]), log_every_n_steps=3)
    steps = [row for row in rows(logger) if not row["val/loss"]]
    assert [float(row["train/loss"]) for row in steps] == [losses[index] for index in (2, 5, 8, 11)]
    assert [float(row["train/double"]) for row in steps] == [2 * losses[index] for index in (2, 5, 8, 11)]


def test_zero_writes_epochs_only(framework, fit, tmp_path):
    logger = CSVLogger(tmp_path)
    fit(framework, logger, log_every_n_steps=0)
    assert [row["step"] for row in rows(logger)] == ["6", "12"]


def test_new_names_rewrite_the_header(tmp_path):
    logger = CSVLogger(tmp_path)
    logger.log_metrics({"epoch": 0, "m": 0.1}, 1)
    logger.log_metrics({"epoch": 0, "z": float("nan"), "a": 1e-30}, 2)
    logger.log_metrics({"epoch": 1}, 3)
    assert logger.path.read_text() == "step,epoch,a,m,z\n1,0,,0.1,\n2,0,1e-30,,nan\n3,1,,,\n"


def test_new_run_overwrites_nothing(framework, fit, tmp_path):
    logger = CSVLogger(tmp_path)
    fit(framework, logger)
    first = logger.path.read_bytes()
    fit(framework, logger)
    assert logger.path == tmp_path / "run-2" / "metrics.csv"
    assert logger.path.read_bytes() == first == (tmp_path / "run" / "metrics.csv").read_bytes()


def test_resumed_run_goes_on_after_the_rows_that_the_checkpoint_knows(tmp_path):
    logger = CSVLogger(tmp_path)
    for step_ in (1, 2, 3):
        logger.log_metrics({"epoch": 0, "m": step_ / 3}, step_)
    before = logger.path.read_bytes()
    again = CSVLogger(tmp_path)
    again.begin(2)
    again.log_metrics({"epoch": 0, "m": 1.0}, 3)
    assert again.path == logger.path
    assert logger.path.read_bytes() == before


def test_part_of_a_row_is_no_row(tmp_path):
    logger = CSVLogger(tmp_path)
    logger.log_metrics({"epoch": 0, "m": 1.0}, 1)
    whole = logger.path.read_bytes()
    logger.path.write_bytes(whole + b"2,0,1.")  # as a full disk leaves it
    logger.log_metrics({"epoch": 0, "m": 2.0}, 2)
    assert logger.path.read_bytes() == whole + b"2,0,2.0\n"
    logger.path.write_bytes(whole + b"2,0,2.0\n" + b"3,")
    logger.log_metrics({"epoch": 0, "n": 3.0}, 3)
    assert logger.path.read_text() == "step,epoch,m,n\n1,0,1.0,\n2,0,2.0,\n3,0,,3.0\n"


def test_hyperparameters_are_those_of_the_spec(framework, fit, tmp_path):
    logger = CSVLogger(tmp_path)
    hparams = {"lr": 0.1, "model": {"width": 8}, "path": tmp_path}
    fit(framework, logger, spec=partial(cases.spec, hparams=hparams))
    assert json.loads((logger.folder / "hparams.json").read_text()) == {**hparams, "path": str(tmp_path)}


def test_without_hyperparameters_there_is_no_file_of_them(framework, fit, tmp_path):
    logger = CSVLogger(tmp_path)
    fit(framework, logger)
    assert [path.name for path in logger.folder.iterdir()] == ["metrics.csv"]


@pytest.mark.parametrize("away", [Path.unlink, lambda path: path.rename(path.with_suffix(".old"))])
def test_file_that_is_removed_or_renamed_meanwhile_is_not_written_behind_its_name(away, tmp_path):
    logger = CSVLogger(tmp_path)
    for value in (0.0, 0.5):
        logger.log_metrics({"epoch": 0, "loss": value}, 1)
    written = logger.path.read_bytes()
    away(logger.path)
    with pytest.raises(FileNotFoundError):
        logger.log_metrics({"epoch": 0, "loss": 1.0}, 2)
    logger.path.write_bytes(written)
    logger.log_metrics({"epoch": 0, "loss": 1.0}, 2)
    assert logger.path.read_bytes() == written + b"2,0,1.0\n"


def test_file_that_the_system_closed_is_opened_anew(tmp_path):
    logger = CSVLogger(tmp_path)
    for step in range(2):
        logger.log_metrics({"epoch": 0, "loss": 0.5}, step)
    os.close(logger._file.fileno())
    with pytest.raises(OSError, match="Bad file descriptor"):
        logger.log_metrics({"epoch": 0, "loss": 0.5}, 2)
    for step in (2, 3):  # sent again, as trackers are
        logger.log_metrics({"epoch": 0, "loss": 0.5}, step)
    logger.finalize("success")
    assert [row["step"] for row in rows(logger)] == ["0", "1", "2", "3"]


def test_each_row_can_be_read_at_once_and_no_file_stays_open(tmp_path):
    logger = CSVLogger(tmp_path)
    for step in range(3):
        logger.log_metrics({"epoch": 0, "loss": 0.5}, step)
        assert len(logger.path.read_text().splitlines()) == 2 + step
    own = logger._file
    copy = pickle.loads(pickle.dumps(logger))
    logger.finalize("success")
    assert own.closed
    copy.log_metrics({"epoch": 0, "loss": 0.5}, 3)  # the result of an evaluation may follow
    assert logger.path.read_text().splitlines()[-1] == "3,0,0.5"
