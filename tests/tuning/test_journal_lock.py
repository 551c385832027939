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
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock

from unitrain.compat import optuna_lock
from unitrain.compat.optuna import make_storage
from unitrain.compat.optuna_lock import JournalLock, journal_lock

HOLDER = """
import os, signal, sys
from unitrain.compat.optuna import make_storage
make_storage("journal://" + sys.argv[1])._backend._lock.acquire()
os.kill(os.getpid(), signal.SIGKILL)
"""
RECORD = {"op_code": 2, "worker_id": "w", "study_id": 0, "user_attr": {"n": 1}}


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


def test_a_worker_that_dies_while_it_writes_holds_nobody_up(tmp_path):
    path = tmp_path / "study.log"
    die_while_writing(path)
    began = time.monotonic()
    make_storage(f"journal://{path}")._backend.append_logs([RECORD])
    assert time.monotonic() - began < 1
    assert not os.path.lexists(f"{path}.lock")


def test_a_child_that_was_forked_while_we_wrote_holds_nobody_up(tmp_path):
    path = tmp_path / "study.log"
    first, second = (JournalLock(str(path), JournalFileSymlinkLock) for _ in range(2))
    first.acquire()
    inherited = os.dup(first._handle)  # as a fork has it
    first.release()
    waiting = begun(second.acquire)
    try:
        assert not waiting.is_alive()
    finally:
        os.close(inherited)
        waiting.join(3)
        second.release()


def test_optuna_alone_waits_for_a_dead_worker(tmp_path):
    path = tmp_path / "study.log"
    die_while_writing(path)
    waiting = begun(JournalFileSymlinkLock(str(path)).acquire)
    assert waiting.is_alive(), "thirty seconds"
    Path(f"{path}.lock").unlink()
    waiting.join(3)
    assert not waiting.is_alive()


def test_optunas_own_processes_are_kept_out_and_keep_us_out(tmp_path):
    path = str(tmp_path / "study.log")
    theirs, ours = JournalFileSymlinkLock(path), journal_lock(path, JournalFileSymlinkLock)
    for one, other in ((theirs, ours), (ours, JournalFileSymlinkLock(path))):
        one.acquire()
        waiting = begun(other.acquire)
        assert waiting.is_alive()
        one.release()
        waiting.join(3)
        assert not waiting.is_alive()
        other.release()


def test_two_threads_write_one_after_the_other(tmp_path):
    path = str(tmp_path / "study.log")
    backends = [JournalFileBackend(path, JournalLock(path, JournalFileSymlinkLock)) for _ in range(4)]
    threads = [
        threading.Thread(target=lambda one=one: [one.append_logs([RECORD] * 3) for _ in range(20)]) for one in backends
    ]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert [json.loads(line) for line in Path(path).read_text().splitlines()] == [RECORD] * 240


@pytest.mark.parametrize("grace", [0.1, 30.0])
def test_a_holder_that_is_stopped_is_waited_for_as_long_as_optuna_does(grace, tmp_path, monkeypatch):
    monkeypatch.setattr(optuna_lock, "_GRACE", grace)
    path = str(tmp_path / "study.log")
    stopped, other = (JournalLock(path, JournalFileSymlinkLock) for _ in range(2))
    stopped.acquire()
    Path(f"{path}.lock").unlink()  # as Optuna does after thirty seconds
    waiting = begun(other.acquire)
    assert waiting.is_alive() is (grace > 1)
    if waiting.is_alive():
        with pytest.raises(RuntimeError, match="did not possess lock"):
            stopped.release()
    waiting.join(3)
    assert not waiting.is_alive()


def test_where_the_system_has_no_locks_optunas_is_used(tmp_path, monkeypatch):
    monkeypatch.setattr(optuna_lock, "fcntl", None)
    assert type(journal_lock(str(tmp_path / "study.log"), JournalFileSymlinkLock)) is JournalFileSymlinkLock
