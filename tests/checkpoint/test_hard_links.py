"""Files of one save share their bytes, and yet each stays what it is when another is removed or replaced."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import ignite.handlers
import lightning.pytorch
import pytest
import torch
from lightning.pytorch.demos.boring_classes import BoringModel

from unitrain import CheckpointError, Event, ModelCheckpoint, UnifiedTrainer, convert_checkpoint, load_weights
from unitrain.checkpoint import io
from unitrain.testing.cases import spec
from unitrain.testing.models import loader
from unitrain.utilities import files, ledger

FRAMEWORKS = ["reference", "lightning", "ignite"]
every_backend = pytest.mark.parametrize("framework", FRAMEWORKS)
BEST, LAST = "epoch=0.ckpt", "last.ckpt"


@pytest.fixture
def same_run(monkeypatch):
    """Let all runs have one name: it is in their files."""
    monkeypatch.setattr(ledger, "uuid", SimpleNamespace(uuid4=lambda: SimpleNamespace(hex="0" * 32)))


def fit(framework, folder, epochs=1, on=(), **options):
    """Train with scores that make the first epoch the best, and return the files by name."""
    keep = ModelCheckpoint(folder, "{epoch}", monitor="train/score", save_last=True, **options)
    trainer = UnifiedTrainer(framework, max_epochs=epochs, seed=0, enable_progress_bar=False, callbacks=[keep])
    trainer.on(Event.EPOCH_END, lambda run: run.log("score", run.state.epoch))
    for event, handler in on:
        trainer.on(event, handler)
    torch.manual_seed(5)
    trainer.fit(spec(), loader())
    return found_in(folder)


def found_in(folder):
    return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


def inode(path):
    return path.stat().st_ino


@contextmanager
def no_hard_links(number=errno.EPERM):
    def refused(*_):
        raise OSError(number, os.strerror(number))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "hardlink_to", refused)
        yield


@every_backend
def test_the_best_and_the_last_of_one_save_are_one_file(framework, tmp_path, same_run):
    found = {}
    for way, options in {"linked": {}, "written": {"hard_links": False}}.items():
        found[way] = fit(framework, tmp_path / "kept", **options)
        linked = inode(tmp_path / "kept" / BEST) == inode(tmp_path / "kept" / LAST)
        assert linked == (way == "linked")
        shutil.rmtree(tmp_path / "kept")
    assert found["linked"] == found["written"]
    assert found["linked"].keys() == {BEST, LAST}


@every_backend
@pytest.mark.parametrize("number", [errno.EPERM, errno.EXDEV, errno.EMLINK], ids=errno.errorcode.get)
def test_where_there_are_no_hard_links_the_same_bytes_are_written(framework, number, tmp_path, same_run):
    linked = fit(framework, tmp_path / "kept")
    shutil.rmtree(tmp_path / "kept")
    with no_hard_links(number):
        assert fit(framework, tmp_path / "kept") == linked
    assert inode(tmp_path / "kept" / BEST) != inode(tmp_path / "kept" / LAST)


@every_backend
def test_the_next_save_leaves_the_file_that_was_shared(framework, tmp_path):
    first = {}

    def note(_):
        first.update(found_in(tmp_path))

    fit(framework, tmp_path, epochs=3, on=[(Event.EPOCH_START(once=2), note)])
    assert first[BEST] == first[LAST]
    assert (tmp_path / BEST).read_bytes() == first[BEST]
    assert io.read(tmp_path / LAST)["epoch"] == 2
    assert set(found_in(tmp_path)) == {BEST, LAST}


def by_lightning(path):
    trainer = lightning.pytorch.Trainer(logger=False, enable_checkpointing=False, accelerator="cpu")
    trainer.strategy.connect(BoringModel())
    trainer.save_checkpoint(path)


def by_ignite(path):
    save = ignite.handlers.DiskSaver(str(path.parent), atomic=True, create_dir=False, require_empty=False)
    save({"weight": torch.zeros(1)}, path.name)


WAYS = {
    "removed": Path.unlink,
    "removed by the run": ledger.remove_checkpoint,
    "converted": lambda path: convert_checkpoint(path.with_name("other.ckpt"), path, "ignite", overwrite=True),
    "written by unitrain": lambda path: io.write(path, {}),
    "written by Lightning": by_lightning,
    "written by Ignite": by_ignite,
    "moved over": lambda path: path.with_name("other.ckpt").replace(path),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", [BEST, LAST])
def test_who_removes_or_replaces_one_does_not_change_the_other(way, name, tmp_path):
    before = fit("reference", tmp_path)
    other = {BEST: LAST, LAST: BEST}[name]
    shutil.copy(tmp_path / other, tmp_path / "other.ckpt")
    WAYS[way](tmp_path / name)
    assert not (tmp_path / name).exists() or way == "moved over" or (tmp_path / name).read_bytes() != before[name]
    assert (tmp_path / other).read_bytes() == before[other]
    assert load_weights(tmp_path / other)


def in_place(source, path):
    """Link as no one should: by a name that depends on the other."""
    path.unlink(missing_ok=True)
    path.symlink_to(source)
    return True


def test_a_name_that_depends_on_the_other_would_be_noticed(tmp_path, monkeypatch):
    monkeypatch.setattr(io, "linked", in_place)
    with pytest.raises((AssertionError, FileNotFoundError)):
        test_who_removes_or_replaces_one_does_not_change_the_other("removed", BEST, tmp_path)


def test_a_file_written_in_place_would_be_noticed(tmp_path, monkeypatch):
    @contextmanager
    def over(path, **_):
        with path.open("wb") as file:
            yield file

    before = fit("reference", tmp_path)
    monkeypatch.setattr(io, "written", over)
    io.write(tmp_path / LAST, {})
    assert (tmp_path / BEST).read_bytes() != before[BEST]


@every_backend
def test_a_file_that_somebody_has_changed_is_not_shared(framework, tmp_path):
    def replace(run):
        if run.hub.last_checkpoint.name == BEST:
            io.write(tmp_path / BEST, {"somebody's": 1})

    fit(framework, tmp_path, on=[(Event.CHECKPOINT_SAVED, replace)])
    assert io.read(tmp_path / BEST) == {"somebody's": 1}
    assert load_weights(tmp_path / LAST)


def test_the_mark_is_what_notices_it(tmp_path, monkeypatch):
    monkeypatch.setattr("unitrain.checkpoint.saving.mark_of", lambda path: (1,))
    with pytest.raises(CheckpointError):
        test_a_file_that_somebody_has_changed_is_not_shared("reference", tmp_path)


def test_of_two_callbacks_that_save_at_once_one_may_keep_to_itself(tmp_path):
    linked, alone = (ModelCheckpoint(tmp_path, name, hard_links=name == "a") for name in ("a", "b"))
    third = ModelCheckpoint(tmp_path, "c")
    trainer = UnifiedTrainer("ignite", max_epochs=1, enable_progress_bar=False, callbacks=[linked, alone, third])
    trainer.on(Event.EPOCH_END, lambda run: run.save_checkpoint(tmp_path / "mine.ckpt"))
    trainer.fit(spec(), loader())
    nodes = {name: inode(tmp_path / f"{name}.ckpt") for name in ("a", "b", "c", "mine")}
    assert nodes["a"] == nodes["c"]
    assert len(set(nodes.values())) == 3


def sweeping(monkeypatch, folder):
    """Let another writer look for leftovers just before a file gets its name."""
    replace = Path.replace

    def late(part, path):
        files.sweep(folder)
        return replace(part, path)

    monkeypatch.setattr(Path, "replace", late)


def test_another_writer_does_not_take_the_link_for_left_behind(tmp_path, monkeypatch):
    io.write(tmp_path / "a.ckpt", {})
    sweeping(monkeypatch, tmp_path)
    assert files.linked(tmp_path / "a.ckpt", tmp_path / "b.ckpt")
    assert sorted(found_in(tmp_path)) == ["a.ckpt", "b.ckpt"]


def test_a_link_without_a_lock_would_be_noticed(tmp_path, monkeypatch):
    io.write(tmp_path / "a.ckpt", {})
    sweeping(monkeypatch, tmp_path)
    monkeypatch.setattr(files, "_lock", lambda handle: None)
    with pytest.raises(FileNotFoundError):
        files.linked(tmp_path / "a.ckpt", tmp_path / "b.ckpt")


def test_a_process_killed_between_link_and_name_leaves_both_files_and_no_part(tmp_path):
    code = (
        "import os, signal, sys; from pathlib import Path; from unitrain.utilities import files\n"
        "Path.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
        "files.linked(Path(sys.argv[1]), Path(sys.argv[2]))"
    )
    names = "a.ckpt", "b.ckpt"
    for name in names:
        (tmp_path / name).write_text(name)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", code, *(str(tmp_path / name) for name in names)]
    assert subprocess.run(command, env=environment, check=False).returncode == -signal.SIGKILL
    assert len(found_in(tmp_path)) == 3
    files.sweep(tmp_path)
    assert found_in(tmp_path) == {name: name.encode() for name in names}
