"""A checkpoint as a folder: all or nothing, checked when it is read, and never running code that is in it."""

import json
import pickle

import pytest
import torch

from unitrain import ModelCheckpoint, UnifiedTrainer, load_weights
from unitrain.checkpoint import io
from unitrain.checkpoint import sharded_files as parts
from unitrain.distributed.collectives import SINGLE_PROCESS
from unitrain.errors import CheckpointError
from unitrain.testing.cases import spec
from unitrain.testing.models import loader
from unitrain.testing.trace import differences
from unitrain.utilities import files

CONTENT = {"state_dict": {"model.weight": torch.arange(6.0).reshape(3, 2)}, "epoch": 3}


@pytest.fixture
def folder(tmp_path):
    parts.write(tmp_path / "run", CONTENT, SINGLE_PROCESS)
    return tmp_path / "run"


def data(folder):
    return next(folder.glob("data-*"))


def test_one_process_writes_and_reads_a_folder_too(folder, tmp_path):
    assert not differences(parts.read(folder), CONTENT)
    parts.consolidate(folder, tmp_path / "one.ckpt")
    assert not differences(io.read(tmp_path / "one.ckpt"), CONTENT)
    assert torch.equal(load_weights(folder)["weight"], CONTENT["state_dict"]["model.weight"])


def test_parts_of_several_ranks_are_put_together_where_they_belong(folder):
    whole = CONTENT["state_dict"]["model.weight"]
    tree = {"state_dict": {"model.weight": {"unitrain.in_parts": "0", "shape": [3, 2]}}, "epoch": 3}
    io.write(data(folder) / "tree.ckpt", tree)
    io.write(data(folder) / "rank-0.ckpt", {"0": {"at": [1, 0], "values": whole[1:]}})
    io.write(data(folder) / "rank-1.ckpt", {"0": {"at": [0, 0], "values": whole[:1]}})
    io.write(data(folder) / "rank-2.ckpt", {"0": {"at": [3, 0], "values": whole[3:]}})
    index = json.loads((folder / "index.json").read_text())
    (folder / "index.json").write_text(json.dumps({**index, "ranks": 3}))
    assert not differences(parts.read(folder), CONTENT)
    io.write(data(folder) / "rank-1.ckpt", {"0": {"at": [1, 0], "values": whole[:1]}})
    with pytest.raises(CheckpointError, match="do not match"):
        parts.read(folder)


def save_twice(framework, folder):
    """Save a run twice, and put the tensors of the first saving among the files of the second."""
    trainer = UnifiedTrainer(framework, max_epochs=1, enable_progress_bar=False)
    trainer.fit(spec(), loader())
    trainer.save_checkpoint(folder, sharded=True)
    first = (data(folder) / "rank-0.ckpt").read_bytes()
    trainer.save_checkpoint(folder, sharded=True)
    (data(folder) / "rank-0.ckpt").write_bytes(first)


@pytest.mark.parametrize("framework", ["reference", "lightning", "ignite"])
def test_parts_of_two_savings_are_refused(framework, tmp_path, monkeypatch):
    save_twice(framework, tmp_path / "run")
    with pytest.raises(CheckpointError, match="its files are of different checkpoints"):
        load_weights(tmp_path / "run")
    monkeypatch.setattr(parts, "_OF", "another key")  # the fault, seeded: the mixture is read
    load_weights(tmp_path / "run")


def test_writing_again_takes_the_place_of_the_old_in_one_piece(folder, monkeypatch):
    old = data(folder)
    parts.write(folder, {**CONTENT, "epoch": 4}, SINGLE_PROCESS)
    assert not old.exists()
    assert parts.read(folder)["epoch"] == 4
    write = io.write

    def killed(path, content):
        write(path, content)
        raise KeyboardInterrupt

    monkeypatch.setattr(io, "write", killed)
    with pytest.raises(KeyboardInterrupt):
        parts.write(folder, {**CONTENT, "epoch": 5}, SINGLE_PROCESS)
    monkeypatch.setattr(io, "write", write)
    assert parts.read(folder)["epoch"] == 4
    parts.write(folder, {**CONTENT, "epoch": 6}, SINGLE_PROCESS)
    assert len(list(folder.iterdir())) == 2
    assert parts.read(folder)["epoch"] == 6


