"""A thread writes checkpoints while the run goes on: the same files, events and errors, only later."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from unitrain import CheckpointError, ConfigError, Event, ModelCheckpoint, UnifiedTrainer, UnsupportedFeatureError
from unitrain.checkpoint import capture, io, saving
from unitrain.run.hub import EventHub
from unitrain.session.distributed_refusals import require_together
from unitrain.testing.cases import spec
from unitrain.testing.models import loader
from unitrain.testing.trace import differences
from unitrain.utilities import ledger

FRAMEWORKS = ["reference", "lightning", "ignite"]
every_backend = pytest.mark.parametrize("framework", FRAMEWORKS)
PATIENCE = 20
"""Seconds after which a test fails that would wait forever."""


def fit(framework, *kept, on=(), epochs=2, ckpt_path=None, **options):
    trainer = UnifiedTrainer(framework, max_epochs=epochs, seed=0, enable_progress_bar=False, callbacks=kept, **options)
    for event, handler in on:
        trainer.on(event, handler)
    torch.manual_seed(5)
    made = spec()
    return trainer.fit(made, loader(), loader(), ckpt_path=ckpt_path), made


def found_in(folder):
    return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


@pytest.fixture
def same_run(monkeypatch):
    """Let all runs have one name: it is in their files."""
    monkeypatch.setattr(ledger, "uuid", SimpleNamespace(uuid4=lambda: SimpleNamespace(hex="0" * 32)))


WAYS = {
    "epochs": {"save_last": True, "monitor": "val/loss", "save_top_k": 2},
    "steps": {"save_last": True, "every_n_train_steps": 2, "save_top_k": 2},
    "the end": {"save_last": True, "every_n_epochs": 9},
}


@every_backend
@pytest.mark.parametrize("way", WAYS)
def test_it_writes_the_bytes_of_a_synchronous_save(way, framework, tmp_path, same_run):
    folder, seen = tmp_path / "kept", []
    for asynchronous in (False, True):
        saved = []
        note = Event.CHECKPOINT_SAVED, lambda run, saved=saved: saved.append(run.hub.last_checkpoint)
        keep = ModelCheckpoint(folder, "{epoch}-{step}", asynchronous=asynchronous, **WAYS[way])
        result, made = fit(framework, keep, on=[note])
        seen.append((found_in(folder), saved, result.best_checkpoint, result.last_checkpoint, result.history))
        assert all(
            map(torch.equal, made.model.state_dict().values(), io.read(folder / "last.ckpt")["state_dict"].values())
        )
        shutil.rmtree(folder)
    assert seen[0] == seen[1]
    assert len(seen[0][0]) == len(set(seen[0][1])) or way == "steps"


def test_events_that_come_late_would_be_noticed(tmp_path, same_run, monkeypatch):
    """The files count the saves, so each save must be announced before the next one is captured."""
    finish = EventHub.finish_save
    monkeypatch.setattr(EventHub, "finish_save", lambda hub: finish(hub) if hub.context.at_rest else None)
    with pytest.raises(AssertionError):
        test_it_writes_the_bytes_of_a_synchronous_save("steps", "reference", tmp_path, same_run)


class Held:
    """Holds the first file that is written until it is released.

    Args:
        monkeypatch: Pytest's.
    """

    def __init__(self, monkeypatch):
        self.writing, self.released = threading.Event(), threading.Event()
        write = saving.write_one

        def held(path, *args, **kwargs):
            if not self.writing.is_set():
                self.writing.set()
                assert self.released.wait(PATIENCE), "the run waited for its file"
            write(path, *args, **kwargs)

        monkeypatch.setattr(saving, "write_one", held)


@every_backend
def test_the_run_goes_on_and_the_file_has_the_weights_of_the_save(framework, tmp_path, monkeypatch):
    held, weights = Held(monkeypatch), {}

    def note(run):
        weights[run.state.step] = {name: one.clone() for name, one in run.model.state_dict().items()}
        if run.state.step == 4:
            assert held.writing.is_set()
            assert not [one for one in tmp_path.iterdir() if not one.name.startswith(".")]
            held.released.set()

    keep = ModelCheckpoint(tmp_path, "{step}", every_n_train_steps=3, save_top_k=-1, asynchronous=True)
    fit(framework, keep, on=[(Event.BATCH_END, note)], epochs=1)
    assert sorted(found_in(tmp_path)) == ["step=3.ckpt", "step=6.ckpt"]
    for step in (3, 6):
        found = io.read(tmp_path / f"step={step}.ckpt")["state_dict"]
        assert not differences(weights[step], {name.removeprefix("model."): one for name, one in found.items()})


class AtOnce(threading.Thread):
    """A thread that is none."""

    def start(self):
        self.run()

    def join(self):
        """There is nothing to wait for."""


def test_a_run_that_waits_would_be_noticed(tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "PATIENCE", 0.2)
    monkeypatch.setattr(saving, "Thread", AtOnce)
    with pytest.raises(AssertionError, match="the run waited"):
        test_the_run_goes_on_and_the_file_has_the_weights_of_the_save("reference", tmp_path, monkeypatch)


def test_weights_that_are_not_copied_would_be_noticed(tmp_path, monkeypatch):
    monkeypatch.setattr(saving, "set_apart", lambda content: content)
    with pytest.raises((AssertionError, CheckpointError)):  # other weights, or such as change while they are written
        test_the_run_goes_on_and_the_file_has_the_weights_of_the_save("reference", tmp_path, monkeypatch)


@every_backend
def test_an_older_file_stays_until_the_new_one_is_complete(framework, tmp_path, monkeypatch):
    seen = []

    def slow(path, *args, **kwargs):
        time.sleep(0.05)
        before = {one.name for one in tmp_path.glob("*.ckpt")}
        write(path, *args, **kwargs)
        seen.append((before, {one.name for one in tmp_path.glob("*.ckpt")}))

    write = saving.write_one
    monkeypatch.setattr(saving, "write_one", slow)
    announced = []

    def note(run):
        assert io.read(run.hub.last_checkpoint)
        announced.append(run.hub.last_checkpoint.name)

    keep = ModelCheckpoint(tmp_path, "{epoch}", asynchronous=True)
    fit(framework, keep, on=[(Event.CHECKPOINT_SAVED, note)], epochs=3)
    names = [f"epoch={epoch}.ckpt" for epoch in range(3)]
    assert announced == names
    assert seen == [(set(), {names[0]}), ({names[0]}, set(names[:2])), ({names[1]}, set(names[1:]))]
    assert list(found_in(tmp_path)) == names[2:]


def test_a_file_announced_before_it_is_there_would_be_noticed(tmp_path, monkeypatch):
    monkeypatch.setattr(saving.Thread, "join", lambda thread: None)
    with pytest.raises((AssertionError, CheckpointError)):
        test_an_older_file_stays_until_the_new_one_is_complete("reference", tmp_path, monkeypatch)
    time.sleep(0.5)


ROOM = 2_000
"""Bytes of a file at most: a checkpoint has more."""


def fit_until_full(framework, folder, *, asynchronous):
    """Fill the disk in the second epoch; return what is seen of it."""
    keep, there = ModelCheckpoint(folder, "{epoch}", save_last=True, save_top_k=2, asynchronous=asynchronous), {}
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(run):
        run.hub.finish_save()
        there.update(found_in(folder))
        resource.setrlimit(resource.RLIMIT_FSIZE, (ROOM, before[1]))

    try:
        with pytest.raises(CheckpointError) as raised:
            fit(framework, keep, on=[(Event.EPOCH_START(once=2), fill)], epochs=4)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert there
    assert found_in(folder) == there  # no part of a file, no claim, no file less
    return there, str(raised.value), keep.state_dict() | {"newest_step": None}


@every_backend
def test_a_full_disk_ends_the_run_as_without_a_thread(framework, tmp_path, same_run):
    folder, seen = tmp_path / "kept", []
    for asynchronous in (False, True):
        seen.append(fit_until_full(framework, folder, asynchronous=asynchronous))
        shutil.rmtree(folder)
    assert "could not be written" in seen[1][1]
    assert seen[0] == seen[1]


def test_an_error_that_nobody_raises_would_be_noticed(tmp_path, monkeypatch):
    monkeypatch.setattr(
        saving._Unfinished, "_error", property(lambda self: None, lambda self, error: None), raising=False
    )
    with pytest.raises(pytest.fail.Exception, match="DID NOT RAISE"):
        fit_until_full("reference", tmp_path, asynchronous=True)


@every_backend
def test_a_run_that_fails_waits_for_its_files_and_notes_their_error(framework, tmp_path, monkeypatch):
    held = Held(monkeypatch)

    def fail(run):
        assert held.writing.wait(PATIENCE)
        threading.Timer(0.1, held.released.set).start()
        raise ValueError("mine")

    keep = ModelCheckpoint(tmp_path, "{step}", every_n_train_steps=2, asynchronous=True)
    with pytest.raises(ValueError, match="mine"):
        fit(framework, keep, on=[(Event.BATCH_START(once=4), fail)])
    assert list(found_in(tmp_path)) == ["step=2.ckpt"]
    assert keep.best_model_path == tmp_path / "step=2.ckpt"


def test_both_errors_of_a_run_that_fails_are_told(tmp_path, monkeypatch):
    def full(path, *_, **__):
        raise CheckpointError(f"{path} could not be written.")

    def fail(run):
        raise ValueError("mine")

    monkeypatch.setattr(saving, "write_one", full)
    keep = ModelCheckpoint(tmp_path, "{step}", every_n_train_steps=2, asynchronous=True)
    with pytest.raises(ValueError, match="mine") as raised:
        fit("reference", keep, on=[(Event.BATCH_START(once=4), fail)])
    assert "step=2.ckpt could not be written" in raised.value.__notes__[-1]
    assert keep.best_model_path is None


def test_a_signal_writes_its_file_at_once_after_the_one_that_is_being_written(tmp_path, monkeypatch):
    held = Held(monkeypatch)

    def end(run):
        threading.Timer(0.1, held.released.set).start()
        os.kill(os.getpid(), signal.SIGTERM)

    keep = ModelCheckpoint(tmp_path, "{step}", every_n_train_steps=2, asynchronous=True)
    result, _ = fit("ignite", keep, on=[(Event.BATCH_START(once=4), end)])
    assert sorted(found_in(tmp_path)) == ["interrupted.ckpt", "step=4.ckpt"]
    assert result.stopped_by == "signal"


def test_beside_a_file_that_is_due_at_once_it_is_written_at_once(tmp_path, monkeypatch):
    threads = []
    write = saving.write_one
    monkeypatch.setattr(
        saving,
        "write_one",
        lambda *args, **kwargs: threads.append(threading.current_thread()) or write(*args, **kwargs),
    )
    later, now = (ModelCheckpoint(tmp_path, name, asynchronous=name == "later") for name in ("later", "now"))
    fit("reference", later, now, epochs=1)
    assert threads == [threading.main_thread()] * 2


SCRIPT = """
import os, sys, time, torch
torch.set_num_threads(1)
from unitrain import Event, ModelCheckpoint, UnifiedTrainer
from unitrain.testing.cases import spec
from unitrain.testing.models import loader
torch.manual_seed(5)
keep = ModelCheckpoint(sys.argv[2], "{step}", every_n_train_steps=2, save_last=True, asynchronous=True)
trainer = UnifiedTrainer(sys.argv[1], max_epochs=-1, seed=0, enable_progress_bar=False, callbacks=[keep])
sync, count = os.fsync, 0
def slow(handle):
    global count
    count += 1
    if count > 6:  # in the middle of a save: the bytes are there, the name is not
        print("writing", flush=True)
        time.sleep(60)
    sync(handle)
