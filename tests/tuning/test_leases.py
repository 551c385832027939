"""A trial has one worker: leases of each storage, and what becomes of them when their worker dies or is stopped."""

import os
import signal
import subprocess
import sys
import time

import pytest

from tests.servers import running_redis
from tests.tuning.studies import study
from unitrain import ConfigError
from unitrain.tuning.leases import files, leases_of
from unitrain.tuning.leases import redis as redis_leases
from unitrain.tuning.leases.lease import alone
from unitrain.tuning.storage.address import Address

KINDS = ["journal", "redis", "sqlite", "postgresql"]
HOLDER = """
import os, sys, time
from unitrain.tuning.leases import leases_of
from unitrain.tuning.storage.address import Address
lease = leases_of(Address.of(sys.argv[1]), sys.argv[2]).take("3")
if "fork" in sys.argv:
    if os.fork() == 0:
        print("held", flush=True); time.sleep(60); os._exit(0)
    time.sleep(60)
print("held", flush=True)
time.sleep(60)
"""


def holding(storage, study, *more):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", HOLDER, storage, study, *more]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, start_new_session=True)
    assert process.stdout.readline() == b"held\n"
    process.stdout.close()
    return process


@pytest.mark.parametrize("storage", KINDS, indirect=True)
def test_one_worker_has_it_until_it_gives_it_back(storage):
    one, other = (leases_of(Address.of(storage), "once") for _ in range(2))
    lease = one.take("3")
    assert lease.held()
    assert other.take("3") is None
    assert other.take("4") is not None
    lease.release()
    assert other.take("3") is not None
    one.close()
    other.close()


@pytest.mark.parametrize("storage", KINDS, indirect=True)
@pytest.mark.parametrize("how", ["plain", "fork"])
def test_a_killed_worker_holds_nothing_even_if_a_child_of_it_lives(storage, how, monkeypatch):
    monkeypatch.setattr(redis_leases, "_UP_FOR", 0)  # the server of the tests may have just begun
    study = f"killed-{how}"
    worker, leases = holding(storage, study, how), leases_of(Address.of(storage), study)
    try:
        assert leases.take("3") is None
        worker.kill()
        worker.wait()
        began = time.monotonic()
        while leases.take("3") is None:
            assert time.monotonic() - began < 3, "taken over within three seconds"
            time.sleep(0.1)
    finally:
        os.killpg(worker.pid, signal.SIGKILL) if how == "fork" else None
        leases.close()


def test_a_worker_that_was_stopped_for_too_long_learns_that_it_lost_its_lease(redis, monkeypatch):
    monkeypatch.setattr(redis_leases, "LOST_AFTER", 0.5)
    monkeypatch.setattr(redis_leases, "_RENEWED_EVERY", 60.0)  # as a stopped process renews nothing
    one, other = (leases_of(Address.of(redis.url), "stopped") for _ in range(2))
    lease = one.take("3")
    time.sleep(0.7)
    assert other.take("3") is not None
    assert not lease.held()
    lease.release()
    assert one.take("3") is None, "what another has is not given back"
    one.close()
    other.close()


def test_a_living_worker_renews_its_lease(redis, monkeypatch):
    monkeypatch.setattr(redis_leases, "LOST_AFTER", 0.6)
    monkeypatch.setattr(redis_leases, "_RENEWED_EVERY", 0.1)
    one, other = (leases_of(Address.of(redis.url), "living") for _ in range(2))
    lease = one.take("3")
    time.sleep(1.2)
    assert other.take("3") is None
    assert lease.held()
    one.close()
    other.close()


def test_the_thread_that_renews_leases_ends_with_them_also_without_the_server(tmp_path, monkeypatch):
    monkeypatch.setattr(redis_leases, "_RENEWED_EVERY", 0.05)
    with running_redis(tmp_path) as server:
        leases = leases_of(Address.of(server.url), "closed")
        lease = leases.take("3")
        server.kill()
        time.sleep(0.3)  # the thread waits for the server now
        began = time.monotonic()
        leases.close()
        assert time.monotonic() - began < 5, "a minute of patience would be in vain"
        assert not leases._renewer.is_alive()
        lease.release()


def test_a_study_is_prepared_by_one_process(tmp_path):
    leases = leases_of(Address.of(f"journal://{tmp_path}/study.log"), "s")
    with alone(leases, "study"):
        assert leases.take("study") is None
    assert leases.take("study") is not None


def test_without_file_locks_a_study_in_a_file_is_refused_before_anything_is_made(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "fcntl", None)
    with pytest.raises(ConfigError, match=r"needs file locks, which Windows does not have(.|\n)*redis://"):
        study(storage=f"journal://{tmp_path}/study.log", study_name="s")
    assert not list(tmp_path.iterdir())
