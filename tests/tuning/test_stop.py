"""Timeouts and signals cut a study within a trial; the next call ends with the same study."""

import os
import signal
import threading
import time

import optuna
import pytest
import torch

import unitrain
from tests.tuning.studies import EPOCHS, equal, make_spec, rows, study, weights
from unitrain import Callback, ConfigError, UnifiedTrainer
from unitrain.tuning.study_trial import StorageLostError, StudyTrial
from unitrain.tuning.workers import worker

PARALLEL = 1


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    return study(dirpath=tmp_path_factory.mktemp("undisturbed"), framework="reference", parallel=PARALLEL)


class Once(Callback):
    """Acts in the middle of an epoch of a trial."""

    done = False

    def __init__(self, action, at=15):
        self.action, self.at = action, at

    def __deepcopy__(self, memo):
        return self

    def on_batch_end(self, run):
        if not Once.done and run.state.batch == self.at:
            Once.done = True
            self.action()


def kill(number):
    return lambda: os.kill(os.getpid(), number)


FAST = [("lightning", signal.SIGINT), ("ignite", signal.SIGTERM)]
SENT = [(one, number) for one in ("ignite", "lightning", "reference") for number in (signal.SIGINT, signal.SIGTERM)]


@pytest.mark.parametrize(
    ("framework", "number"), [pytest.param(*one, marks=() if one in FAST else pytest.mark.slow) for one in SENT]
)
def test_a_signal_ends_after_the_batch_and_the_next_call_resumes(framework, number, undisturbed, tmp_path, capfd):
    Once.done = False
    given = {"storage": f"journal://{tmp_path}/study.log", "study_name": "s", "parallel": PARALLEL}
    trainer = {"max_epochs": EPOCHS, "callbacks": [Once(kill(number))]}
    before = signal.getsignal(number)
    first = study(framework=framework, trainer=trainer, **given)
    assert first.stopped_by == "signal"
    assert [one.state.name for one in first.trials] == ["RUNNING"] + ["WAITING"] * 7
    assert len(first.trials[0].intermediate_values) == 2, "the epoch that was cut is not reported"
    assert [one.name for one in first.plan.folder(0).glob("*.ckpt")] == ["interrupted.ckpt"]
    assert signal.getsignal(number) is before
    result = study(framework="ignite", **given)
    assert "unitrain:deaths" not in result.trials[0].system_attrs
    assert equal(result, undisturbed)


@pytest.mark.parametrize("at", [12, 24], ids=["an epoch", "the last epoch"])
@pytest.mark.parametrize("framework", ["reference", "ignite", pytest.param("lightning", marks=pytest.mark.slow)])
def test_a_signal_at_the_last_batch_ends_a_whole_epoch(framework, at, undisturbed, tmp_path):
    Once.done = False
    given = {"storage": f"journal://{tmp_path}/study.log", "study_name": "s", "parallel": PARALLEL, "n_trials": 2}
    trainer = {"max_epochs": EPOCHS, "callbacks": [Once(kill(signal.SIGTERM), at)]}
    first = study(framework=framework, trainer=trainer, **given)
    assert first.stopped_by == "signal"
    assert len(first.trials[0].intermediate_values) == at // 6, "its epoch is not repeated, so it is reported"
    result = study(framework=framework, **given)
    assert rows(result) == rows(undisturbed)[:2]
    expected = weights(undisturbed)
    for number, found in weights(result).items():
        assert all(torch.equal(value, expected[number][name]) for name, value in found.items())
    assert torch.equal(
        unitrain.load_weights(result.best_checkpoint)["0.bias"], expected[result.best_trial.number]["0.bias"]
    )


