"""A run overwrites and removes only files that it wrote: across callbacks, runs, processes, folders and kills."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from unitrain import CheckpointError, ConfigError, Event, ModelCheckpoint, UnifiedTrainer, load_weights
from unitrain.checkpoint import io
from unitrain.checkpoint.convert.conversion import convert_checkpoint
from unitrain.testing.cases import spec
from unitrain.testing.models import loader
from unitrain.utilities import files
from unitrain.utilities.ledger import Ledger

FRAMEWORKS = ["reference", "lightning", "ignite"]
every_backend = pytest.mark.parametrize("framework", FRAMEWORKS)


def fit(framework, *kept, root=".", epochs=2, seed=0, ckpt_path=None, scores=None):
    trainer = UnifiedTrainer(
        framework, max_epochs=epochs, seed=seed, enable_progress_bar=False, callbacks=kept, default_root_dir=root
    )
    if scores is not None:
        trainer.on(Event.EPOCH_END, lambda run: run.log("score", scores[run.state.epoch]))
    torch.manual_seed(seed)
    return trainer.fit(spec(), loader(), loader(), ckpt_path=ckpt_path)


def names(folder):
    return sorted(path.name for path in Path(folder).iterdir())


def contents(folder):
    return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


@every_backend
def test_two_callbacks_share_a_folder(framework, tmp_path):
    best = ModelCheckpoint(tmp_path, "{epoch}", monitor="train/score", save_last=True)
    every = ModelCheckpoint(tmp_path, "{epoch}", save_top_k=-1, save_last=True)
    fit(framework, best, every, epochs=3, scores=[3, 1, 2])
    assert names(tmp_path) == [
        *("epoch=0-v1.ckpt", "epoch=1-v1.ckpt", "epoch=1.ckpt"),
        *("epoch=2.ckpt", "last-v1.ckpt", "last.ckpt"),
    ]
    assert [path.name for path, _ in every.best_k_models] == ["epoch=2.ckpt", "epoch=1-v1.ckpt", "epoch=0-v1.ckpt"]
    assert all(io.read(path)["epoch"] == 2 - place for place, (path, _) in enumerate(every.best_k_models))


@every_backend
def test_a_second_run_leaves_the_first_ones_files(framework, tmp_path):
    fit(framework, ModelCheckpoint(tmp_path, "{epoch}", save_last=True), epochs=1)
    before = contents(tmp_path)
    result = fit(framework, ModelCheckpoint(tmp_path, "{epoch}", save_last=True), epochs=2, seed=1)
    assert {name: data for name, data in contents(tmp_path).items() if name in before} == before
    assert names(tmp_path) == ["epoch=0.ckpt", "epoch=1.ckpt", "last-v1.ckpt", "last.ckpt"]
    assert result.last_checkpoint == tmp_path / "last-v1.ckpt"


def test_negative_control_without_the_check_files_are_lost(tmp_path, monkeypatch):
    monkeypatch.setattr(Ledger, "take", lambda self, path, owner, over=None: path)
    with pytest.raises(AssertionError):
        test_a_second_run_leaves_the_first_ones_files("reference", tmp_path)


@every_backend
def test_each_run_has_a_default_folder_and_a_resumed_one_keeps_it(framework, tmp_path):
    first = fit(framework, ModelCheckpoint(save_last=True), ModelCheckpoint(save_top_k=-1), root=tmp_path)
    second = fit(framework, ModelCheckpoint(save_last=True), root=tmp_path, seed=1)
    assert (first.best_checkpoint.parent.name, second.best_checkpoint.parent.name) == ("checkpoints", "checkpoints-2")
    assert not torch.equal(*(next(iter(load_weights(one.best_checkpoint).values())) for one in (first, second)))
    keeper = ModelCheckpoint(save_last=True)
    third = fit(framework, keeper, root=tmp_path, epochs=3, ckpt_path=second.last_checkpoint)
    assert third.last_checkpoint == tmp_path / "checkpoints-2" / "last.ckpt"
    assert names(tmp_path) == ["checkpoints", "checkpoints-2"]
    assert keeper.earlier_files(UnifiedTrainer("reference", default_root_dir=tmp_path).config)[0].name == "last.ckpt"


@every_backend
def test_resuming_into_another_folder_leaves_the_old_one(framework, tmp_path):
    options = {"monitor": "train/score", "save_top_k": 2, "save_last": True}
    fit(framework, ModelCheckpoint(tmp_path / "a", **options), scores=[1, 2])
    before = contents(tmp_path / "a")
    with pytest.warns(UserWarning, match="stay there"):
        result = fit(
            framework,
            ModelCheckpoint(tmp_path / "b", **options),
            epochs=4,
            scores=[1, 2, 0, -1],
            ckpt_path=tmp_path / "a" / "last.ckpt",
        )
    assert contents(tmp_path / "a") == before
    assert result.best_checkpoint.parent == tmp_path / "b"


@every_backend
@pytest.mark.parametrize("move", [shutil.move, shutil.copytree])
def test_a_renamed_or_copied_folder_is_the_runs_own(framework, move, tmp_path):
    options = {"monitor": "train/score", "save_last": True}
    fit(framework, ModelCheckpoint(tmp_path / "a", "{epoch}", **options), scores=[1, 2])
    move(tmp_path / "a", tmp_path / "b")
    kept = ModelCheckpoint(tmp_path / "b", "{epoch}", **options)
    result = fit(framework, kept, epochs=3, scores=[1, 2, 3], ckpt_path=tmp_path / "b" / "last.ckpt")
    assert result.best_checkpoint == tmp_path / "b" / "epoch=0.ckpt"
    assert names(tmp_path / "b") == ["epoch=0.ckpt", "last.ckpt"]


@every_backend
def test_a_file_that_was_replaced_meanwhile_is_not_ours(framework, tmp_path):
    kept = ModelCheckpoint(tmp_path, "best", save_last=True)
    trainer = UnifiedTrainer(framework, max_epochs=2, enable_progress_bar=False, callbacks=[kept])

    @trainer.on(Event.EPOCH_START(once=2))
    def replace():
        for name in ("last.ckpt", "best.ckpt"):
            (tmp_path / name).write_bytes(b"somebody's")

    result = trainer.fit(spec(), loader())
    assert [(tmp_path / name).read_bytes() for name in ("best.ckpt", "last.ckpt")] == [b"somebody's"] * 2
    assert (result.best_checkpoint.name, result.last_checkpoint.name) == ("best-v1.ckpt", "last-v1.ckpt")


_WRITER = """
import sys
from unitrain import Event, ModelCheckpoint, UnifiedTrainer, load_weights
from unitrain.testing.cases import spec
from unitrain.testing.models import loader
import time, torch
torch.manual_seed(int(sys.argv[2]))
given = spec()
trainer = UnifiedTrainer("reference", max_epochs=int(sys.argv[3]), enable_progress_bar=False,
                         callbacks=[ModelCheckpoint(sys.argv[1], "{epoch}", save_last=True)])
