"""Studies whose trials are runs of several processes: rank 0 reports, and all ranks stop in the same epoch."""

import json
import pickle
from pathlib import Path
from types import SimpleNamespace

import optuna
import pytest
import torch

from tests.tuning.studies import rows, study, weights
from unitrain import Callback, ConfigError, Pruning, SpecError, UnifiedTrainer
from unitrain.compat.optuna import make_storage
from unitrain.testing import cases
from unitrain.testing.models import loader

MONITOR = "val/loss"
TWO = {"devices": 2, "accelerator": "cpu", "enable_progress_bar": False}


class AtTheThird(optuna.pruners.BasePruner):
    def prune(self, study, trial):
        return len(trial.intermediate_values) >= 3


class Notes(Callback):
    """Notes in a file of each rank how far it came."""

    def __init__(self, folder):
        self.folder = folder

    def on_epoch_end(self, run):
        Path(self.folder, f"{run.rank}.json").write_text(json.dumps([run.state.epoch, run.state.step]))


def asked(storage=None, name="study"):
    return optuna.create_study(storage=storage, study_name=name, pruner=AtTheThird()).ask()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_rank_0_reports_and_all_ranks_stop_in_the_same_epoch(tmp_path):
    found = {}
    for framework in ("lightning", "ignite"):
        trial = asked(make_storage(f"journal://{tmp_path}/study.log"), framework)
        torch.manual_seed(0)
        spec, notes = cases.spec("mlp", "sgd", "step"), tmp_path / framework
        notes.mkdir()
        callbacks = [Pruning(trial, MONITOR), Notes(notes)]
        trainer = UnifiedTrainer(framework, max_epochs=5, seed=3, callbacks=callbacks, **TWO)
        with pytest.raises(optuna.TrialPruned) as caught:
            trainer.fit(spec, loader(), loader(samples=6))
        assert (caught.value.result.epoch, caught.value.result.stopped_by) == (2, "pruned")
        reached = [json.loads((notes / f"{rank}.json").read_text()) for rank in (0, 1)]
        assert reached == [[2, 9], [2, 9]]
        reports = trial.study.trials[0].intermediate_values
        assert list(reports) == [0, 1, 2]
        assert reports[2] == caught.value.result.metrics[MONITOR]
        found[framework] = reports, spec.model.state_dict()
    (one, first), (other, second) = found.values()
    assert one == other
    assert all(torch.equal(value, second[name]) for name, value in first.items())


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_a_study_of_trials_of_two_processes_is_the_same_on_both_backends(strategy, tmp_path):
    given = {
        "n_trials": 3,
        "parallel": 1,
        "trainer": {"max_epochs": 3, "strategy": strategy, **TWO},
        "pruner": optuna.pruners.MedianPruner(n_startup_trials=1),
        "storage": f"journal://{tmp_path}/study.log",
    }
    found = [study(framework=framework, study_name=framework, **given) for framework in ("lightning", "ignite")]
    assert rows(found[0]) == rows(found[1])
    assert {one.state.name for one in found[0].trials} <= {"COMPLETE", "PRUNED"}
    assert all(len(one.intermediate_values) for one in found[0].trials)
    if strategy == "ddp":
        for mine, theirs in zip(weights(found[0]).values(), weights(found[1]).values(), strict=True):
            assert all(torch.equal(value, theirs[name]) for name, value in mine.items())


def test_a_study_in_memory_is_refused_before_a_process_starts():
    trainer = UnifiedTrainer("ignite", max_epochs=1, callbacks=[Pruning(asked(), MONITOR)], **TWO)
    with pytest.raises(SpecError, match=r"in this process's memory[\s\S]*make_storage\(\"journal:///study\.log\"\)"):
        trainer.fit(cases.spec("mlp"), loader(), loader(samples=6))
    with pytest.raises(ConfigError, match="in this process's memory"):
        pickle.dumps(Pruning(asked(), MONITOR))


def test_a_rank_that_is_not_the_first_reports_nothing(tmp_path):
    trial = asked(make_storage(f"journal://{tmp_path}/study.log"))
    pruning = pickle.loads(pickle.dumps(Pruning(trial, MONITOR)))
    run = SimpleNamespace(
        rank=1,
        state=SimpleNamespace(epoch=0),
        hub=SimpleNamespace(stop_reason=None, within_epoch=False, epoch_metrics={MONITOR: 1.0}),
        config=SimpleNamespace(check_val_every_n_epoch=1),
    )
    pruning.decide(run)
    assert trial.study.trials[0].intermediate_values == {}
    run.rank = 0
    pruning.decide(run)
    assert trial.study.trials[0].intermediate_values == {0: 1.0}
