"""The lock of a journal: free at once when its holder dies, and one with Optuna's."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from optuna.storages.journal import JournalFileSymlinkLock

from unitrain.compat import optuna_lock
from unitrain.compat.optuna import make_storage
from unitrain.compat.optuna_file import FileJournal
from unitrain.compat.optuna_lock import JournalLock

HOLDER = """
import os, signal, sys
from unitrain.compat.optuna import make_storage
lock = make_storage("journal://" + sys.argv[1])._backend._lock
with lock.held(os.open(sys.argv[1], os.O_RDWR)):
    os.kill(os.getpid(), signal.SIGKILL)
"""
RECORD = {"op_code": 2, "worker_id": "w", "study_id": 0, "user_attr": {"n": 1}}


class Holder:
    """Holds our lock from ``acquire`` to ``release``, as a process does while it writes."""

    def __init__(self, path):
        self.handle = os.open(path, os.O_RDWR)
        self._held = JournalLock(str(path), JournalFileSymlinkLock).held(self.handle)

    def acquire(self):
        self._held.__enter__()

    def release(self):
        try:
            self._held.__exit__(None, None, None)
        finally:
            os.close(self.handle)


@pytest.fixture
def path(tmp_path):
    """Return a journal without records."""
    found = tmp_path / "study.log"
    found.touch()
    return found


def die_while_writing(path):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", HOLDER, str(path)], env=environment, check=False)
    assert done.returncode == -signal.SIGKILL
    assert os.path.lexists(f"{path}.lock")


def begun(work):
    """Start something, which may have to wait."""
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(0.3)
    return thread


def test_a_worker_that_dies_while_it_writes_holds_nobody_up(path):
    die_while_writing(path)
    began = time.monotonic()
    make_storage(f"journal://{path}")._backend.append_logs([RECORD])
    assert time.monotonic() - began < 1
    assert not os.path.lexists(f"{path}.lock")


def test_a_child_that_was_forked_while_we_wrote_holds_nobody_up(path):
    first, second = Holder(path), Holder(path)
    first.acquire()
    inherited = os.dup(first.handle)  # as a fork has it
    first.release()
    waiting = begun(second.acquire)
    try:
        assert not waiting.is_alive()
    finally:
        os.close(inherited)
        waiting.join(3)
        second.release()


def test_optuna_alone_waits_for_a_dead_worker(path):
    die_while_writing(path)
    waiting = begun(JournalFileSymlinkLock(str(path)).acquire)
    assert waiting.is_alive(), "thirty seconds"
    Path(f"{path}.lock").unlink()
    waiting.join(3)
    assert not waiting.is_alive()


def test_optunas_own_processes_are_kept_out_and_keep_us_out(path):
    theirs = JournalFileSymlinkLock(str(path))
    for one, other in ((theirs, Holder(path)), (Holder(path), theirs)):
        one.acquire()
        waiting = begun(other.acquire)
        assert waiting.is_alive()
        one.release()
        waiting.join(3)
        assert not waiting.is_alive()
        other.release()


def test_two_threads_write_one_after_the_other(path):
    backends = [FileJournal(str(path), JournalFileSymlinkLock) for _ in range(4)]
    threads = [
        threading.Thread(target=lambda one=one: [one.append_logs([RECORD] * 3) for _ in range(20)]) for one in backends
    ]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert [json.loads(line) for line in path.read_text().splitlines()] == [RECORD] * 240


@pytest.mark.parametrize("grace", [0.1, 30.0])
def test_a_holder_that_is_stopped_is_waited_for_as_long_as_optuna_does(grace, path, monkeypatch):
    monkeypatch.setattr(optuna_lock, "_GRACE", grace)
    stopped, other = Holder(path), Holder(path)
    stopped.acquire()
    Path(f"{path}.lock").unlink()  # as Optuna does after thirty seconds
    waiting = begun(other.acquire)
    assert waiting.is_alive() is (grace > 1)
    if not waiting.is_alive():
        other.release()
    with pytest.raises(RuntimeError, match="did not possess lock"):
        stopped.release()
    waiting.join(3)
    assert not waiting.is_alive()
    if grace > 1:
        other.release()


def test_where_the_system_has_no_locks_optunas_is_used(path, monkeypatch):
    monkeypatch.setattr(optuna_lock, "fcntl", None)
    first, second = Holder(path), Holder(path)
    first.acquire()
    waiting = begun(second.acquire)
    assert waiting.is_alive()
    first.release()
    waiting.join(3)
    assert not waiting.is_alive()
    second.release()
