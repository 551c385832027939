"""A worker that is killed at any instant loses nothing: the study ends with the trials of an undisturbed one."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest

from tests.servers import running_redis
from tests.tuning.studies import equal, rows, study
from unitrain import CheckpointError
from unitrain.tuning.trial_checkpoints import final_checkpoint

PARALLEL = 2


class Worker:
    """A process that works on a study; the process that it was copied from waits for its end."""

    def __init__(self, source, order):
        self._source = source
        self.pid = self._ask(order)

    def _ask(self, order):
        self._source.stdin.write(f"{json.dumps(order)}\n")
        self._source.stdin.flush()
        return int(self._source.stdout.readline())

    def kill(self):
        os.kill(self.pid, signal.SIGKILL)

    def wait(self):
        """Return the exit status; minus the signal that ended it."""
        return os.waitstatus_to_exitcode(self._ask(self.pid))


@pytest.fixture(scope="module")
def started(tmp_path_factory):
    """Return what starts workers at once: copies of a process that has imported everything."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "tests.tuning.studies"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    source = subprocess.Popen(command, env=environment, cwd=tmp_path_factory.mktemp("source"), **pipes)

    def start(tmp_path, storage, name, **order):
        there = {"storage": storage, "study_name": name, "parallel": PARALLEL, "dirpath": str(tmp_path / name)}
        return Worker(source, {**there, "folder": str(tmp_path), **order})

    yield start
    source.stdin.close()
    source.wait()
    source.stdout.close()


def continued(tmp_path, storage, name, **changes):
    given = {"storage": storage, "study_name": name, "parallel": PARALLEL, "dirpath": tmp_path / name}
    return study(**{**given, **changes})


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    return study(dirpath=tmp_path_factory.mktemp("undisturbed"), framework="reference", parallel=PARALLEL)


KILLS = [
    ("journal", ["save", 10]),
    # one kill is in the fast tier; the other places and storages are in the slow one
    pytest.param("redis", ["report-after", 6], marks=pytest.mark.slow),
    pytest.param("journal", ["report-before", 7], marks=pytest.mark.slow),
    pytest.param("redis", ["tell-before", 2], marks=pytest.mark.slow),
    pytest.param("sqlite", ["save", 9], marks=pytest.mark.slow),
    pytest.param("postgresql", ["report-after", 3], marks=pytest.mark.slow),
]


@pytest.mark.parametrize(
    ("storage", "kill"), KILLS, indirect=["storage"], ids=lambda one: one if isinstance(one, str) else one[0]
)
def test_the_next_call_resumes_the_trial_on_another_backend(started, storage, kill, undisturbed, tmp_path):
    name = f"s-{tmp_path.name}"
    worker = started(tmp_path, storage, name, kill=kill, saves=True, framework="lightning")
    assert worker.wait() == -signal.SIGKILL
    result = continued(tmp_path, storage, name, framework="ignite")
    deaths = sum(one.system_attrs.get("unitrain:deaths", 0) for one in result.trials)
    assert deaths == 1
    assert equal(result, undisturbed)


@pytest.mark.slow
def test_another_worker_takes_a_trial_over_at_once(started, redis, undisturbed, tmp_path):
    name = "at-once"
    worker = started(tmp_path, redis.url, name, kill=["report-after", 2], framework="ignite", saves=True)
    assert worker.wait() == -signal.SIGKILL
    began = time.monotonic()
    result = continued(tmp_path, redis.url, name, n_trials=1)
    assert time.monotonic() - began < 3 + 2, "a lease that waits for its time to live would take 30 s"
    assert rows(result)[:1] == rows(undisturbed)[:1]


@pytest.mark.slow
def test_a_checkpoint_on_another_machine_is_not_needed(started, undisturbed, tmp_path):
    storage = f"journal://{tmp_path}/study.log"
    worker = started(tmp_path, storage, "s", kill=["report-after", 6], framework="ignite", saves=True)
    assert worker.wait() == -signal.SIGKILL
    result = continued(tmp_path, storage, "s", dirpath=tmp_path / "elsewhere")
    assert rows(result) == rows(undisturbed)
    killed = next(one for one in result.trials if "unitrain:deaths" in one.system_attrs)
    assert final_checkpoint(result.plan, killed).exists()
    with pytest.raises(CheckpointError, match="before the trial ended"):  # on the first machine
        final_checkpoint(replace(result.plan, dirpath=tmp_path / "s"), killed)


