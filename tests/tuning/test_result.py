"""What `tune()` returns: the table, the best trial, its spec, the picture, a pruned trial continued."""

from dataclasses import replace

import matplotlib as mpl
import pytest
import torch

import unitrain
from tests.tuning.studies import TRAIN, VAL, study
from unitrain import CheckpointError, ConfigError, UnifiedTrainer, UnitrainError
from unitrain.tuning.finders.search_fit import untouched
from unitrain.tuning.report.importances import importances, told
from unitrain.tuning.report.parallel_coordinates import columns_of, near
from unitrain.tuning.result import TuneResult

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    return study(dirpath=tmp_path_factory.mktemp("study"), framework="reference", n_trials=10, parallel=1)


@pytest.fixture(scope="module")
def two_objectives(tmp_path_factory):
    given = {"monitor": ["val/loss", "train/loss"], "direction": ["minimize"] * 2, "pruner": None, "n_trials": 4}
    return study(dirpath=tmp_path_factory.mktemp("study"), framework="reference", **given)


def last(result, number):
    return unitrain.load_weights(result.plan.folder(number) / "last.ckpt")


def equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def refitted(spec):
    """Train a spec as a trial does, and return it."""
    with untouched(TRAIN):
        UnifiedTrainer("reference", max_epochs=4, enable_progress_bar=False, seed=0).fit(spec, TRAIN, VAL)
    return spec


def test_the_table_has_the_best_first_and_the_pruned_last(result):
    first, header, *rows = str(result).splitlines()
    states = [one.state.name for one in result.trials]
    assert first == (
        f"study 'tune': 10 trials ({states.count('COMPLETE')} complete, {states.count('PRUNED')} pruned),"
        " stopped by n_trials"
    )
    assert header.split() == ["trial", "state", "val/loss", "drop", "lr", "width"]
    assert rows[0].split()[:2] == [str(result.best_trial.number), "complete"]
    assert [row.split()[1] for row in rows] == sorted(row.split()[1] for row in rows)
    assert f"{result.best_value:.6g}" in rows[0]


def test_the_dataframe_has_a_row_a_trial(result):
    frame = result.dataframe()
    assert list(frame["number"]) == list(range(10))
    assert {"value", "state", "params_lr", "params_width", "params_drop"} <= set(frame.columns)
    assert frame["value"].min() == result.best_value


def test_the_best_spec_trained_again_gives_the_weights_of_the_trial(result):
    spec = refitted(result.best_spec())
    best = last(result, result.best_trial.number)
    assert result.best_checkpoint == result.plan.folder(result.best_trial.number) / "last.ckpt"
    assert equal(spec.model.state_dict(), best)
    other = result.best_spec()
    with torch.no_grad():
        other.model[0].weight[0, 0] += 1e-6
    assert not equal(refitted(other).model.state_dict(), best), "the comparison notices other first weights"


def test_a_pruned_trial_is_continued_to_the_weights_of_a_whole_fit(result):
    number = next(one.number for one in result.trials if one.state.name == "PRUNED")
    before = last(result, number)
    resumed = result.resume(number)
    assert (resumed.epoch, resumed.stopped_by) == (3, "max_epochs")
    whole = refitted(result._spec(result.trials[number]))
    assert equal(unitrain.load_weights(resumed.last_checkpoint), whole.model.state_dict())
    assert equal(last(result, number), before), "the files of the trial stay"
    assert not equal(before, whole.model.state_dict())
    assert result.trials[number].state.name == "PRUNED"


@pytest.mark.parametrize("value", ["last", "best"])
def test_the_best_checkpoint_is_right_or_refused(value, tmp_path):
    found = study(framework="reference", n_trials=2, pruner=None, value=value, dirpath=tmp_path / "here")
    path = found.best_checkpoint
    assert path.name == f"{value}.ckpt"
    elsewhere = TuneResult(found.study, replace(found.plan, dirpath=tmp_path / "elsewhere"), "")
    with pytest.raises(CheckpointError, match=r"does not exist[\s\S]*Copy trial-"):
        _ = elsewhere.best_checkpoint
    early = torch.load(path, weights_only=True)
    states = early["unitrain"]["callbacks"]
    if value == "last":
        states["TrialCheckpoint"]["ended"] = False
    else:
        states["BestCheckpoint"]["best_k_models"][0][1] += 0.25
    torch.save(early, path)
    with pytest.raises(CheckpointError, match="written before the trial ended"):
        _ = found.best_checkpoint


