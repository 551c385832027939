"""Native arguments: unitrain's own and unknown ones are refused by name, the others arrive."""

from __future__ import annotations

import inspect

import pytest
import pytorch_lightning as pl
from pytorch_lightning.profilers import SimpleProfiler

from unitrain import ConfigError, TrainerConfig, UnifiedTrainer, UnsupportedFeatureError
from unitrain_lightning.options import OWNED

ACCEPTED = set(inspect.signature(pl.Trainer.__init__).parameters)


@pytest.mark.parametrize("name", sorted(OWNED.keys() & ACCEPTED))
def test_argument_that_unitrain_owns(make_spec, make_batches, refused, name):
    trainer = UnifiedTrainer("lightning", native={"lightning": {name: 1}}, enable_progress_bar=False)
    spec = make_spec()
    with refused(trainer, spec, ConfigError, repr(name), OWNED[name], "profiler"):
        trainer.fit(spec, make_batches())


def test_every_option_of_unitrain_is_owned_and_every_owned_name_is_real():
    both = {"profiler"}  # unitrain's measures the same parts everywhere, Lightning's its own hooks
    assert set(OWNED) >= set(TrainerConfig.__dataclass_fields__) - both
    assert set(OWNED) - set(TrainerConfig.__dataclass_fields__) <= ACCEPTED


@pytest.mark.parametrize(("name", "says"), [("profilr", "did you mean 'profiler'"), ("zzz", "accepted are")])
def test_argument_that_lightning_does_not_have(make_spec, make_batches, refused, name, says):
    trainer, spec = UnifiedTrainer("lightning", native={"lightning": {name: 1}}, enable_progress_bar=False), make_spec()
    with refused(trainer, spec, ConfigError, repr(name), says):
        trainer.fit(spec, make_batches())
    with pytest.raises(ConfigError, match=says):
        trainer.create_trainer()


def test_argument_of_ignite_s_engine(make_spec, make_batches, refused):
    """``Engine`` takes its process function and nothing else, and that is unitrain's step."""
    trainer = UnifiedTrainer("ignite", native={"ignite": {"process_function": print}}, enable_progress_bar=False)
    spec = make_spec()
    with refused(trainer, spec, ConfigError, "'process_function'", "create_trainer()"):
        trainer.fit(spec, make_batches())


def test_argument_of_the_reference():
    with pytest.raises(UnsupportedFeatureError, match=r"'reference' \(native arguments\)[\s\S]*Hint:"):
        UnifiedTrainer("reference", native={"reference": {"any": 1}})


def test_argument_that_is_given_arrives_as_it_is(make_spec, make_batches):
    profiler = SimpleProfiler()
    options = {
        "native": {"lightning": {"profiler": profiler}, "ignite": {}},
        "max_epochs": 1,
        "enable_progress_bar": False,
    }
    trainer = UnifiedTrainer("lightning", **options)
    trainer.fit(make_spec(), make_batches())
    assert trainer.native.profiler is profiler
    assert profiler.recorded_durations["run_training_epoch"]


@pytest.mark.parametrize("framework", ["reference", "lightning", "ignite"], ids=str)
def test_arguments_of_the_other_frameworks_are_left_to_them(make_spec, make_batches, framework):
    native = {name: {"anything": 1} for name in ("lightning", "ignite") if name != framework}
    trainer = UnifiedTrainer(framework, native=native, max_epochs=1, enable_progress_bar=False)
    assert trainer.fit(make_spec(), make_batches()).step == 3
