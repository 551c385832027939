"""Trials at the trackers: a run of its own for each, in the study's group, the same on both backends."""

import csv
import json

import pytest

from tests.tuning.studies import EPOCHS, mixed, study
from unitrain import ConfigError, CSVLogger, MLflowLogger, TensorBoardLogger, WandbLogger
from unitrain.loggers import mlflow as ours
from unitrain.tuning.queue import TrialQueue

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning"
)

NAMES = [f"trial-{number:05d}" for number in range(5)]


def tracked(loggers, **changes):
    return study(n_trials=5, trainer={"max_epochs": EPOCHS, "loggers": loggers}, **changes)


def table(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_each_trial_has_a_folder_with_its_rows_and_parameters(tmp_path):
    found = {}
    for framework in ("lightning", "ignite", "reference"):
        result = tracked([CSVLogger(tmp_path / framework)], framework=framework)
        folder = tmp_path / framework / "tune"
        assert sorted(one.name for one in folder.iterdir()) == NAMES
        for trial, name in zip(result.trials, NAMES, strict=True):
            assert json.loads((folder / name / "hparams.json").read_text()) == trial.params
            measured = [float(row["val/loss"]) for row in table(folder / name / "metrics.csv")]
            assert measured == list(trial.intermediate_values.values())
        found[framework] = [(folder / name / "metrics.csv").read_bytes() for name in NAMES]
    assert found["lightning"] == found["ignite"] == found["reference"]


def test_another_study_does_not_write_into_the_folder_of_the_first(tmp_path):
    for _ in range(2):
        tracked([CSVLogger(tmp_path / "logs")], framework="reference", sampler="random")
    assert sorted(one.name for one in (tmp_path / "logs").iterdir()) == ["tune", "tune-2"]


def test_tensorboard_has_the_objective_beside_the_parameters(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams import plugin_data_pb2

    result = tracked([TensorBoardLogger(tmp_path / "logs")], framework=mixed)
    for trial, name in zip(result.trials, NAMES, strict=True):
        events = EventAccumulator(str(tmp_path / "logs" / "tune" / name)).Reload()
        assert events.Scalars("objective/val/loss")[-1].value == pytest.approx(trial.value)  # they are float32
        plugin = events.summary_metadata["_hparams_/session_start_info"].plugin_data.content
        start = plugin_data_pb2.HParamsPluginData.FromString(plugin).session_start_info.hparams
        assert {key: start[key].number_value for key in ("lr", "width")} == {
            key: trial.params[key] for key in ("lr", "width")
        }
        assert start["state"].string_value == trial.state.name
        plugin = events.summary_metadata["_hparams_/experiment"].plugin_data.content
        infos = plugin_data_pb2.HParamsPluginData.FromString(plugin).experiment.metric_infos
        assert [one.name.tag for one in infos] == ["objective/val/loss"]


@pytest.fixture
def store(tmp_path):
    return f"sqlite:///{tmp_path}/mlflow.db"


def runs(store):
    """Return the parent, and the nested runs by their name."""
    import mlflow

    client = mlflow.MlflowClient(tracking_uri=store)
    found = client.search_runs([client.get_experiment_by_name("unitrain").experiment_id])
    parents = [one for one in found if "mlflow.parentRunId" not in one.data.tags]
    nested = [one for one in found if "mlflow.parentRunId" in one.data.tags]
    assert len(parents) == 1
    assert {one.data.tags["mlflow.parentRunId"] for one in nested} == {parents[0].info.run_id}
    assert len(nested) == len({one.info.run_name for one in nested})
    return parents[0], {one.info.run_name: one for one in nested}


@pytest.mark.slow
def test_mlflow_nests_the_trials_in_one_run_that_later_calls_find(store, tmp_path):
    given = {"storage": f"journal://{tmp_path}/study.log", "study_name": "digits", "parallel": 1, "framework": mixed}
    loggers = [MLflowLogger(tracking_uri=store)]
    study(n_trials=2, trainer={"max_epochs": EPOCHS, "loggers": loggers}, **given)
    result = tracked([MLflowLogger(tracking_uri=store)], **given)
    parent, nested = runs(store)
    assert (parent.info.run_name, parent.info.status) == ("digits", "FINISHED")
    assert sorted(nested) == NAMES
    for trial, name in zip(result.trials, NAMES, strict=True):
        data = nested[name].data
        assert data.params == {key: str(value) for key, value in trial.params.items()}
        assert data.tags["state"] == trial.state.name
        assert data.metrics["objective/val/loss"] == trial.value
        assert data.metrics["val/loss"] == trial.value
        assert nested[name].info.status == "FINISHED"


@pytest.mark.slow
def test_a_trial_that_is_taken_over_keeps_its_run(store):
    group = MLflowLogger(tracking_uri=store).begin_group("digits")
    first, second = (MLflowLogger(tracking_uri=store).for_trial("trial-00000", group) for _ in range(2))
    assert first.run_id == second.run_id
    for one in (first, second):
        one.begin(0)
        one.log_metrics({"epoch": 0}, 1)
    assert list(runs(store)[1]) == ["trial-00000"]


@pytest.mark.slow
def test_without_the_search_a_trial_that_is_taken_over_has_two_runs(store, monkeypatch):
    monkeypatch.setattr(ours.MLflowLogger, "_take_over", lambda self, _: None)
    group = MLflowLogger(tracking_uri=store).begin_group("digits")
    for _ in range(2):
        one = MLflowLogger(tracking_uri=store).for_trial("trial-00000", group)
        one.begin(0)
        one.log_metrics({"epoch": 0}, 1)
    with pytest.raises(AssertionError):
        runs(store)


@pytest.mark.slow
def test_two_workers_make_one_group(store, tmp_path):
    given = {"storage": f"journal://{tmp_path}/study.log", "study_name": "digits", "workers": 2}
    tracked([MLflowLogger(tracking_uri=store), CSVLogger(tmp_path / "logs")], **given)
    assert sorted(runs(store)[1]) == NAMES
    assert sorted(one.name for one in (tmp_path / "logs").iterdir()) == ["digits"]


class Own:
    """A tracker that knows nothing of studies."""

    def __init__(self):
        self.rows = 0

    def log_metrics(self, metrics, step):
        self.rows += 1


def test_a_tracker_that_knows_nothing_of_studies_is_used_as_it_is():
    own = Own()
    result = study(n_trials=2, framework="reference", trainer=lambda trial: {"max_epochs": 2, "loggers": [own]})
    assert own.rows
    assert len(result.trials) == 2


def test_a_tracker_that_cannot_begin_ends_the_study_before_its_first_fit():
    with pytest.raises(ConfigError, match="MLflowLogger cannot begin the study 'tune'"):
        tracked([MLflowLogger(tracking_uri="http://127.0.0.1:9")], framework="reference")


class Fails(CSVLogger):
    """A subclass, which stays one in each trial."""

    def end_trial(self, state, params, values):
        raise RuntimeError("the disk is full")


def test_a_tracker_that_fails_at_the_end_of_a_trial_does_not_end_the_study(tmp_path):
    with pytest.warns(UserWarning, match="the disk is full"):
        result = tracked([Fails(tmp_path / "logs")], framework="reference")
    assert len(result.trials) == 5


class Told(CSVLogger):
    def end_trial(self, state, params, values):
        (self.folder / "state").write_text(state)


@pytest.mark.parametrize("by_trial", [False, True])
def test_trackers_hear_of_a_trial_that_is_given_up(by_trial, tmp_path, monkeypatch):
    original = TrialQueue._begun
    monkeypatch.setattr(
        TrialQueue, "_begun", lambda self, trial: original(self, trial) if trial else (original(self, trial) or 0) + 9
    )
    options = {"max_epochs": 1, "loggers": [Told(tmp_path / "logs")]}
    result = study(n_trials=2, framework="reference", trainer=(lambda trial: options) if by_trial else options)
    states = [(tmp_path / "logs" / "tune" / name / "state").read_text() for name in NAMES[:2]]
    assert states == [one.state.name for one in result.trials] == ["FAIL", "COMPLETE"]


def test_a_function_that_fails_again_does_not_keep_a_trial_from_being_given_up(monkeypatch):
    original = TrialQueue._begun
    monkeypatch.setattr(TrialQueue, "_begun", lambda self, trial: (original(self, trial) or 0) + 9)

    def trainer(trial):
        raise MemoryError

    with pytest.warns(UserWarning, match="trackers of trial 0 were not told of its end: MemoryError"):
        result = study(n_trials=1, framework="reference", trainer=trainer)
    assert [one.state.name for one in result.trials] == ["FAIL"]


def test_w_and_b_groups_by_the_study():
    logger = WandbLogger(project="digits", mode="offline")
    made = logger.for_trial("trial-00003", logger.begin_group("study"))
    assert (made._options["group"], made._options["name"], logger._options["name"]) == ("study", "trial-00003", None)
