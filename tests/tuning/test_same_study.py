"""A study is the same on every backend, for any number of workers, and however it is cut into calls."""

import optuna
import pytest

from tests.tuning.studies import equal, mixed, rows, study, weights
from unitrain.tuning import samplers, visible


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    return study(dirpath=tmp_path_factory.mktemp("undisturbed"), framework="reference", parallel=2)


@pytest.mark.parametrize("framework", ["ignite", "lightning", mixed])
def test_each_backend_leaves_the_trials_of_the_bare_loop(undisturbed, framework):
    result = study(framework=framework, parallel=2)
    assert {one.state.name for one in result.trials} == {"COMPLETE", "PRUNED"}
    assert rows(result) == rows(undisturbed)
    assert equal(result, undisturbed)


def test_two_workers_leave_the_trials_of_one(undisturbed, tmp_path):
    result = study(framework=mixed, workers=2, storage=f"journal://{tmp_path}/study.log", study_name="s")
    assert equal(result, undisturbed)
    assert result.stopped_by == "n_trials"


def test_a_study_in_two_calls_and_on_two_backends_is_that_of_one_call(undisturbed, tmp_path):
    given = {"storage": f"journal://{tmp_path}/study.log", "study_name": "s", "parallel": 2}
    first = study(n_trials=3, framework="lightning", **given)
    assert len(first.trials) == 3
    assert equal(study(framework="ignite", **given), undisturbed)
    assert equal(study(framework="ignite", **given), undisturbed), "nothing is left to do"


def test_parallel_decides_the_trials(undisturbed):
    assert rows(study(parallel=1)) != rows(undisturbed)


def test_plain_optuna_reads_the_study(undisturbed, tmp_path):
    url = f"journal://{tmp_path}/study.log"
    study(n_trials=3, parallel=2, storage=url, study_name="s")
    backend = optuna.storages.journal.JournalFileBackend(f"{tmp_path}/study.log")
    loaded = optuna.load_study(study_name="s", storage=optuna.storages.JournalStorage(backend))
    assert [one.values for one in loaded.trials] == [one.values for one in undisturbed.trials[:3]]


@pytest.mark.parametrize("sampler", ["tpe", "random", "nsgaii", "gp"])
@pytest.mark.parametrize("pruner", ["successive_halving", "hyperband"])
def test_samplers_and_pruners_keep_nothing_between_calls(sampler, pruner, tmp_path):
    given = {"sampler": sampler, "pruner": pruner, "framework": "reference", "n_trials": 5}
    there = {"storage": f"journal://{tmp_path}/study.log", "study_name": "s"}
    whole = study(**given)
    for trials in (2, 4):
        study(**{**given, "n_trials": trials}, **there)
    assert rows(study(**given, **there)) == rows(whole)


def test_without_a_sampler_for_each_trial_the_studies_differ(undisturbed, monkeypatch, tmp_path):
    made = {}
    monkeypatch.setattr(
        "unitrain.tuning.study_trial.sampler_for",
        lambda given, seed, _: made.setdefault(1, samplers._made(given, seed)),
    )
    given = {"storage": f"journal://{tmp_path}/study.log", "study_name": "s", "parallel": 2}
    study(n_trials=3, **given)
    made.clear()  # the next process has a sampler of its own
    assert rows(study(**given)) != rows(study(parallel=2))


def test_a_trial_that_sees_whatever_is_finished_has_other_parameters(undisturbed, monkeypatch):
    original = visible.VisibleTrials.__init__
    monkeypatch.setattr(visible.VisibleTrials, "__init__", lambda self, *given: original(self, *given[:4], 1))
    assert rows(study(parallel=2)) != rows(undisturbed)


def test_a_generator_that_goes_on_from_trial_to_trial_is_noticed(undisturbed, monkeypatch):
    from contextlib import nullcontext

    monkeypatch.setattr("unitrain.tuning.trial.untouched", lambda _: nullcontext())
    assert not equal(study(parallel=2), undisturbed)


def test_the_weights_that_are_compared_are_there(undisturbed):
    assert len(weights(undisturbed)) == 8
