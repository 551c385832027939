"""A worker that loses its lease for a moment, and lives, is no death of its trial."""

import time

import optuna
import pytest

from tests.tuning.studies import study
from unitrain.tuning.leases import leases_of
from unitrain.tuning.leases import redis as redis_leases
from unitrain.tuning.leases.memory import MemoryLeases
from unitrain.tuning.queue import TrialQueue
from unitrain.tuning.storage.address import Address
from unitrain.tuning.study_trial import LeaseLostError, StorageLostError, StudyTrial, storage_in_use
from unitrain.tuning.trial import TrialContext, run_trial
from unitrain.tuning.workers.worker import Halt


@pytest.fixture
def queue():
    """Return the queue of a study with one trial that has begun; every worker gets its lease."""
    result = study(n_trials=1, framework="reference")
    result.study.add_trial(
        optuna.trial.create_trial(state=optuna.trial.TrialState.WAITING, system_attrs={"unitrain": True})
    )
    found = TrialQueue(result.study, MemoryLeases())
    found.plan = result.plan
    assert found.take(1).deaths == 0
    return found


class Lost:
    def held(self):
        return False


@pytest.mark.parametrize(("lives", "deaths"), [(True, 1), (False, 2)])
def test_only_those_who_do_not_come_back_are_counted(queue, lives, deaths):
    assert queue.take(1).deaths == 1, "until the first worker says that it lives"
    if lives:
        StudyTrial(queue.plan, 1, 1, queue.study._storage).survive()
    assert queue.take(1).deaths == deaths


def test_a_worker_that_finds_its_lease_lost_says_that_it_lives(queue):
    taken = queue.take(1)
    taken = type(taken)(taken.trial_id, taken.number, Lost(), taken.deaths)
    with pytest.raises(LeaseLostError):
        run_trial(TrialContext(queue.plan, queue.study._storage, Halt()), taken)
    attrs = queue.study.trials[1].system_attrs
    assert sum(name.startswith("unitrain:survived:") for name in attrs) == 1
    assert queue.study.trials[1].state.name == "RUNNING"


def test_a_worker_whose_trial_another_has_ended_leaves_it(queue):
    mine = StudyTrial(queue.plan, 1, 1, queue.study._storage)
    queue.study._storage.set_trial_state_values(1, optuna.trial.TrialState.COMPLETE, [1.0])
    with pytest.raises(LeaseLostError, match="ended the trial"):
        mine.report(3.0, 0)


def test_a_storage_that_failed_for_a_moment_is_no_death(queue, monkeypatch):
    def failing(*_):
        raise OSError("the disk is slow")

    taken = queue.take(1)
    with monkeypatch.context() as patch:
        patch.setattr(optuna.trial.Trial, "report", failing)
        with pytest.raises(StorageLostError):
            run_trial(TrialContext(queue.plan, queue.study._storage, Halt()), taken)
    assert queue.take(1).deaths == 1, "that of the fixture's worker"


def test_a_server_that_is_away_is_no_error_of_the_trial():
    from unitrain.compat.optuna_redis import ServerAwayError

    with pytest.raises(StorageLostError, match="away"), storage_in_use():
        raise ServerAwayError("the server is away", hint="wait.")


def test_a_lease_in_redis_that_ran_out_is_kept_while_nobody_takes_it(redis, monkeypatch):
    monkeypatch.setattr(redis_leases, "LOST_AFTER", 0.2)
    monkeypatch.setattr(redis_leases, "_RENEWED_EVERY", 60.0)
    one, other = (leases_of(Address.of(redis.url), "ran-out") for _ in range(2))
    lease = one.take("3")
    time.sleep(0.3)
    assert lease.held()
    assert other.take("3") is None
    lease.release()
    assert not lease.held(), "what was given back is not taken again"
    assert other.take("3") is not None
    one.close()
    other.close()


@pytest.mark.parametrize("taken", [False, True])
def test_a_lock_of_postgresql_that_was_lost_is_taken_back_unless_another_has_it(postgres, taken):
    one, other = (leases_of(Address.of(postgres), f"blink-{taken}") for _ in range(2))
    lease = one.take("3")
    one.connection.close()  # as when the server was restarted
    while taken and other.take("3") is None:
        time.sleep(0.01)  # until the server has noticed
    assert lease.held() is not taken
    assert other.take("3") is None or taken
    one.close()
    other.close()
