"""What `tune` refuses before the first trial: what was given, what is accepted, and a hint."""

import inspect
from pathlib import Path

import optuna
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import unitrain
from tests.tuning.studies import TRAIN, VAL, make_spec, study
from unitrain import ConfigError, SpecError, UnitrainError

GRID = {"lr": [0.01, 0.02], "width": [2, 3], "drop": [0.0]}


def journal(**more):
    return {"storage": "journal:///study.log", "study_name": "s", **more}


REFUSED = [
    ({"n_trials": 0}, r"n_trials=\) must be an integer of at least 1; got 0"),
    ({"n_trials": 2.5}, "n_trials"),
    ({"n_trials": True}, "n_trials"),
    ({"monitor": ""}, "monitor"),
    ({"monitor": []}, "monitor"),
    ({"monitor": 3}, "monitor"),
    ({"monitor": "val/loss", "val": None}, "needs validation data"),
    ({"direction": "max"}, "minimize"),
    ({"direction": ["minimize", "maximize"]}, "1 objectives"),
    ({"storage": "redis://127.0.0.1:9/0"}, "study_name"),
    ({"storage": 3, "study_name": "s"}, "must be a URL or path"),
    ({"storage": "mongodb://host/db", "study_name": "s"}, "unknown"),
    ({"storage": "redis://127.0.0.1:9/0", "study_name": "s"}, "does not answer"),
    ({"study_name": 3}, "must be a name"),
    ({"study": "digits"}, "must be an Optuna study"),
    ({"study": optuna.create_study(), "study_name": "s"}, "not both"),
    ({"workers": 2}, "in memory"),
    ({"workers": 0}, "workers"),
    (journal(workers=2, sampler=optuna.samplers.TPESampler(seed=0)), "other workers cannot see"),
    (journal(workers=2, make_spec=lambda trial: trial), "make_spec"),
    ({"make_spec": make_spec(optuna.trial.FixedTrial({"lr": 0.01, "width": 2, "drop": 0.0}))}, "a function"),
    ({"make_spec": torch.nn.Linear}, "a function"),
    ({"trainer": {"max_epoch": 3}}, "max_epochs"),
    ({"trainer": {"seed": 3}}, "seed="),
    ({"trainer": {"default_root_dir": "runs"}}, "dirpath="),
    ({"trainer": {"max_epochs": -5}}, "max_epochs"),
    ({"trainer": 3}, "options of UnifiedTrainer"),
    ({"framework": "keras"}, "keras"),
    ({"sampler": "tpa"}, "'tpe'"),
    ({"sampler": optuna.samplers.TPESampler}, "a function of the seed"),
    ({"sampler": lambda seed: seed}, "must return an Optuna sampler"),
    ({"sampler": lambda seed: optuna.samplers.QMCSampler(seed=seed)}, "counter"),
    ({"sampler": lambda seed: optuna.samplers.GridSampler(GRID, seed=seed)}, "4 points, fewer than n_trials=8"),
    ({"pruner": "medium"}, "'median'"),
    ({"pruner": optuna.pruners.MedianPruner}, "an Optuna pruner"),
    ({"monitor": ["val/loss", "train/loss"], "direction": ["minimize"] * 2}, "one objective"),
    (
        {"monitor": ["val/loss", "train/loss"], "direction": ["minimize"] * 2, "pruner": None, "value": "best"},
        "one objective",
    ),
    ({"seed": -1}, "seed"),
    ({"seed": None}, "seed"),
    ({"parallel": 0}, "parallel"),
    ({"retries": -1}, "retries"),
    ({"catch": ("RuntimeError",)}, "classes of errors"),
    ({"timeout": 0}, "timeout"),
    ({"timeout": "1h"}, "timeout"),
    ({"timeout": float("inf")}, "timeout"),
    ({"value": "first"}, "last"),
    ({"warm_start": [3]}, "dicts"),
    ({"warm_start": [{"lr": 0.01}] * 9}, "more than n_trials"),
    ({"train": iter(TRAIN)}, "iterator"),
    ({"val": iter(VAL)}, "iterator"),
    ({"trainer": {"accelerator": "cuda"}}, "1 GPUs each need 1; there are 0"),
]


