"""On two processes: a run that has ended is resumed and touches no file, and a fit that fails cannot be rescued."""

from __future__ import annotations

import os
from hashlib import sha256

import pytest
import torch

from tests.distributed.ended import ENDS, FRAMEWORKS
from tests.distributed.sessions import torchrun
from unitrain import ModelCheckpoint, UnifiedTrainer, UnsupportedFeatureError, load_weights
from unitrain.testing import cases
from unitrain.testing.models import loader
from unitrain.testing.trace import differences

ENDED = {"epochs": (1, 6, "max_epochs"), "steps": (1, 4, "max_steps"), "early stopping": (1, 6, "early_stopping")}
"""Epoch, steps and reason; an epoch of 22 samples in batches of 4 on two processes has 3 steps."""


def files(folder):
    """Return each file with what tells that somebody wrote, replaced or only touched it."""
    found = {path: path.stat() for path in folder.rglob("*")}
    return {
        path: (info.st_ino, info.st_mtime_ns, sha256(path.read_bytes()).hexdigest() if path.is_file() else None)
        for path, info in found.items()
    }


def told_again(end, result, got):
    """Return what a resumed run that has ended is to tell.

    Its checkpoint goes on within an epoch that the last step cut short: that epoch's row and its means are not in it.
    """
    if end != "steps":
        return result
    measured = {name: value for name, value in result["metrics"].items() if name.startswith("val/")}
    before = {name: value for name, value in result["history"][-2].items() if name.startswith("train/")}
    return {**result, "history": result["history"][:-1], "metrics": {**got["metrics"], **measured, **before}}


def runs(folder, task):
    """Let torchrun do a task, and return what each rank got."""
    ended = torchrun("ended.py", folder, task, timeout=550)
    assert ended.returncode == 0, ended.stderr
    return [torch.load(folder / f"{task}-{rank}.pt", weights_only=False) for rank in range(2)]


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_run_of_two_that_has_ended_gives_its_result_again_and_touches_no_file(tmp_path):
    wrote = runs(tmp_path, "write")
    for end, (epoch, step, reason) in ENDED.items():
        for writer in FRAMEWORKS:
            result = wrote[0][end, writer]["result"]
            assert (result["epoch"], result["step"], result["stopped_by"]) == (epoch, step, reason), (end, writer)
    folders = [tmp_path / f"{end}-{writer}" for end in ENDS for writer in FRAMEWORKS]
    before = [files(folder) for folder in folders]
    again = runs(tmp_path, "resume")
    assert [files(folder) for folder in folders] == before
    for rank, found in enumerate(again):
        assert len(found) == 27
        for (end, writer, reader), got in found.items():
            cell, expected = f"{end}, {writer} -> {reader}, rank {rank}", wrote[rank][end, writer]
            assert got["batches"] == 0, cell
            assert got["result"] == told_again(end, expected["result"], got["result"]), cell
            assert not differences(got["weights"], expected["weights"]), cell
            assert not differences(dict(got["weights"]), dict(load_weights(got["result"]["last_checkpoint"]))), cell
            assert not differences(got["optimizer"], expected["optimizer"]), cell


@pytest.mark.slow
@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_rescue_of_two_processes_is_refused_before_either_trains(framework, tmp_path):
    """Rank 1 would fail in its second epoch: neither comes so far, and nothing is written that could not be read."""
    ended = torchrun("ended.py", tmp_path, framework)
    assert ended.returncode != 0
    assert "ModelCheckpoint(save_on_exception=True) would need the state of a failed process" in ended.stderr
    assert "ModelCheckpoint(every_n_train_steps=...)" in ended.stderr
    assert "ZeroDivisionError" not in ended.stderr
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["started-0", "started-1"]


@pytest.mark.slow
def test_a_rescue_of_processes_that_unitrain_starts_is_refused_in_the_parent(tmp_path):
    keep = ModelCheckpoint(tmp_path / "kept", save_on_exception=True)
    trainer = UnifiedTrainer(
        "ignite", devices=2, accelerator="cpu", max_epochs=1, callbacks=[keep], default_root_dir=tmp_path
    )
    with pytest.raises(UnsupportedFeatureError, match="save_on_exception=True") as caught:
        trainer.fit(cases.spec(), loader())
    assert "every_n_train_steps" in caught.value.hint
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("act", ["touch", "replace", "add"])
def test_a_file_that_somebody_touched_would_be_noticed(act, tmp_path):
    """A negative control."""
    one = tmp_path / "one"
    one.write_bytes(b"1")
    before = files(tmp_path)
    assert files(tmp_path) == before
    if act == "touch":
        os.utime(one, ns=(0, 0))
    else:
        (tmp_path / "two").write_bytes(b"1")
        (tmp_path / "two").replace(one) if act == "replace" else None
    assert files(tmp_path) != before
