"""A study is the same on every backend, for any number of workers, and however it is cut into calls."""

from dataclasses import replace
from functools import partial

import optuna
import pytest

from tests.tuning import studies
from tests.tuning.studies import equal, mixed, rows, study, weights
from unitrain.tuning import samplers, study_trial, visible
from unitrain.tuning.result import TuneResult


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


FAST = [("tpe", "hyperband"), ("gp", "successive_halving")]
SAMPLED = [(one, pruner) for one in ("tpe", "random", "nsgaii", "gp") for pruner in ("hyperband", "successive_halving")]


@pytest.mark.parametrize(
    ("sampler", "pruner"), [pytest.param(*one, marks=() if one in FAST else pytest.mark.slow) for one in SAMPLED]
)
def test_samplers_and_pruners_keep_nothing_between_calls(sampler, pruner, tmp_path):
    given = {"sampler": sampler, "pruner": pruner, "framework": "reference", "n_trials": 5}
    there = {"storage": f"journal://{tmp_path}/study.log", "study_name": "s"}
    whole = study(**given)
    for trials in (2, 4):
        study(**{**given, "n_trials": trials}, **there)
    assert rows(study(**given, **there)) == rows(whole)


def among_others(late, parallel):
    """Run a study beside the trials of others: two that are finished, and one that somebody ends meanwhile."""
    shared = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=3))
    asked = [shared.ask() for _ in range(3)]
    for one in asked:
        studies.make_spec(one)
    shared.tell(asked[0], 0.1)
    shared.tell(asked[1], 9.0)

    def make_spec(trial):
        if trial.number == 5 and late:
            shared.tell(asked[2], 0.0)
        return studies.make_spec(trial)

    tpe = partial(optuna.samplers.TPESampler, n_startup_trials=1)
    given = {"framework": "reference", "n_trials": 5, "pruner": None, "sampler": lambda seed: tpe(seed=seed)}
    given["parallel"] = parallel
    with pytest.warns(UserWarning, match=r"has 1 trials \(the first is 2\) that tune\(\) did not make"):
        return rows(study(make_spec=make_spec, study=shared, **given))


def seeing(numbers, original=visible.VisibleTrials.__init__):
    return lambda self, *given, earlier, known: original(self, *given, earlier=numbers)


@pytest.mark.parametrize("parallel", [1, 4])
def test_trials_of_others_are_known_if_they_were_finished_before(parallel, monkeypatch):
    found = among_others(late=False, parallel=parallel)
    assert among_others(late=True, parallel=parallel) == found
    with monkeypatch.context() as patch:
        patch.setattr(visible, "OURS", "datetime of nobody")
        patch.setattr(visible.VisibleTrials, "__init__", seeing(range(99)))
        assert among_others(late=True, parallel=parallel) != found, "who sees all depends on when they end"
        patch.setattr(visible.VisibleTrials, "__init__", seeing(range(3, 99)))
        assert among_others(late=False, parallel=parallel) != found, "the two that were finished are seen"


@pytest.mark.parametrize("framework", ["lightning", "ignite", "reference"])
@pytest.mark.parametrize("parallel", [1, 4])
def test_the_first_trial_sees_those_that_were_finished_before(parallel, framework):
    shared, seen = optuna.create_study(), []
    for state in ("COMPLETE", "COMPLETE", "RUNNING"):
        value = 0.5 if state == "COMPLETE" else None
        shared.add_trial(optuna.trial.create_trial(state=optuna.trial.TrialState[state], value=value))

    class Looks(optuna.samplers.RandomSampler):
        def before_trial(self, study, trial):
            seen.append([one.number for one in study.get_trials(deepcopy=False) if one.state.is_finished()])

    with pytest.warns(UserWarning, match=r"has 1 trials \(the first is 2\)"):
        study(study=shared, framework=framework, n_trials=2, parallel=parallel, sampler=lambda seed: Looks(seed=seed))
    assert seen == ([[0, 1], [0, 1, 3]] if parallel == 1 else [[0, 1], [0, 1]])


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
    monkeypatch.setattr(
        visible.VisibleTrials, "__init__", lambda self, *given, earlier, known: original(self, *given[:4], 1)
    )
    assert rows(study(parallel=2)) != rows(undisturbed)


def test_a_generator_that_goes_on_from_trial_to_trial_is_noticed(undisturbed, monkeypatch):
    from contextlib import nullcontext

    monkeypatch.setattr("unitrain.tuning.trial.untouched", lambda _: nullcontext())
    assert not equal(study(parallel=2), undisturbed)


def test_the_weights_that_are_compared_are_there(undisturbed):
    assert len(weights(undisturbed)) == 8


def suggested(result):
    """Return the parameters of a trial whose worker dies after each suggestion."""
    for count in range(1, 5):
        trial = study_trial.StudyTrial(result.plan, 0, 0, result.study._storage).suggests
        names = ["a", "b", "c", "d"][:count]
        for name in names:
            trial.suggest_float(name, 0, 1)
    return result.study.trials[0].params


@pytest.mark.parametrize("sampler", ["tpe", "random", "nsgaii", "gp"])
def test_a_worker_that_dies_between_two_suggestions_changes_none(sampler, monkeypatch):
    found = []
    for replayed in (True, False):
        result = study(n_trials=1, sampler=sampler, framework="reference")
        whole = optuna.create_study(study_name="whole")
        for one in (whole, cut := optuna.create_study(study_name="cut")):
            one.add_trial(optuna.trial.create_trial(state=optuna.trial.TrialState.RUNNING))
        plan = replace(result.plan, study_name="whole")
        trial = study_trial.StudyTrial(plan, 0, 0, whole._storage).suggests
        wanted = {name: trial.suggest_float(name, 0, 1) for name in "abcd"}
        with monkeypatch.context() as patch:
            if not replayed:
                patch.setattr(study_trial.StudyTrial, "_draw_again", lambda *_: None)
            found.append(suggested(TuneResult(cut, replace(plan, study_name="cut"), "")) == wanted)
    assert found == [True, False], "without the repetition they differ"
