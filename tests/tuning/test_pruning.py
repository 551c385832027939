"""`unitrain.Pruning` in people's own Optuna code, on every backend."""

import optuna
import pytest

from tests.tuning.studies import TRAIN, VAL, make_spec
from unitrain import Callback, ConfigError, ModelCheckpoint, Pruning, UnifiedTrainer, seed_everything


class Threshold(optuna.pruners.BasePruner):
    """Prunes at the second report of odd trials."""

    def prune(self, study, trial):
        return trial.number % 2 == 1 and len(trial.intermediate_values) == 2


class Seen(Callback):
    def __init__(self):
        self.events = []

    def on_epoch_end(self, run):
        self.events.append(run.state.epoch)

    def on_fit_end(self, run):
        self.events.append("end")

    def on_exception(self, run):
        self.events.append("exception")


def optimized(framework, folder):
    seen, results = [], []
    state = TRAIN.generator.get_state()

    def objective(trial):
        seed_everything(0)
        TRAIN.generator.set_state(state)
        seen.append(Seen())
        keep = ModelCheckpoint(folder / f"{trial.number}", save_last=True)
        callbacks = [Pruning(trial, "val/loss"), seen[-1], keep]
        trainer = UnifiedTrainer(framework, max_epochs=4, enable_progress_bar=False, callbacks=callbacks)
        try:
            return trainer.fit(make_spec(trial), TRAIN, VAL).metrics["val/loss"]
        except optuna.TrialPruned as error:
            results.append(error.result)
            raise

    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0), pruner=Threshold())
    study.optimize(objective, n_trials=4)
    TRAIN.generator.set_state(state)
    rows = [(one.state.name, one.value, one.intermediate_values) for one in study.trials]
    return rows, [one.events for one in seen], results


@pytest.mark.parametrize("framework", ["ignite", "lightning"])
def test_a_pruned_fit_ends_in_order_and_then_raises(framework, tmp_path):
    wanted, _, _ = optimized("reference", tmp_path / "reference")
    rows, events, results = optimized(framework, tmp_path / framework)
    assert rows == wanted
    assert [one[0] for one in rows] == ["COMPLETE", "PRUNED"] * 2
    assert events == [[0, 1, 2, 3, "end"], [0, 1, "end"]] * 2
    assert [one.stopped_by for one in results] == ["pruned"] * 2
    assert all(one.last_checkpoint.exists() for one in results)


@pytest.mark.parametrize("framework", ["ignite", "lightning", "reference"])
def test_a_resumed_fit_knows_that_it_was_pruned_and_goes_on_without_the_callback(framework, tmp_path):
    study = optuna.create_study(pruner=Threshold())
    study.ask()
    trial = study.ask()
    keep = ModelCheckpoint(tmp_path, save_last=True)
    given = {"max_epochs": 4, "enable_progress_bar": False}
    spec = make_spec(optuna.trial.FixedTrial({"lr": 0.01, "width": 3, "drop": 0.1}))
    with pytest.raises(optuna.TrialPruned):
        UnifiedTrainer(framework, **given, callbacks=[Pruning(trial, "val/loss"), keep]).fit(spec, TRAIN, VAL)
    again = UnifiedTrainer(framework, **given, callbacks=[Pruning(trial, "val/loss"), keep])
    with pytest.raises(optuna.TrialPruned) as caught:
        again.fit(spec, TRAIN, VAL, ckpt_path=tmp_path / "last.ckpt")
    assert caught.value.result.epoch == 1
    with pytest.warns(UserWarning, match="callbacks not in this run: Pruning"):
        result = UnifiedTrainer(framework, **given).fit(spec, TRAIN, VAL, ckpt_path=tmp_path / "last.ckpt")
    assert (result.epoch, result.stopped_by) == (3, "max_epochs")


def test_min_epochs_holds_a_pruning_up(tmp_path):
    study = optuna.create_study(pruner=Threshold())
    study.ask()
    trainer = UnifiedTrainer(
        "ignite", max_epochs=4, min_epochs=3, enable_progress_bar=False, callbacks=[Pruning(study.ask(), "val/loss")]
    )
    spec = make_spec(optuna.trial.FixedTrial({"lr": 0.01, "width": 3, "drop": 0.1}))
    with pytest.raises(optuna.TrialPruned) as caught:
        trainer.fit(spec, TRAIN, VAL)
    assert caught.value.result.epoch == 2


def test_a_metric_that_nobody_logs_is_named_with_those_there_are():
    trial = optuna.create_study().ask()
    trainer = UnifiedTrainer("ignite", max_epochs=1, enable_progress_bar=False, callbacks=[Pruning(trial, "val/acc")])
    with pytest.raises(ConfigError, match=r"val/acc.*(.|\n)*val/loss"):
        trainer.fit(make_spec(trial), TRAIN, VAL)


@pytest.mark.parametrize(("trial", "monitor"), [("trial", "val/loss"), (3, "val/loss")])
def test_what_is_no_trial_is_refused(trial, monitor):
    with pytest.raises(ConfigError, match="must be an Optuna trial"):
        Pruning(trial, monitor)


def test_a_monitor_that_is_no_name_is_refused():
    with pytest.raises(ConfigError, match="monitor"):
        Pruning(optuna.create_study().ask(), None)