trainer.on(Event.EPOCH_END, lambda: time.sleep(0.05))
result = trainer.fit(given, loader())
found = load_weights(result.best_checkpoint)
assert all(torch.equal(found[name], value) for name, value in given.model.state_dict().items())
"""


def start(folder, seed, epochs):
    return subprocess.Popen([sys.executable, "-c", _WRITER, str(folder), str(seed), str(epochs)])


def test_two_processes_share_a_folder(tmp_path):
    writers = [start(tmp_path, seed, 4) for seed in range(2)]
    assert [one.wait(60) for one in writers] == [0, 0]
    assert not [name for name in names(tmp_path) if name.startswith(".")]


def test_what_a_killed_process_left_is_removed_and_what_lives_stays(tmp_path):
    kill = "import os, sys; from pathlib import Path; from unitrain.utilities import files\n"
    kill += "with files.written(Path(sys.argv[1])) as file: file.write(b'x'); file.flush(); os.kill(os.getpid(), 9)"
    left = subprocess.run([sys.executable, "-c", kill, str(tmp_path / "a.ckpt")], check=False).returncode
    assert left == -signal.SIGKILL
    assert names(tmp_path)[0].endswith(".part")
    foreign = tmp_path / ".a.ckpt.another_host-1-00000000.part"
    foreign.touch()
    with files.written(tmp_path / "b.ckpt") as file:
        living = [name for name in names(tmp_path) if name.startswith(".b.ckpt.")]
        io.write(tmp_path / "c.ckpt", {})
        assert names(tmp_path) == sorted([foreign.name, *living, "c.ckpt"])
        file.write(b"y")
    assert names(tmp_path) == [foreign.name, "b.ckpt", "c.ckpt"]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_thirty_kills_leave_no_part(tmp_path):
    for _ in range(30):
        before = set(names(tmp_path))
        writer = start(tmp_path, 0, 100000)
        try:
            # The number of files would not tell: the writer removes what the one before it left.
            while set(names(tmp_path)) <= before and writer.poll() is None:
                time.sleep(0.01)
            assert writer.poll() is None  # it was killed while it wrote
        finally:
            writer.kill()
            writer.wait()
    io.write(tmp_path / "after.ckpt", {})
    assert not [name for name in names(tmp_path) if name.startswith(".")]


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_files_follow_the_umask(mask, tmp_path):
    before = os.umask(mask)
    try:
        io.write(tmp_path / "a.ckpt", {})
    finally:
        os.umask(before)
    assert (tmp_path / "a.ckpt").stat().st_mode & 0o777 == 0o666 & ~mask


@every_backend
@pytest.mark.parametrize("name", ["acc@5", "f1 (macro)", "50%", "größe", "a:b", "deep/er"])
def test_every_metric_can_stand_in_a_name(framework, name, tmp_path):
    kept = ModelCheckpoint(tmp_path, f"{{epoch}}-{{x/{name}:.2f}}.ckpt")
    trainer = UnifiedTrainer(framework, max_epochs=1, enable_progress_bar=False, callbacks=[kept])
    trainer.on(Event.EPOCH_END, lambda run: run.log(f"x/{name}", 0.5))
    trainer.fit(spec(), loader())
    safe = name.replace("/", "_").replace(":", "_")
    assert names(tmp_path) == [f"epoch=0-x_{safe}=0.50.ckpt"]


@pytest.mark.parametrize(
    "name", ["../x", "/x", "a/b", "a\0b", "x" * 260, "ü" * 130, "", ".ckpt", "..", "{epoch", "{}", "{epoch:zz}", 3]
)
def test_what_is_no_name_of_a_file_is_refused_at_once(name):
    with pytest.raises(ConfigError, match="Hint: "):
        ModelCheckpoint("kept", name)


def test_convert_and_consolidate_do_not_overwrite_unasked(tmp_path):
    result = fit("reference", ModelCheckpoint(tmp_path, "a"), epochs=1)
    target = tmp_path / "b.ckpt"
    target.write_text("mine")
    with pytest.raises(ConfigError, match="overwrite"):
        convert_checkpoint(result.best_checkpoint, target, "lightning")
    assert target.read_text() == "mine"
    convert_checkpoint(result.best_checkpoint, target, "lightning", overwrite=True)
    assert io.read(target)["state_dict"]


@every_backend
def test_a_folder_with_other_things_becomes_no_sharded_checkpoint(framework, tmp_path):
    (tmp_path / "data-2024").mkdir()
    trainer = UnifiedTrainer(framework, max_epochs=1, enable_progress_bar=False)
    trainer.fit(spec(), loader())
    with pytest.raises(CheckpointError, match="data-2024"):
        trainer.save_checkpoint(tmp_path, sharded=True)
    assert names(tmp_path) == ["data-2024"]


@every_backend
def test_a_run_that_is_stopped_knows_the_files_that_were_due_by_then(framework, tmp_path):
    for step in (2, 5, 7):
        kept = ModelCheckpoint(tmp_path, "{step}", every_n_train_steps=1, save_top_k=2, save_last=True)
        trainer = UnifiedTrainer(framework, max_epochs=9, enable_progress_bar=False, callbacks=[kept])
        trainer.on(Event.BATCH_END, lambda run, step=step: run.stop() if run.state.step == step else None)
        trainer.fit(spec(), loader(), ckpt_path=None if step == 2 else tmp_path / "last.ckpt")
        assert names(tmp_path) == ["last.ckpt", f"step={step - 1}.ckpt", f"step={step}.ckpt"]
        ranked = io.read(tmp_path / "last.ckpt")["unitrain"]["callbacks"]["ModelCheckpoint"]["best_k_models"]
        assert [Path(path).name for path, _ in ranked] == [f"step={step}.ckpt", f"step={step - 1}.ckpt"]


def test_a_claim_that_was_released_and_taken_again_meanwhile_stays(tmp_path, monkeypatch):
    path = tmp_path / "a.ckpt"
    first, taken = files.claimed(path), []
    lock = files.fcntl.flock

    def late(handle, mode):
        if not taken and mode & files.fcntl.LOCK_NB:  # between opening the marker and locking it
            first.release()
            taken.append(None)
            taken[0] = files.claimed(path)
        lock(handle, mode)

    monkeypatch.setattr(files.fcntl, "flock", late)
    assert files.claimed(path) is None
    assert taken[0].marker.exists()
    taken[0].release()


def test_a_process_killed_while_it_reserves_a_name_leaves_the_name_free(tmp_path):
    code = (
        "import os, signal, sys; from pathlib import Path; from unitrain.utilities import files\n"
        "os.write = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
        "files.claimed(Path(sys.argv[1]))"
    )
    path = tmp_path / "last.ckpt"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    killed = subprocess.run([sys.executable, "-c", code, str(path)], env=environment, check=False)
    assert killed.returncode == -signal.SIGKILL
    claim = files.claimed(path)
    assert claim is not None, "the next process would write last-v1.ckpt beside an outdated last.ckpt"
    claim.release()
    files.sweep(tmp_path)
    assert not list(tmp_path.iterdir())


def test_names_are_reserved_without_hard_links_too(tmp_path, monkeypatch):
    def unsupported(*_):
        raise PermissionError(errno.EPERM, "no hard links")

    monkeypatch.setattr(Path, "hardlink_to", unsupported)
    claim = files.claimed(tmp_path / "last.ckpt")
    assert claim is not None
    assert files.claimed(tmp_path / "last.ckpt") is None
    claim.release()
    assert not list(tmp_path.iterdir())
