"""Where a run's files go: one folder however the working directory changes, and ``~`` wherever a path is given."""

import csv
import errno
import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch
from matplotlib.figure import Figure
from torch import nn

import unitrain
from unitrain import ConfigError, Event, UnifiedTrainer
from unitrain.callbacks import ModelCheckpoint, PredictionWriter
from unitrain.checkpoint.sharded_files import consolidate
from unitrain.errors import CheckpointError
from unitrain.loggers.csv import CSVLogger
from unitrain.loggers.tensorboard import TensorBoardLogger
from unitrain.utilities.files import save_figure

BACKENDS = ("lightning", "ignite", "reference")


def spec_and_data():
    torch.manual_seed(0)
    model = nn.Linear(3, 1)
    spec = unitrain.TrainSpec(
        model=model,
        loss=nn.MSELoss(),
        optimizer=lambda parameters: torch.optim.SGD(parameters, 0.1),
        hparams={"lr": 0.1},
    )
    return spec, torch.utils.data.DataLoader([(torch.ones(3), torch.ones(1))] * 8, batch_size=2)


def trainer_of(framework, **options):
    return UnifiedTrainer(framework, **{"max_epochs": 3, "enable_progress_bar": False, "accelerator": "cpu"} | options)


def files_in(folder):
    return sorted(str(one.relative_to(folder)) for one in folder.rglob("*") if one.is_file())


