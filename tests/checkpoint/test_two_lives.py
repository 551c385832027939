"""A run that was started again while its old process still lives, and writers that meet in one folder.

Each keeps what it wrote, and nobody reads a mixture.
"""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import nn

from unitrain import CheckpointError, CSVLogger, Event, ModelCheckpoint, TrainSpec, UnifiedTrainer
from unitrain.checkpoint import io
from unitrain.checkpoint import sharded_files as parts
from unitrain.distributed.collectives import SINGLE_PROCESS
from unitrain.utilities import files

BACKENDS = ("lightning", "ignite", "reference")
each_backend = pytest.mark.parametrize("framework", BACKENDS)
BATCHES = [(torch.full((2, 4), float(i)), torch.ones(2, 1)) for i in range(1, 6)]


def spec():
    torch.manual_seed(0)
    return TrainSpec(model=nn.Linear(4, 1), loss=nn.MSELoss(), optimizer=partial(torch.optim.SGD, lr=1e-3))


def fit(framework, folder, *, on=(), ckpt_path=None):
    """Train three epochs with files in ``folder``; return the weights and the tracker."""
    tracker, what = CSVLogger(folder / "logs"), spec()
    keep = ModelCheckpoint(folder / "kept", save_last=True, save_top_k=2)
    trainer = UnifiedTrainer(
        framework,
        max_epochs=3,
        enable_progress_bar=False,
        callbacks=[keep],
        loggers=[tracker],
        log_every_n_steps=1,
    )
    for event, handler in on:
        trainer.on(event, handler)
    trainer.fit(what, BATCHES, ckpt_path=ckpt_path)
    return what.model.state_dict(), tracker, keep


def contents(folder):
    return {one: one.read_bytes() for one in folder.rglob("*") if one.is_file()}


def outlived(framework, folder, at):
    """Start a run again while its old process is before batch ``at``; return both, and what the new one left."""
    new = {}

    def again(run):
        if run.state.batch == at:
            new["run"] = fit(framework, folder, ckpt_path=folder / "kept" / "last.ckpt")
            new["files"] = contents(folder)

    said = "another process has written to it since"
    with pytest.warns(UserWarning, match=said), pytest.warns(UserWarning, match="rows were lost"):
        old = fit(framework, folder, on=[(Event.BATCH_START, again)])
    return old, new


@each_backend
@pytest.mark.parametrize(
    "at",
    [8, *(pytest.param(at, marks=pytest.mark.slow) for at in (5, 12))],
    ids=["within", "between epochs", "near the end"],
)
def test_what_the_new_process_has_written_stays(framework, at, tmp_path):
    expected = fit(framework, tmp_path / "alone")
    old, new = outlived(framework, tmp_path / "both", at)
    weights, tracker, keep = new["run"]
    assert all(map(torch.equal, weights.values(), expected[0].values()))
    assert all(map(torch.equal, old[0].values(), expected[0].values()))
    assert tracker.path.read_bytes() == expected[1].path.read_bytes()
    for path in (*(path for path, _ in keep.best_k_models), keep.last_model_path):
        assert path.read_bytes() == new["files"][path]


def test_without_the_look_at_the_file_rows_are_lost(tmp_path, monkeypatch):
    monkeypatch.setattr(CSVLogger, "_require_own", lambda self: True)
    with pytest.raises(pytest.fail.Exception, match="DID NOT WARN"):
        outlived("reference", tmp_path, 8)


def row(step, value):
    return {"epoch": 0, "x": float(value)}, step


def test_rows_of_two_processes_are_never_mixed(tmp_path):
    old = CSVLogger(tmp_path)
    old.log_metrics(*row(1, 1))
    state = old.run_state()
    for step in (2, 3):
        old.log_metrics(*row(step, step))
    new = CSVLogger(tmp_path)
    new.load_run_state(state)
    new.begin(1)
    for step in range(2, 8):
        new.log_metrics(*row(step, step))  # the same rows, past the place where the old one is
        with pytest.raises(OSError, match="another process has written to it since"):
            old.log_metrics(*row(step, -step))
        with pytest.raises(OSError, match="another process has written to it since"):
            old.log_metrics({"epoch": 0, "y": 1.0}, step)  # a new column writes the whole file again
    assert new.path.read_text() == "step,epoch,x\n" + "".join(f"{step},0,{float(step)}\n" for step in range(1, 8))


# --- sharded checkpoints ----------------------------------------------------------------------------------------------


def content(value):
    return {"state_dict": {"model.weight": torch.full((3,), float(value))}}


def write(folder, value):
    parts.write(folder, content(value), SINGLE_PROCESS)


def value_in(folder):
    return parts.read(folder)["state_dict"]["model.weight"].tolist()


def met(folder, monkeypatch, moment):
    """Write 1 into ``folder``; another run writes 2 before or after the index is replaced."""
    real, moments = io.write_by, []

    def write_by(path, *args):
        first = path.name == "index.json" and not moments
        if first:
            moments.append(moment)
        if first and moment == "before":
            write(folder, 2)
        real(path, *args)
        if first and moment == "after":
            write(folder, 2)

    monkeypatch.setattr(io, "write_by", write_by)
    write(folder, 1)


@pytest.mark.parametrize(("moment", "value"), [("before", 1), ("after", 2)])
def test_two_runs_that_write_one_folder_leave_a_whole_checkpoint(moment, value, tmp_path, monkeypatch):
    met(tmp_path / "run", monkeypatch, moment)
    assert value_in(tmp_path / "run") == [value] * 3
    write(tmp_path / "run", 3)
    assert len([*(tmp_path / "run").iterdir()]) == 2  # nothing is left of those before


def test_without_the_claim_the_checkpoint_would_be_lost(tmp_path, monkeypatch):
    monkeypatch.setattr(parts, "is_claimed", lambda path: False)
    met(tmp_path / "run", monkeypatch, "before")
    with pytest.raises(CheckpointError):
        value_in(tmp_path / "run")


def test_data_that_a_killed_process_left_is_removed(tmp_path):
    write(tmp_path / "run", 1)
    left = tmp_path / "run" / f"data-{'0' * 32}"
    left.mkdir()
    (left / "tree.ckpt").write_bytes(b"half")
    marker = files._marker(left)
    marker.write_text(files.HOST)  # its claim, whose lock went with the process
    write(tmp_path / "run", 2)
    assert not left.exists()
    assert not marker.exists()


def test_a_reader_of_a_folder_that_is_replaced_meanwhile_reads_the_new_one(tmp_path, monkeypatch):
    write(tmp_path / "run", 1)
    real, done = parts._index, []

    def index(folder):
        found = real(folder)
        if not done:
            done.append(True)
            write(folder, 2)
        return found

    monkeypatch.setattr(parts, "_index", index)
    assert value_in(tmp_path / "run") == [2.0] * 3


def test_files_of_two_checkpoints_are_not_mixed(tmp_path):
    for name, value in (("one", 1), ("other", 2)):
        write(tmp_path / name, value)
    (one,), (other,) = ((tmp_path / name).glob("data-*/rank-0.ckpt") for name in ("one", "other"))
    other.replace(one)
    with pytest.raises(CheckpointError, match="its files are of different checkpoints"):
        parts.read(tmp_path / "one")