@pytest.mark.parametrize("framework", ["reference", "lightning", "ignite"])
@pytest.mark.parametrize("error", [OSError("no fsync"), KeyboardInterrupt()], ids=["fails", "interrupted"])
def test_what_the_new_index_names_stays(framework, error, tmp_path, monkeypatch):
    trainer = UnifiedTrainer(framework, max_epochs=1, enable_progress_bar=False)
    made = spec()
    trainer.fit(made, loader())
    sync = files._sync

    def fail(folder):
        sync(folder)
        if folder == tmp_path / "run":  # the index has its name by now
            raise error

    monkeypatch.setattr(files, "_sync", fail)
    with pytest.raises(KeyboardInterrupt if isinstance(error, KeyboardInterrupt) else CheckpointError) as raised:
        trainer.save_checkpoint(tmp_path / "run", sharded=True)
    assert raised.value is error or "no fsync" in str(raised.value)
    assert not differences(load_weights(tmp_path / "run"), dict(made.model.state_dict()))
    monkeypatch.setattr(parts, "_may_name", lambda folder, name: False)  # the fault, seeded
    with pytest.raises((KeyboardInterrupt, CheckpointError)):
        trainer.save_checkpoint(tmp_path / "run", sharded=True)
    with pytest.raises(CheckpointError):
        load_weights(tmp_path / "run")


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"format": 1, "ranks": 1, "data": "../other"}', '{"format": 1, "ranks": 0, "data": "data-"}',
     '{"format": 1, "ranks": 1, "data": 3}', '{"format": 2, "ranks": 1, "data": "data-x"}'],
)  # fmt: skip
def test_an_index_that_cannot_be_meant_is_refused(folder, text):
    (folder / "index.json").write_text(text)
    with pytest.raises(CheckpointError):
        parts.read(folder)


def test_a_folder_that_is_none_is_refused(tmp_path):
    trainer = UnifiedTrainer("ignite", max_epochs=1, enable_progress_bar=False)
    with pytest.raises(CheckpointError, match="is not a checkpoint, or is incomplete"):
        trainer.fit(spec(), loader(), ckpt_path=tmp_path)


def test_a_damaged_or_missing_part_is_noticed(folder):
    path = data(folder) / "tree.ckpt"
    whole = path.read_bytes()
    at = whole.index(CONTENT["state_dict"]["model.weight"].numpy().tobytes())
    path.write_bytes(whole[:at] + b"\x01" + whole[at + 1 :])
    with pytest.raises(CheckpointError, match="damaged"):
        parts.read(folder)
    path.write_bytes(whole)
    (data(folder) / "rank-0.ckpt").unlink()
    with pytest.raises(CheckpointError, match="does not exist"):
        parts.read(folder)


class Evil:
    def __reduce__(self):
        return print, ("code ran",)


def test_no_code_of_a_folder_is_run(folder, capsys):
    torch.save({"state_dict": Evil()}, data(folder) / "tree.ckpt")
    (folder / ".metadata").write_bytes(pickle.dumps(Evil()))  # what torch's own sharded checkpoints are read by
    with pytest.raises(CheckpointError, match="does not run code"):
        parts.read(folder)
    assert "code ran" not in capsys.readouterr().out


@pytest.mark.parametrize("framework", ["reference", "lightning", "ignite"])
def test_model_checkpoint_keeps_folders_in_one_process_too(framework, tmp_path):
    keeper = ModelCheckpoint(tmp_path / "kept", "{epoch}", sharded=True, save_top_k=1)
    made = spec()
    options = {"seed": 0, "enable_progress_bar": False, "callbacks": [keeper]}
    UnifiedTrainer(framework, max_epochs=2, **options).fit(made, loader())
    assert [path.name for path in (tmp_path / "kept").iterdir()] == ["epoch=1.ckpt"]
    assert not differences(dict(made.model.state_dict()), load_weights(keeper.best_model_path))
    again = UnifiedTrainer(framework, max_epochs=3, **options)
    assert again.fit(spec(), loader(), ckpt_path=tmp_path / "kept" / "epoch=1.ckpt").epoch == 2
