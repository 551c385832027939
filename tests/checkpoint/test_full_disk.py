"""A disk that is full in the middle of a run: the checkpoint before stays whole, and the run says which is missing.

The files of this process are limited in size, so that the system itself refuses the rest of a file, as a full disk does.
"""

from __future__ import annotations

import errno
import os
import pickle
import stat
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn

from unitrain import CheckpointError, Event, ModelCheckpoint, TrainSpec, UnifiedTrainer, load_weights
from unitrain.checkpoint import saving
from unitrain.distributed.collectives import Collectives
from unitrain.run.hub import EventHub
from unitrain.run.saves import CheckpointRequest
from unitrain.utilities import files

resource = pytest.importorskip("resource")
BACKENDS = ("lightning", "ignite", "reference")
BATCHES = [(torch.full((2, 200), float(i)), torch.ones(2, 100)) for i in (1, 2)]
ROOM = 30_000
"""Bytes of a file at most; a checkpoint has some 100 000."""


def spec():
    torch.manual_seed(0)
    net = nn.Linear(200, 100)
    return TrainSpec(model=net, loss=nn.MSELoss(), optimizer=partial(torch.optim.SGD, lr=1e-4, momentum=0.9))


def found_in(folder):
    return {
        str(one.relative_to(folder)): one.read_bytes() if one.is_file() else None for one in sorted(folder.rglob("*"))
    }


def fit(framework, folder, *, sharded, on=(), ckpt_path=None):
    what, kept = spec(), ModelCheckpoint(folder, save_last=True, sharded=sharded)
    trainer = UnifiedTrainer(framework, max_epochs=3, enable_progress_bar=False, callbacks=[kept], seed=1)
    for event, handler in on:
        trainer.on(event, handler)
    trainer.fit(what, BATCHES, ckpt_path=ckpt_path)
    return what.model.state_dict()


