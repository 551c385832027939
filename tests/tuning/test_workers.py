"""Workers as processes: what a trial raises ends the call, and each sees its own GPUs."""

import os

import pytest

from tests.tuning import studies
from tests.tuning.studies import study
from unitrain.tuning.workers import processes


def failing(trial):
    if trial.number == 1:
        raise RuntimeError("no memory left")
    return studies.make_spec(trial)


@pytest.mark.slow  # that workers run at all is proved by test_same_study in the fast tier
def test_an_error_of_one_worker_ends_all_and_is_raised(tmp_path):
    given = {"storage": f"journal://{tmp_path}/study.log", "study_name": "s", "n_trials": 40}
    with pytest.raises(RuntimeError, match="no memory left"):
        study(make_spec=failing, workers=2, framework="reference", **given)
    loaded = study(make_spec=failing, parallel=2, timeout=0.01, **given)
    states = [one.state.name for one in loaded.trials]
    assert states[1] == "FAIL"
    assert states.count("WAITING") > 20, "no worker went on"


@pytest.mark.parametrize(
    ("seen", "index", "devices", "share"),
    [
        ("2,3", 0, 1, "2"),
        ("2,3", 1, 1, "3"),
        ("4,5,6,7", 1, 2, "6,7"),
        (None, 1, 2, "2,3"),
        ("2,3", 0, 0, None),
    ],
)
def test_each_worker_has_its_share_of_the_gpus_that_are_visible(seen, index, devices, share, monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if seen is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", seen)
    assert processes._share(index, devices) == share
    with processes._visible(share):
        assert os.environ.get("CUDA_VISIBLE_DEVICES") == (share or seen)
    assert os.environ.get("CUDA_VISIBLE_DEVICES") == seen
