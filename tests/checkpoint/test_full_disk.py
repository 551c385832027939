"""A disk that is full in the middle of a run: the checkpoint before stays whole, and the run says which is missing.

The files of this process are limited in size, so that the system itself refuses the rest of a file, as a full disk does.
"""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial

import pytest
import torch
from torch import nn

from unitrain import CheckpointError, Event, ModelCheckpoint, TrainSpec, UnifiedTrainer
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
