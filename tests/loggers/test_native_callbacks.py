"""Lightning's own callbacks that want a logger find unitrain's trackers behind it."""

from __future__ import annotations

import csv

import pytest
import pytorch_lightning as pl
from pytorch_lightning.callbacks import DeviceStatsMonitor, LearningRateMonitor, ModelCheckpoint
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from unitrain import CSVLogger
from unitrain.testing import cases
from unitrain.testing.models import loader


def rows(logger):
    with logger.path.open(newline="") as file:
        return [{name: float(value) for name, value in row.items() if value} for row in csv.DictReader(file)]


def column(logger, name):
    return [(row["step"], row["epoch"], row[name]) for row in rows(logger) if name in row]


def test_rows_of_the_learning_rate_monitor_arrive_at_unitrain_s_step(fit, tmp_path):
    logger = CSVLogger(tmp_path)
    callback = LearningRateMonitor(logging_interval="step")
    fit("lightning", logger, callbacks=[callback], log_every_n_steps=3)
    # before the third and the sixth batch of six an epoch; a StepLR by the epoch halves the rate
    found = column(logger, "lr-SGD")
    assert [(step, epoch) for step, epoch, _ in found] == [(2, 0), (5, 0), (8, 1), (11, 1)]
    assert [rate for *_, rate in found] == callback.lrs["lr-SGD"]
    assert found[0][2] > found[-1][2] > 0


def test_step_is_the_number_of_optimizer_steps_under_accumulation(fit, tmp_path):
    logger = CSVLogger(tmp_path)
    options = {"accumulate_grad_batches": 2, "log_every_n_steps": 1}
    fit("lightning", logger, callbacks=[LearningRateMonitor(logging_interval="step")], **options)
    assert [step for step, *_ in column(logger, "lr-SGD")] == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]


def test_rows_of_the_device_stats_monitor_arrive(fit, tmp_path):
    logger = CSVLogger(tmp_path)
    fit("lightning", logger, callbacks=[DeviceStatsMonitor()], log_every_n_steps=6)
    name = "DeviceStatsMonitor.on_train_batch_end/cpu_vm_percent"
    found = column(logger, name)
    assert [(step, epoch) for step, epoch, _ in found] == [(6, 0), (12, 1)]
    assert all(0 < percent < 100 for *_, percent in found)


class Logs(pl.Callback):
    """Logs in Lightning's way, by the module and by the logger."""

    def on_train_start(self, trainer, pl_module):
        trainer.logger.log_hyperparams({"native": 1})

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        pl_module.log("index", float(batch_idx))

    def on_test_end(self, trainer, pl_module):
        trainer.logger.log_metrics({"tested": 7.0}, step=99)


def test_what_a_callback_logs_by_the_module_and_the_logger_arrives(fit, tmp_path):
    logger = CSVLogger(tmp_path)
    trainer = fit("lightning", logger, callbacks=[Logs()])
    assert [value for *_, value in column(logger, "index")] == [1, 3, 5, 1, 3, 5]
    assert '"native": 1' in (logger.folder / "hparams.json").read_text()
    trainer.test(cases.spec(), loader())
    assert column(logger, "tested") == [(12, 1, 7)]


def test_own_rows_are_those_of_a_run_without_native_callbacks(fit, tmp_path):
    plain, other = CSVLogger(tmp_path / "plain"), CSVLogger(tmp_path / "other")
    fit("ignite", plain)
    fit("lightning", other, callbacks=[LearningRateMonitor()])
    assert [row for row in rows(other) if "lr-SGD" not in row] == rows(plain)


@pytest.mark.parametrize("callback", [LearningRateMonitor, DeviceStatsMonitor])
def test_without_trackers_lightning_says_what_is_missing(fit, callback):
    with pytest.raises(MisconfigurationException, match="logger"):
        fit("lightning", callbacks=[callback()])


def test_lightning_s_checkpoints_are_where_they_are_without_trackers(fit, tmp_path):
    for name, loggers in {"without": (), "with": (CSVLogger(tmp_path / "csv"),)}.items():
        keep = ModelCheckpoint()
        fit("lightning", *loggers, callbacks=[keep], default_root_dir=tmp_path / name)
        assert keep.dirpath == str(tmp_path / name / "checkpoints")
