"""Weights & Biases without a network."""

from __future__ import annotations

import csv
import struct
import sys
import time

import pytest

from unitrain import BackendNotInstalledError, Callback, CSVLogger, UnifiedTrainer, WandbLogger
from unitrain.testing import cases
from unitrain.testing.models import loader

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning", "ignore::UserWarning")


BLOCK, HEADER = 32768, 7


def chunks(data):
    """Yield the records of LevelDB's log format, which W&B writes after a header of its own."""
    position, whole = HEADER, b""
    while position + HEADER <= len(data):
        if BLOCK - position % BLOCK < HEADER:
            position += BLOCK - position % BLOCK
        length, kind = struct.unpack_from("<HB", data, position + 4)
        whole += data[position + HEADER : position + HEADER + length]
        position += HEADER + length
        if kind in (1, 4):  # full, or the last part
            yield whole
            whole = b""


def parsed(path):
    from wandb.proto import wandb_internal_pb2

    found = []
    for chunk in chunks(path.read_bytes()):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(chunk)
        found.append(record)
    return found


def records(path):
    """Return what is in a run's file, when it is whole.

    ``run.finish()`` comes back when the service has the exit record; offline the service writes the file a moment
    later, by itself, and on a loaded machine that moment is long.
    """
    deadline = time.monotonic() + 60
    while not any(record.HasField("exit") for record in parsed(path)):
        assert time.monotonic() < deadline, f"{path} has no exit record"
        time.sleep(0.05)
    return parsed(path)


def files(folder):
    """Return the files of the runs in the order of their beginning, with the ids that their names tell."""
    found = sorted(folder.glob("wandb/offline-run-*/run-*.wandb"))
    return [(path.stem.removeprefix("run-"), path) for path in found]


def history(path):
    return [
        {item.key or "/".join(item.nested_key): item.value_json for item in record.history.item}
        for record in records(path)
        if record.HasField("history")
    ]


def test_offline_run_holds_what_was_logged(framework, fit, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_SILENT", "true")
    trainer = fit(
        framework, WandbLogger("p", mode="offline", save_dir=tmp_path), spec=lambda: cases.spec(hparams={"lr": 0.1})
    )
    ((_, path),) = files(tmp_path)
    found, rows = records(path), history(path)
    assert [int(row["_step"]) for row in rows] == [2, 4, 6, 8, 10, 12]
    assert {name: float(rows[-1][name]) for name in trainer.state.metrics} == trainer.state.metrics
    config = {
        update.key: update.value_json
        for record in found
        for update in (*record.run.config.update, *record.config.update)
    }
    assert config["lr"] == "0.1"
    assert [record.exit.exit_code for record in found if record.HasField("exit")] == [0]


def test_evaluation_and_resumed_fit_go_on_in_the_run_and_a_new_fit_does_not(fit, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_SILENT", "true")
    logger = WandbLogger("p", mode="offline", save_dir=tmp_path / "one")
    trainer = fit("reference", logger)
    trainer.save_checkpoint(tmp_path / "saved.ckpt")
    result = trainer.test(cases.spec(), loader())
    fit("reference", logger)
    (first, _), (second, tested), (third, _) = files(tmp_path / "one")
    assert first == second != third
    (row,) = history(tested)
    assert (int(row["_step"]), float(row["test/loss"])) == (12, result["test/loss"])

    # a new object, as in a new process; nothing but the checkpoint names the run
    again = WandbLogger("p", mode="offline", save_dir=tmp_path / "two")
    resumed = UnifiedTrainer("reference", max_epochs=3, seed=3, enable_progress_bar=False, loggers=[again])
    spec = cases.spec("mlp", "sgd", "step")
    resumed.fit(spec, loader(), loader(samples=6), ckpt_path=tmp_path / "saved.ckpt")
    ((number, path),) = files(tmp_path / "two")
    assert number == first
    assert [int(row["_step"]) for row in history(path)] == [18]


@pytest.mark.parametrize("options", [{"project": "other"}, {"project": "p", "id": "mine"}])
def test_run_of_another_project_or_of_another_id_is_not_taken_up(options):
    logger = WandbLogger(mode="offline", **options)
    logger.load_run_state({"id": "theirs", "project": "p", "entity": None})
    assert logger.run_state() == {}


def test_figure_is_stored_beside_the_run(fit, tmp_path, monkeypatch):
    from matplotlib.figure import Figure

    monkeypatch.setenv("WANDB_SILENT", "true")
    logger = WandbLogger("p", mode="offline", save_dir=tmp_path)

    class Draw(Callback):
        def on_epoch_end(self, run):
            run.log_figure("val/square", Figure(figsize=(0.4, 0.3)))

    fit("reference", logger, spec=lambda: cases.spec(callbacks=[Draw()]))
    ((_, path),) = files(tmp_path)
    steps = [int(row["_step"]) for row in history(path) if any("val/square" in name for name in row)]
    assert steps == [6, 12]
    pictures = list(tmp_path.glob("wandb/offline-run-*/files/media/images/val/*.png"))
    assert len(pictures) == 2


@pytest.mark.parametrize("framework", ["lightning", "ignite"])
def test_logger_of_ignite_holds_the_rows_of_the_csv_file(framework, fit, tmp_path, monkeypatch):
    from ignite.handlers.wandb_logger import WandBLogger

    monkeypatch.setenv("WANDB_SILENT", "true")
    rows = CSVLogger(tmp_path / "csv")
    with WandBLogger(project="p", mode="offline", dir=str(tmp_path)) as logger:
        fit(framework, logger, rows, spec=lambda: cases.spec(hparams={"lr": 0.1}))
    ((_, path),) = files(tmp_path)
    expected = {}  # two rows of one step are one of W&B
    with rows.path.open(newline="") as file:
        for row in csv.DictReader(file):
            values = {name: float(value) for name, value in row.items() if value}
            expected.setdefault(int(values.pop("step")), {}).update(values)
    found = history(path)
    assert [int(row["_step"]) for row in found] == list(expected)
    for row, values in zip(found, expected.values(), strict=True):
        assert {name: float(value) for name, value in row.items() if not name.startswith("_")} == values
    config = {one.key: one.value_json for record in records(path) for one in record.config.update}
    assert config["lr"] == "0.1"


def test_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(BackendNotInstalledError, match=r"pip install 'pytorch-unitrain\[wandb\]'"):
        WandbLogger()