@pytest.mark.parametrize("dirpath", [None, "kept"])
@pytest.mark.parametrize("framework", BACKENDS)
def test_a_run_whose_working_directory_changes_keeps_its_files_together(framework, dirpath, tmp_path, monkeypatch):
    start, later = tmp_path / "start", tmp_path / "later"
    start.mkdir()
    later.mkdir()
    monkeypatch.chdir(start)
    kept = ModelCheckpoint(dirpath, save_top_k=-1, save_last=True)
    logger = CSVLogger("runs")
    trainer = trainer_of(framework, callbacks=[kept], loggers=[logger])
    trainer.on(Event.EPOCH_END(once=2), lambda _: os.chdir(later))
    spec, data = spec_and_data()
    trainer.fit(spec, data)

    assert files_in(later) == []
    folder = start / (dirpath or "checkpoints")
    assert {path.parent for path in folder.rglob("*.ckpt")} == {folder}
    assert len(list(folder.glob("*.ckpt"))) == 4
    assert kept.last_model_path.is_file()
    assert kept.last_model_path.parent == folder
    with (start / "runs" / "run" / "metrics.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 3


@pytest.mark.parametrize("framework", BACKENDS)
def test_a_file_of_a_handler_goes_to_where_the_handler_was(framework, tmp_path, monkeypatch):
    (tmp_path / "later").mkdir()
    monkeypatch.chdir(tmp_path)
    trainer = trainer_of(framework, max_epochs=1)

    def save(run):
        run.save_checkpoint("own.ckpt")
        os.chdir("later")

    trainer.on(Event.BATCH_END(once=1), save)
    trainer.fit(*spec_and_data())
    assert files_in(tmp_path) == ["own.ckpt"]


@pytest.mark.parametrize("framework", BACKENDS)
def test_a_tilde_is_the_home_folder_everywhere(framework, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "here").mkdir()
    (tmp_path / "home").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    spec, data = spec_and_data()
    options = {"callbacks": [ModelCheckpoint("~/kept", filename="one")], "loggers": [CSVLogger("~/csv")]}
    trainer = trainer_of(framework, default_root_dir="~/root", **options)
    trainer.fit(spec, data)
    assert trainer.config.default_root_dir == tmp_path / "home" / "root"
    trainer.save_checkpoint("~/own.ckpt")
    assert trainer.validate(spec, data, ckpt_path="~/kept/one.ckpt")
    assert trainer.test(spec, data, ckpt_path="~/own.ckpt")
    trainer.export("~/weights.safetensors")
    unitrain.convert_checkpoint("~/own.ckpt", "~/lightning.ckpt", to="lightning")
    unitrain.load_weights("~/own.ckpt")
    writer = PredictionWriter("~/predicted")
    trainer_of(framework, callbacks=[writer]).predict(spec, data)

    assert files_in(tmp_path / "here") == []
    found = set(files_in(tmp_path / "home"))
    expected = {"kept/one.ckpt", "csv/run/metrics.csv", "own.ckpt", "weights.safetensors", "lightning.ckpt"}
    assert expected <= found
    assert any(one.startswith("predicted/") for one in found)


@pytest.mark.parametrize("framework", BACKENDS)
@pytest.mark.parametrize("method", ["fit", "validate", "test", "predict"])
def test_an_empty_checkpoint_path_is_refused_with_a_hint(framework, method):
    spec, data = spec_and_data()
    weights = [one.clone() for one in spec.model.parameters()]
    with pytest.raises(ConfigError, match="ckpt_path='' is not a path") as caught:
        getattr(trainer_of(framework), method)(spec, data, ckpt_path="")
    assert "or omit ckpt_path" in str(caught.value)
    assert all(map(torch.equal, weights, spec.model.parameters()))


@pytest.mark.parametrize(("src", "dst", "named"), [("", "a.ckpt", "src"), ("a.ckpt", "", "dst")])
def test_an_empty_path_to_convert_is_refused(src, dst, named):
    with pytest.raises(ConfigError, match=f"{named}='' is not a path"):
        unitrain.convert_checkpoint(src, dst, to="portable")


def test_trackers_stay_where_their_run_began(tmp_path, monkeypatch):
    (tmp_path / "later").mkdir()
    monkeypatch.chdir(tmp_path)
    loggers = [CSVLogger("csv"), TensorBoardLogger("boards")]
    for logger in loggers:
        logger.begin(0)
    monkeypatch.chdir(tmp_path / "later")
    for logger in loggers:
        logger.log_metrics({"epoch": 0, "loss": 1.0}, 1)
        logger.finalize("success")
    assert files_in(tmp_path / "later") == []
    assert {one.split("/")[0] for one in files_in(tmp_path)} == {"csv", "boards"}


def test_consolidate_replaces_a_file_only_if_asked(tmp_path):
    spec, data = spec_and_data()
    trainer = trainer_of("reference", max_epochs=1)
    trainer.fit(spec, data)
    trainer.save_checkpoint(tmp_path / "parts", sharded=True)
    one = tmp_path / "one.ckpt"
    one.write_bytes(b"another's")
    with pytest.raises(CheckpointError, match="already exists") as caught:
        consolidate(tmp_path / "parts", one)
    assert "overwrite=True" in str(caught.value)
    assert one.read_bytes() == b"another's"

    consolidate(tmp_path / "parts", one, overwrite=True)
    found = unitrain.load_weights(one)
    assert found.keys() == spec.model.state_dict().keys()
    assert all(torch.equal(found[name], value) for name, value in spec.model.state_dict().items())
    assert files_in(tmp_path / "parts")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        consolidate(tmp_path / "parts", one, overwrite=True)


@pytest.mark.parametrize("option", ["dirpath", "default_root_dir"])
@pytest.mark.parametrize("framework", BACKENDS)
def test_a_folder_that_cannot_be_made_is_an_error_of_ours(framework, option, tmp_path):
    wall = tmp_path / "wall"
    wall.write_text("a file where a folder should be")
    own = {"default_root_dir": wall / "in"} if option == "default_root_dir" else {}
    keeper = ModelCheckpoint(None if own else wall / "in")
    trainer = trainer_of(framework, max_epochs=1, callbacks=[keeper], **own)
    trained = []
    trainer.on(Event.FIT_START, trained.append)
    with pytest.raises(
        CheckpointError, match=r"could not be written[\s\S]*Hint: there is a file in place of the folder"
    ):
        trainer.fit(*spec_and_data())
    assert not trained
    assert files_in(tmp_path) == ["wall"]


@pytest.mark.parametrize("framework", BACKENDS)
def test_a_full_disk_leaves_the_file_before_and_no_half_of_one(framework, tmp_path, monkeypatch):
    spec, data = spec_and_data()
    trainer = trainer_of(framework, max_epochs=1, loggers=[CSVLogger(tmp_path / "csv")])
    trainer.fit(spec, data)
    own, other = tmp_path / "own.ckpt", tmp_path / "other.ckpt"
    trainer.save_checkpoint(own)
    other.write_bytes(b"before")
    there = {name: (tmp_path / name).read_bytes() for name in files_in(tmp_path)}

    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    logger = CSVLogger(tmp_path / "csv")
    logger.begin(0)
    for refused in (
        lambda: trainer.save_checkpoint(own),
        lambda: unitrain.convert_checkpoint(own, other, to="lightning", overwrite=True),
        lambda: save_figure(Figure(), tmp_path / "plot.png", CheckpointError),
    ):
        with pytest.raises(CheckpointError, match="No space left"):
            refused()
    for failing in (
        lambda: logger.log_metrics({"epoch": 0, "loss": 1.0}, 1),
        lambda: logger.log_hyperparams({"lr": 0.1}),
        lambda: logger.log_figure("drawn", Figure(), 1),
    ):
        with pytest.raises(OSError, match="No space left"):  # a tracker's outage, which its outlet sends again
            failing()
    assert {name: (tmp_path / name).read_bytes() for name in files_in(tmp_path)} == there

    monkeypatch.undo()
    logger.log_metrics({"epoch": 0, "loss": 1.0}, 1)
    assert logger.path.read_text() == "step,epoch,loss\n1,0,1.0\n"


RACE = """
import sys
from unitrain.utilities.files import save_figure
from unitrain.loggers.csv import CSVLogger
from unitrain.loggers.tensorboard import TensorBoardLogger
loggers = [CSVLogger(sys.argv[1]), TensorBoardLogger(sys.argv[2])]
print("ready", flush=True)
sys.stdin.readline()
for logger in loggers:
    for step in range(1, 51):
        logger.log_metrics({"epoch": 0, "loss": float(sys.argv[3])}, step)
    logger.finalize("success")
    print(logger.folder, flush=True)
"""


def test_two_processes_that_start_at_once_never_share_a_folder(tmp_path):
    command = [sys.executable, "-c", RACE, str(tmp_path / "csv"), str(tmp_path / "boards")]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen([*command, str(number)], **pipes) for number in range(2)]
    try:
        assert [one.stdout.readline() for one in processes] == ["ready\n"] * 2
        for one in processes:
            one.stdin.write("\n")
            one.stdin.flush()
        told = [one.communicate(timeout=60)[0].split() for one in processes]
    finally:
        for one in processes:
            one.kill()
            one.wait()
    assert {one[0] for one in told} == {str(tmp_path / "csv" / name) for name in ("run", "run-2")}
    assert {one[1] for one in told} == {str(tmp_path / "boards" / name) for name in ("run", "run-2")}
    for number, (table, boards) in enumerate(told):
        with (Path(table) / "metrics.csv").open() as file:
            rows = list(csv.DictReader(file))
        assert [row["step"] for row in rows] == [str(step) for step in range(1, 51)]
        assert {row["loss"] for row in rows} == {str(float(number))}
        assert len(list(Path(boards).iterdir())) == 1
