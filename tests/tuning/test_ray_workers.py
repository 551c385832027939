"""Workers on a real Ray: the study is that of one process here, also where a worker is killed."""

import os
import signal
import sys
from functools import partial

import pytest
import torch

from tests.servers import running_ray
from tests.tuning.studies import equal, study
from unitrain import BackendNotInstalledError, ConfigError, TrainSpec

pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning:ray"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:ray"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module")
def ray():
    with running_ray() as found:
        yield found


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_cluster_leaves_the_study_of_one_process_though_a_worker_is_killed(ray, tmp_path):
    killed = tmp_path / "killed"

    def make_spec(trial):  # an inner function travels
        sgd = partial(torch.optim.SGD, lr=trial.suggest_float("lr", 1e-3, 0.02, log=True))
        return TrainSpec(model=torch.nn.Linear(4, 1), loss=torch.nn.MSELoss(), optimizer=sgd)

    def trainer(trial):
        if trial.number == 3 and not killed.exists():
            killed.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return {"max_epochs": 4}

    given = {"make_spec": make_spec, "n_trials": 6, "parallel": 2}
    here = study(framework="reference", **given)
    there = {"storage": f"journal://{tmp_path}/study.log", "study_name": "s"}
    result = study(
        trainer=trainer,
        framework=lambda trial: ("ignite", "lightning")[trial.number % 2],
        executor="ray",
        workers=2,
        **given,
        **there,
    )
    assert killed.exists()
    assert result.stopped_by == "n_trials"
    assert equal(result, here)

    def broken(trial):
        raise ZeroDivisionError("the user's")

    with pytest.raises(ZeroDivisionError, match="the user's"):
        study(executor="ray", **{**given, **there, "make_spec": broken, "n_trials": 8})
    cut = study(executor="ray", timeout=0.5, **{**given, **there, "n_trials": 40})
    assert cut.stopped_by == "timeout"
    with pytest.raises(ConfigError, match="need 9 CPU, but the Ray cluster has 2"):
        study(executor="ray", workers=9, **{**given, **there})


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"executor": "rey"}, r"executor='rey'\) is unknown.[\s\S]*ray"),
        ({"executor": None}, "executor=None"),
        ({"executor": "ray"}, "executor='ray' needs a storage that several processes reach"),
    ],
)
def test_what_no_worker_could_do_is_refused(options, said):
    with pytest.raises(ConfigError, match=said):
        study(**options)


def test_without_ray_the_extra_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(BackendNotInstalledError, match=r"executor=\"ray\"[\s\S]*pytorch-unitrain\[ray\]"):
        study(executor="ray", storage=f"journal://{tmp_path}/study.log", study_name="s")


def test_a_password_travels_apart_from_the_study():
    from unitrain.tuning.storage.address import Address

    (name, found), *more = Address("redis://:secret@host/0").secrets().items()
    assert (found, more) == ("redis://:secret@host/0", [])
    assert os.environ.pop(name) == found
    assert Address("redis://host/0").secrets() == {}