def fit_until_full(framework, folder, *, sharded=False):
    """Fill the disk in the second epoch; return the error and what was there before."""
    there = {}

    def fill(_):
        there.update(found_in(folder))
        resource.setrlimit(resource.RLIMIT_FSIZE, (ROOM, before[1]))

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        with pytest.raises(CheckpointError) as raised:
            fit(framework, folder, sharded=sharded, on=[(Event.EPOCH_START(once=2), fill)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    return raised.value, there


@pytest.mark.parametrize("framework", BACKENDS)
@pytest.mark.parametrize("sharded", [False, True], ids=["file", "folder"])
def test_a_full_disk_leaves_the_checkpoint_before(framework, sharded, tmp_path):
    whole = fit("reference", tmp_path / "whole", sharded=False)
    folder = tmp_path / "kept"
    error, there = fit_until_full(framework, folder, sharded=sharded)
    assert str(folder / "epoch=1-step=4.ckpt") in str(error)
    assert "could not be written" in str(error)
    assert "File too large" in str(error)  # as the system puts it
    assert "free disk space" in error.hint
    assert there
    assert found_in(folder) == there  # no part of a file, no claim, no file less

    other = BACKENDS[BACKENDS.index(framework) - 1]
    rest = fit(other, folder, sharded=sharded, ckpt_path=folder / "last.ckpt")
    assert all(torch.equal(rest[name], value) for name, value in whole.items())


def test_a_file_that_is_written_in_place_would_be_noticed(tmp_path, monkeypatch):
    """The negative control."""

    @contextmanager
    def in_place(path, **_):
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            yield file

    monkeypatch.setattr(files, "written", in_place)
    monkeypatch.setattr("unitrain.checkpoint.io.written", in_place, raising=False)
    _, there = fit_until_full("reference", tmp_path)
    assert found_in(tmp_path) != there


@contextmanager
def folders_that(answer, call):
    """Let the system answer with an error number where ``os.call`` is called with a folder."""
    real = getattr(os, call)

    def refused(given, *args, **kwargs):
        if stat.S_ISDIR(os.fstat(given).st_mode):
            raise OSError(answer, os.strerror(answer))
        return real(given, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files.os, call, refused)
        yield


@pytest.mark.parametrize("framework", BACKENDS)
@pytest.mark.parametrize("sharded", [False, True])
@pytest.mark.parametrize("answer", [errno.EINVAL, errno.ENOTSUP, errno.EBADF], ids=errno.errorcode.get)
def test_a_file_system_that_syncs_no_folders_is_no_full_disk(framework, sharded, answer, tmp_path):
    with folders_that(answer, "fsync"):
        weights = fit(framework, tmp_path, sharded=sharded)
    assert all(map(torch.equal, load_weights(tmp_path / "last.ckpt").values(), weights.values()))


def test_a_disk_that_fails_is_told_of(tmp_path):
    with folders_that(errno.EIO, "fsync"), pytest.raises(CheckpointError, match="Input/output error"):
        fit("reference", tmp_path, sharded=False)


def test_a_folder_that_is_not_synced_would_be_noticed(tmp_path, monkeypatch):
    """A negative control: the entry of the file would not be on the disk, and nobody told."""
    monkeypatch.setattr(files, "_sync", lambda folder: None)
    with pytest.raises(pytest.fail.Exception, match="DID NOT RAISE"):
        test_a_disk_that_fails_is_told_of(tmp_path)


@pytest.mark.parametrize("sharded", [False, True])
def test_a_file_system_that_cannot_would_be_called_a_full_disk(sharded, tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_NO_SYNC", ())
    with pytest.raises(CheckpointError):
        test_a_file_system_that_syncs_no_folders_is_no_full_disk("reference", sharded, errno.ENOTSUP, tmp_path)


@pytest.mark.parametrize("framework", BACKENDS)
@pytest.mark.parametrize("sharded", [False, True])
def test_best_and_last_are_files_that_could_be_written(framework, sharded, tmp_path):
    kept, what = ModelCheckpoint(tmp_path, save_last=True, save_top_k=2, sharded=sharded), spec()
    trainer = UnifiedTrainer(framework, max_epochs=4, enable_progress_bar=False, callbacks=[kept], seed=1)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    full = Event.EPOCH_START(once=3)
    trainer.on(full, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (ROOM, before[1])))
    try:
        with pytest.raises(CheckpointError):
            trainer.fit(what, BATCHES)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    names = [path.name for path, _ in kept.best_k_models]
    assert names == ["epoch=1-step=4.ckpt", "epoch=0-step=2.ckpt"]
    assert {one.name for one in tmp_path.iterdir()} == {*names, "last.ckpt"}
    assert kept.last_model_path == tmp_path / "last.ckpt"
    expected = fit("reference", tmp_path / "whole", sharded=False)
    again, resuming = (
        spec(),
        UnifiedTrainer(framework, max_epochs=3, enable_progress_bar=False, callbacks=[kept], seed=1),
    )
    resuming.fit(again, BATCHES, ckpt_path="best")
    assert all(map(torch.equal, again.model.state_dict().values(), expected.values()))


def test_names_that_are_kept_in_vain_would_be_noticed(tmp_path, monkeypatch):
    monkeypatch.setattr(ModelCheckpoint, "load_state_dict", lambda self, state: None)
    with pytest.raises(AssertionError):
        test_best_and_last_are_files_that_could_be_written("reference", False, tmp_path)


class Names:
    """A keeper that counts the names that it has given."""

    def __init__(self):
        self.given = []

    def take(self, wanted, run):
        self.given.append(wanted.name)
        return Path(wanted.name)

    def state_dict(self):
        return {"given": list(self.given)}

    def load_state_dict(self, state):
        self.given = list(state["given"])


class OneOfTwo(Collectives):
    """A rank of a team; what rank 0 sends is in ``sent``, for the other, which runs after it."""

    size = 2

    def __init__(self, rank, sent):
        self.rank, self.sent = rank, sent

    def all_gather_object(self, value):
        if self.rank == 0:
            self.sent.append(pickle.dumps(value))
        return [pickle.loads(self.sent[0]), value]


def names_after(failing, monkeypatch):
    """Write two files, of which one is ``failing``, on two ranks; return the names that each rank has kept."""

    def written(path, *_, **__):
        if path.name == failing:
            raise CheckpointError(f"{path} could not be written.")

    monkeypatch.setattr(saving, "write_one", written)
    sent, kept = [], []
    for rank in (0, 1):
        hub, names = EventHub(), Names()
        hub.keepers, hub.context = {"names": names}, object()
        hub.pending_checkpoints = [CheckpointRequest("names", one) for one in ("a", "b")]
        with pytest.raises(CheckpointError) if failing else nullcontext():
            saving.write_all(hub, dict, OneOfTwo(rank, sent))
        kept.append(names.given)
    return kept


@pytest.mark.parametrize(("failing", "names"), [("a", []), ("b", ["a"]), (None, ["a", "b"])])
def test_each_rank_forgets_the_names_of_files_that_are_not_there(failing, names, monkeypatch):
    assert names_after(failing, monkeypatch) == [names, names]