def test_a_trial_that_does_not_exist_is_not_resumed(result):
    with pytest.raises(ConfigError, match=r"no trial 99(.|\n)*0 to 9"):
        result.resume(99)


@pytest.mark.parametrize("ending", ["png", *(pytest.param(one, marks=pytest.mark.slow) for one in ("svg", "pdf"))])
def test_the_picture_depends_on_the_trials_only(result, tmp_path, ending):
    result.plot(tmp_path / f"one.{ending}")
    with mpl.rc_context({"axes.facecolor": "black", "font.size": 30, "savefig.dpi": 30}):
        result.plot(str(tmp_path / f"two.{ending}"))
        assert mpl.rcParams["font.size"] == 30
    first = (tmp_path / f"one.{ending}").read_bytes()
    assert first == (tmp_path / f"two.{ending}").read_bytes()
    assert ending != "png" or first.startswith(PNG)


@pytest.mark.slow
def test_other_trials_are_another_picture(result, two_objectives, tmp_path):
    result.plot(tmp_path / "one.png")
    two_objectives.plot(tmp_path / "two.png")
    assert (tmp_path / "one.png").read_bytes() != (tmp_path / "two.png").read_bytes()


def panels(result, tmp_path, monkeypatch):
    """Return the titles and the texts of the panels of a picture."""
    drawn = []
    monkeypatch.setattr("unitrain.tuning.report.plots.save_figure", lambda figure, *_: drawn.append(figure))
    result.plot(tmp_path / "study.png")
    return {axes.get_title(loc="left"): [one.get_text() for one in axes.texts] for axes in drawn[0].axes}


def test_there_is_a_panel_for_each_question(result, two_objectives, tmp_path, monkeypatch):
    found = panels(result, tmp_path, monkeypatch)
    assert list(found) == ["History", "Importance for val/loss", "Learning curves", "Parallel coordinates"]
    found = panels(two_objectives, tmp_path, monkeypatch)
    assert list(found) == ["Pareto front", "Importance for val/loss", "Parallel coordinates"]
    assert set(found["Pareto front"]) == {str(one.number) for one in two_objectives.study.best_trials}


def test_a_panel_says_why_it_is_empty(tmp_path, monkeypatch):
    one = study(n_trials=1, framework="reference", dirpath=tmp_path / "trials")
    assert panels(one, tmp_path, monkeypatch)["Importance for val/loss"] == ["needs two complete trials that differ"]
    assert importances(one) == {}
    assert told({}, "val/loss") == ["importance for val/loss: needs two complete trials that differ"]


@pytest.mark.parametrize(
    ("name", "error"), [("study.xyz", r"no \.xyz files(.|\n)*\.png"), ("file/study.png", "could not")]
)
def test_a_picture_that_cannot_be_written_leaves_nothing(result, tmp_path, name, error):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UnitrainError, match=error):
        result.plot(tmp_path / name)
    assert [one.name for one in tmp_path.iterdir()] == ["file"]


def test_importances_are_shares_in_order_and_always_the_same(result):
    found = importances(result)
    assert set(found) == {"lr", "width", "drop"}
    assert list(found.values()) == sorted(found.values(), reverse=True)
    assert importances(result) == found
    lines = told(found, "val/loss")
    assert lines[1].split()[:2] == [next(iter(found)), f"{next(iter(found.values())):.2f}"]
    assert lines[1].count("█") == 40


def test_a_value_far_off_does_not_hide_the_others(result):
    assert near([1.0, 2.0, 3.0, 4.0, 1e9, float("inf"), float("nan")]) == [1.0, 2.0, 3.0, 4.0]
    trials = [one for one in result.trials if one.values]
    columns, left_out = columns_of(result.plan, trials, ["width"], 2)
    assert [one.name for one in columns] == ["width", "drop", "val/loss"]
    assert left_out == 1
    assert all(0 <= place <= 1 or place != place for one in columns for place in one.places)


def test_the_best_of_several_objectives_is_refused(two_objectives):
    with pytest.raises(ConfigError, match="best_trials"):
        _ = two_objectives.best_params