os.fsync = slow
trainer.fit(spec(), loader(), loader())
"""


@pytest.mark.parametrize("framework", ["ignite", pytest.param("lightning", marks=pytest.mark.slow)])
def test_a_kill_in_the_middle_of_a_write_leaves_the_file_before(framework, tmp_path):
    command = [sys.executable, "-c", SCRIPT, framework, str(tmp_path)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "writing\n"
        process.kill()
    assert process.returncode == -signal.SIGKILL
    left = [one.name for one in tmp_path.iterdir() if one.name.endswith(".part")]
    assert len(left) == 1
    newest = max(tmp_path.glob("step=*.ckpt"), key=lambda path: path.stat().st_mtime_ns)
    step = io.read(newest)["unitrain"]["hub"]["step"]
    whole = fit("reference", epochs=None, max_steps=step + 3)[1]
    keep = ModelCheckpoint(tmp_path, "{step}", every_n_train_steps=2, save_last=True)
    rest = fit(framework, keep, epochs=None, max_steps=step + 3, ckpt_path=tmp_path / "last.ckpt")[1]
    assert not differences(dict(whole.model.state_dict()), dict(rest.model.state_dict()))
    assert len(found_in(tmp_path)) == 2


@every_backend
def test_an_older_file_that_a_kill_has_left_is_removed_by_the_resumed_run(framework, tmp_path):
    """A kill between the end of a write and its announcement leaves what is copied here."""

    def copy(run):
        if run.state.step == 5:
            run.hub.unfinished_save._thread.join()
            shutil.copytree(tmp_path / "run", tmp_path / "left", ignore=shutil.ignore_patterns(".*"))

    options = {"every_n_train_steps": 2, "save_last": True, "asynchronous": True}
    fit(framework, ModelCheckpoint(tmp_path / "run", "{step}", **options), on=[(Event.BATCH_END, copy)])
    assert sorted(found_in(tmp_path / "left")) == ["last.ckpt", "step=2.ckpt", "step=4.ckpt"]
    keep = ModelCheckpoint(tmp_path / "left", "{step}", **options)
    fit(framework, keep, ckpt_path=tmp_path / "left" / "last.ckpt")
    assert sorted(found_in(tmp_path / "left")) == sorted(found_in(tmp_path / "run"))


def test_a_run_that_does_not_remember_it_would_be_noticed(tmp_path, monkeypatch):
    state_dict = ModelCheckpoint.state_dict
    monkeypatch.setattr(ModelCheckpoint, "state_dict", lambda self: state_dict(self) | {"fallen": []})
    with pytest.raises(AssertionError):
        test_an_older_file_that_a_kill_has_left_is_removed_by_the_resumed_run("reference", tmp_path)


def test_where_it_cannot_hold_it_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"sharded=True[\s\S]*Hint: "):
        ModelCheckpoint(tmp_path, asynchronous=True, sharded=True)
    config = UnifiedTrainer("reference").config
    with pytest.raises(UnsupportedFeatureError, match=r"asynchronous=True[\s\S]*Hint: asynchronous=False"):
        require_together(config, torch.device("cpu"), [ModelCheckpoint(tmp_path, asynchronous=True)], closure=False)


def saved_bytes(content, path):
    torch.save(content, path)
    return path.read_bytes()


def test_a_copy_that_is_set_apart_has_the_same_bytes(tmp_path):
    base = torch.arange(12.0).reshape(3, 4)
    same = (1, 2)
    content = {
        "whole": base,
        "transposed": base.T,
        "a row": base[1],
        "expanded": torch.ones(1).expand(5),
        "again": base,
        "trained": torch.nn.Parameter(torch.zeros(2)),
        "with a gradient": torch.ones(2, requires_grad=True) * 2,
        "empty": torch.empty(0, 3),
        "others": [same, same, "text", 1.5, None, bytearray(b"x"), {1, 2}, torch.float16, torch.Size((1, 2))],
    }
    content["with a gradient"] = content["with a gradient"].detach().requires_grad_()
    apart = capture.set_apart(content)
    before = saved_bytes(content, tmp_path / "a")
    assert saved_bytes(apart, tmp_path / "a") == before
    with torch.no_grad():
        base.add_(1)
        content["trained"].add_(1)
    content["others"][5].extend(b"y")
    assert saved_bytes(apart, tmp_path / "a") == before
