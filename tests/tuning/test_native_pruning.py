"""The pruning callbacks of optuna-integration in a fit of a spec, beside `unitrain.Pruning`."""

import optuna
import pytest
import torch
from ignite.engine import Engine, Events
from optuna_integration import PyTorchIgnitePruningHandler, PyTorchLightningPruningCallback

from tests.backends import FRAMEWORKS
from unitrain import Pruning, SpecError, UnifiedTrainer
from unitrain.testing import cases
from unitrain.testing.models import loader

MONITOR = "val/loss"


class AtTheThird(optuna.pruners.BasePruner):
    def prune(self, study, trial):
        return len(trial.intermediate_values) >= 3


def pruned(framework, make=None, handler=None):
    """Return what a fit reported until it was pruned, and the weights."""
    study = optuna.create_study(pruner=AtTheThird())
    trial = study.ask()
    torch.manual_seed(0)
    spec = cases.spec("mlp", "sgd", "step")
    callbacks = [] if make is None else [make(trial)]
    trainer = UnifiedTrainer(framework, max_epochs=5, seed=3, enable_progress_bar=False, callbacks=callbacks)
    if handler is not None:
        handler(trainer.create_trainer(), trial)
    with pytest.raises(optuna.TrialPruned):
        trainer.fit(spec, loader(), loader(samples=6))
    return list(study.trials[0].intermediate_values.items()), spec.model.state_dict()


@pytest.fixture(scope="module")
def ours():
    return pruned("reference", lambda trial: Pruning(trial, MONITOR))


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("make", [Pruning, PyTorchLightningPruningCallback])
def test_lightning_s_callback_prunes_on_each_backend_as_ours_does(framework, make, ours):
    reports, weights = pruned(framework, lambda trial: make(trial, MONITOR))
    assert [step for step, _ in reports] == [0, 1, 2]
    assert reports == ours[0]
    assert all(torch.equal(value, weights[name]) for name, value in ours[1].items())


def test_ignite_s_handler_prunes_on_the_engine_as_ours_does(ours):
    def attach(engine, trial):
        engine.add_event_handler(Events.EPOCH_COMPLETED, PyTorchIgnitePruningHandler(trial, MONITOR, engine))

    reports, weights = pruned("ignite", handler=attach)
    assert reports == [(step + 1, value) for step, value in ours[0]]  # Ignite counts epochs from 1
    assert all(torch.equal(value, weights[name]) for name, value in ours[1].items())


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_ignite_s_handler_as_a_callback_is_refused_with_ours_as_the_hint(framework):
    handler = PyTorchIgnitePruningHandler(optuna.create_study().ask(), MONITOR, Engine(lambda engine, batch: None))
    with pytest.raises(SpecError, match=r"PyTorchIgnitePruningHandler[\s\S]*Hint: unitrain\.Pruning\(trial"):
        UnifiedTrainer(framework, callbacks=[handler])