@pytest.mark.filterwarnings("ignore:QMCSampler is experimental")
@pytest.mark.parametrize(("changes", "said"), REFUSED, ids=[f"{n}-{next(iter(c))}" for n, (c, _) in enumerate(REFUSED)])
def test_refused_before_the_first_trial_and_before_a_folder_is_made(changes, said, tmp_path, monkeypatch):
    made = []
    monkeypatch.setattr("unitrain.tuning.workers.worker.run_trial", lambda *given: made.append(given))
    given = {"make_spec": make_spec, "train": TRAIN, "val": VAL, "n_trials": 8, "monitor": "val/loss"}
    given = {**given, "framework": "reference", "pruner": "median", "enable_progress_bar": False, **changes}
    with pytest.raises(UnitrainError, match=said) as caught:
        unitrain.tune(given.pop("make_spec"), given.pop("train"), given.pop("val"), **given)
    assert "Hint:" in str(caught.value)
    assert not made
    assert not [one for one in tmp_path.iterdir() if one.is_dir() and one.name == "runs"]


CHANGED = [
    ({"seed": 1}, "seed=0; got seed=1"),
    ({"parallel": 3}, "parallel=1; got parallel=3"),
    ({"monitor": "train/loss"}, "monitor"),
    ({"direction": "maximize"}, "direction"),
    ({"value": "best"}, "value"),
]


@pytest.mark.parametrize(("changes", "said"), CHANGED, ids=[next(iter(one)) for one, _ in CHANGED])
def test_another_study_of_the_same_name_is_refused(changes, said):
    study(n_trials=1, framework="reference", **journal())
    with pytest.raises(ConfigError, match=said):
        study(n_trials=2, framework="reference", **journal(**changes))


def test_a_warm_start_adds_nothing_beyond_n_trials():
    study(n_trials=2, framework="reference", **journal())
    warm = {"warm_start": [{"lr": 0.01, "width": 3, "drop": 0.0}], "framework": "reference"}
    with pytest.raises(ConfigError, match="n_trials=3"):
        study(n_trials=2, **warm, **journal())
    assert len(study(n_trials=3, **warm, **journal()).trials) == 3


def test_the_folder_of_another_study_is_refused(tmp_path):
    study(n_trials=1, framework="reference", dirpath=tmp_path / "mine")
    kept = {path: path.read_bytes() for path in Path(tmp_path / "mine").rglob("*") if path.is_file()}
    with pytest.raises(ConfigError, match="belongs to the study"):
        study(n_trials=1, framework="reference", dirpath=tmp_path / "mine")
    assert {path: path.read_bytes() for path in Path(tmp_path / "mine").rglob("*") if path.is_file()} == kept


SHARED = torch.nn.Linear(4, 1)


def of_trials_before(trial):
    return unitrain.TrainSpec(
        model=SHARED, loss=torch.nn.MSELoss(), optimizer=lambda params: torch.optim.SGD(params, lr=0.01)
    )


IN_A_TRIAL = [
    ({"make_spec": lambda trial: 3}, SpecError, "must return a TrainSpec"),
    ({"make_spec": of_trials_before}, SpecError, "model of trial 0"),
    ({"monitor": "val/acc"}, ConfigError, r"val/acc"),
    ({"trainer": lambda trial: {"max_epoch": 1}}, ConfigError, "max_epochs"),
    ({"trainer": lambda trial: {"seed": 1}}, ConfigError, "seed="),
    ({"framework": lambda trial: "keras"}, UnitrainError, "keras"),
]


@pytest.mark.parametrize(("changes", "kind", "said"), IN_A_TRIAL)
def test_refused_in_a_trial_which_has_failed_then(changes, kind, said):
    made = optuna.create_study()
    with pytest.raises(kind, match=said):
        study(**{"framework": "reference", "n_trials": 2, "study": made, **changes})
    failed = [one for one in made.trials if one.state.name == "FAIL"]
    assert len(failed) == 1
    assert failed[0].system_attrs["fail_reason"].startswith(kind.__name__) or kind is UnitrainError


NAMES = [name for name in inspect.signature(unitrain.tune).parameters if name not in ("make_spec", "train", "val")]
WRONG = st.sampled_from([object(), -3.5, b"bytes", {"a": 1}, ("x", 3), 1 + 2j])


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.sampled_from([one for one in NAMES if one != "enable_progress_bar"]), value=WRONG)
def test_no_argument_is_ignored(name, value):
    given = {"n_trials": 1, "monitor": "val/loss", "framework": "reference", "enable_progress_bar": False}
    with pytest.raises(UnitrainError):
        unitrain.tune(make_spec, TRAIN, VAL, **{**given, "trainer": {"max_epochs": 1}, name: value})