def test_without_leases_a_trial_is_run_twice(monkeypatch, tmp_path):
    from unitrain.tuning.leases import leases_of, memory
    from unitrain.tuning.queue import TrialQueue

    given = {"storage": f"journal://{tmp_path}/study.log", "study_name": "s", "n_trials": 2}
    result = study(**{**given, "n_trials": 1})
    twice = []
    for leases in (leases_of(result.plan.address, "s"), memory.MemoryLeases()):
        queues = [TrialQueue(result.study, leases) for _ in range(2)]
        queues[0].fill(type(result.plan)(**{**vars(result.plan), "n_trials": 2}))
        taken = [one.take(1) for one in queues]
        twice.append(taken[1] is not None)
        for one in taken:
            if one is not None:
                one.lease.release()
    assert twice == [False, True]


@pytest.mark.slow
def test_a_trial_that_kills_its_workers_fails_and_the_study_goes_on(started, tmp_path):
    storage = f"journal://{tmp_path}/study.log"
    for _ in range(2):
        worker = started(tmp_path, storage, "s", kill=["report-before", 1], n_trials=2, framework="reference")
        assert worker.wait() == -signal.SIGKILL
    result = continued(tmp_path, storage, "s", n_trials=2, retries=1, framework="reference")
    assert [one.state.name for one in result.trials] == ["FAIL", "COMPLETE"]
    assert result.trials[0].system_attrs["fail_reason"] == "its worker died 2 times"


def test_redis_killed_for_a_while_loses_no_trial(started, undisturbed, tmp_path):
    folder = tmp_path / "redis"
    folder.mkdir()
    with running_redis(folder, "--appendonly", "yes", "--appendfsync", "always") as server:
        workers = [started(tmp_path, server.url, "s", framework="ignite")]
        _wait_for_a_trial(server.url)
        server.kill()
        time.sleep(2)
        server.start()
        assert [one.wait() for one in workers] == [0]
        assert equal(continued(tmp_path, server.url, "s"), undisturbed)


def _wait_for_a_trial(url):
    import redis

    client = redis.Redis.from_url(url)
    while int(client.get("unitrain:log_number") or 0) < 30:
        time.sleep(0.02)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("storage", ["journal", "redis"], indirect=True)
def test_forty_kills_at_random_instants(started, storage, undisturbed, tmp_path):
    draw, kills, name = random.Random(0), 0, f"forty-{tmp_path.name}"
    while kills < 40:
        before = kills
        study_name, folder = f"{name}-{kills}", tmp_path
        for _ in range(4):
            worker = started(
                folder, storage, study_name, framework=draw.choice(["ignite", "lightning"]), retries=99, saves=True
            )
            time.sleep(draw.uniform(0.02, 0.4))  # the whole study takes some 0.7 s
            worker.kill()
            kills += worker.wait() == -signal.SIGKILL
        assert equal(continued(folder, storage, study_name, retries=99, framework="reference"), undisturbed)
        assert kills > before


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("storage", ["journal", "redis", "sqlite", "postgresql"], indirect=True)
def test_six_workers_run_forty_trials_once_each(started, storage, tmp_path):
    name = f"six-{tmp_path.name}"
    workers = [
        started(tmp_path, storage, name, n_trials=40, parallel=6, framework="reference", trainer={"max_epochs": 1})
        for _ in range(6)
    ]
    assert [one.wait() for one in workers] == [0] * 6
    result = continued(tmp_path, storage, name, n_trials=40, parallel=6, trainer={"max_epochs": 1})
    assert [one.number for one in result.trials] == list(range(40))
    assert {one.state.name for one in result.trials} <= {"COMPLETE", "PRUNED"}
    assert not [one for one in result.trials if "unitrain:deaths" in one.system_attrs]