@pytest.mark.parametrize("windows", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_timeout_leaves_the_running_trial_to_the_next_call(windows, undisturbed, tmp_path, monkeypatch):
    monkeypatch.setattr(worker, "_ENDS_AT_ONCE", windows)
    given = {"storage": f"journal://{tmp_path}/study.log", "study_name": "s", "parallel": PARALLEL}

    class Slow(Callback):
        def on_batch_end(self, run):
            time.sleep(0.05)

    began = time.monotonic()
    first = study(trainer={"max_epochs": EPOCHS, "callbacks": [Slow()]}, timeout=1, **given)
    assert time.monotonic() - began < 5
    assert first.stopped_by == "timeout"
    assert [one.state.name for one in first.trials].count("RUNNING") == 1
    assert equal(study(**given), undisturbed)


def test_a_handler_that_stops_a_fit_ends_the_trial_in_order(tmp_path):
    class Stop(Callback):
        def on_epoch_end(self, run):
            if run.state.epoch == 1:
                run.stop()

    result = study(n_trials=2, trainer={"max_epochs": EPOCHS, "callbacks": [Stop()]})
    assert [one.state.name for one in result.trials] == ["COMPLETE"] * 2
    assert [len(one.intermediate_values) for one in result.trials] == [2, 2]
    assert result.stopped_by == "n_trials"


def test_an_error_fails_its_trial_and_ends_the_call_unless_it_is_caught(undisturbed, tmp_path):
    given = {"storage": f"journal://{tmp_path}/study.log", "study_name": "s", "parallel": PARALLEL, "n_trials": 4}

    def failing(trial):
        if trial.number == 1:
            raise RuntimeError("no memory left")
        return make_spec(trial)

    with pytest.raises(RuntimeError, match="no memory left"):
        study(make_spec=failing, **given)
    result = study(make_spec=failing, **given)
    assert [one.state.name for one in result.trials] == ["COMPLETE", "FAIL", "COMPLETE", "COMPLETE"]
    assert result.trials[1].system_attrs["fail_reason"] == "RuntimeError: no memory left"
    caught = study(make_spec=failing, catch=RuntimeError, n_trials=4, parallel=PARALLEL)
    assert rows(caught) == rows(result)


def test_without_the_main_thread_a_timeout_is_refused_and_a_study_runs(undisturbed):
    found = []

    def run():
        with pytest.raises(ConfigError, match="main thread"):
            study(timeout=5)
        found.append(study(parallel=PARALLEL))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert equal(found[0], undisturbed)


@pytest.mark.parametrize(
    ("framework", "moment"),
    [
        ("ignite", "make_spec"),
        ("lightning", "fit_start"),
        pytest.param("lightning", "make_spec", marks=pytest.mark.slow),
        pytest.param("ignite", "fit_start", marks=pytest.mark.slow),
    ],
)
def test_a_signal_before_the_first_batch_is_heard(framework, moment, undisturbed, tmp_path, monkeypatch):
    given = {"storage": f"journal://{tmp_path}/study.log", "study_name": "s", "parallel": PARALLEL}
    begun = []

    def slow(trial):
        if not begun and moment == "make_spec":
            kill(signal.SIGTERM)()
        begun.append(1)
        return make_spec(trial)

    def fit(trainer, *args, **kwargs):
        if len(begun) == 1 and moment == "fit_start":
            kill(signal.SIGTERM)()
        return original(trainer, *args, **kwargs)

    original = UnifiedTrainer.fit
    with monkeypatch.context() as patch:
        patch.setattr(UnifiedTrainer, "fit", fit)
        first = study(make_spec=slow, framework=framework, **given)
    assert first.stopped_by == "signal"
    assert begun == [1]
    assert [one.state.name for one in first.trials] == ["RUNNING"] + ["WAITING"] * 7
    assert not first.trials[0].intermediate_values
    assert equal(study(**given), undisturbed)


def test_a_storage_that_fails_leaves_its_trial_to_be_resumed(undisturbed, tmp_path, monkeypatch):
    given = {"storage": f"journal://{tmp_path}/study.log", "study_name": "s", "parallel": PARALLEL}
    original, times = optuna.trial.Trial.report, iter(range(6))

    def failing(trial, value, step):
        if next(times, None) is None:
            raise OSError("the disk is gone")
        original(trial, value, step)

    with monkeypatch.context() as patch:
        patch.setattr(optuna.trial.Trial, "report", failing)
        with pytest.raises(StorageLostError, match="the disk is gone"):
            study(catch=Exception, **given)
    assert equal(study(**given), undisturbed)


def test_a_worker_that_lost_its_lease_fails_nothing(tmp_path):
    class Lost:
        def held(self):
            return False

    result = study(n_trials=1, framework="reference")
    result.study.add_trial(optuna.trial.create_trial(state=optuna.trial.TrialState.RUNNING))
    trial = StudyTrial(result.plan, 1, 1, result.study._storage, Lost())
    trial.tell(None, optuna.trial.TrialState.FAIL, "RuntimeError: too late")
    trial.park()
    assert result.study.trials[1].state.name == "RUNNING"
    assert not result.study.trials[1].system_attrs
    StudyTrial(result.plan, 1, 1, result.study._storage).tell(None, optuna.trial.TrialState.FAIL, "RuntimeError: mine")
    assert result.study.trials[1].state.name == "FAIL"
