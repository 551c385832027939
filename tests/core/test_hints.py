"""What the hints say: the option, the number, the event and the steps that were meant."""

from __future__ import annotations

import re
import warnings
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from unitrain import (
    EMA,
    Callback,
    ConfigError,
    CustomEvent,
    DataError,
    Event,
    SpecError,
    StochasticWeightAveraging,
    TrainerConfig,
    TrainSpec,
    UnifiedTrainer,
)

FRAMEWORKS = ("lightning", "ignite", "reference")
MEANT = [
    ("precision", "fp16", "precision='16-mixed'"),
    ("precision", torch.bfloat16, "precision='bf16-mixed'"),
    ("precision", "FP32", "precision='32-true'"),
    ("precision", "bf16-mix", "did you mean 'bf16-mixed'?"),
    ("strategy", "dpp", "did you mean 'ddp'?"),
    ("strategy", "FSDP", "did you mean 'fsdp'?"),
    ("strategy", "dp", 'strategy="ddp", with a batch size for one device: dp was removed in 2.0.'),
    ("accelerator", "cpus", "did you mean 'cpu'?"),
    ("gradient_clip_algorithm", "nrom", "did you mean 'norm'?"),
    ("deterministic", "Warn", "did you mean 'warn'?"),
    ("max_epochs", "2", "max_epochs=2, without quotes."),
    ("max_epochs", np.int64(3), "max_epochs=3"),
    ("max_steps", 1e4, "max_steps=10000"),
    ("max_steps", "1e4", "the default is max_steps=-1."),
    ("seed", "0", "seed=0, without quotes."),
    ("gradient_clip_val", "0.5", "gradient_clip_val=0.5, without quotes."),
    ("enable_progress_bar", "False", "enable_progress_bar=False, without quotes."),
    ("limit_train_batches", 5.0, "limit_train_batches=5"),
    ("limit_train_batches", "0.5", "limit_train_batches=0.5, without quotes."),
    ("max_epochs", "two", "the default is max_epochs=None."),
    ("max_epochs", "0", "the default is max_epochs=None."),
    ("max_epochs", True, "the default is max_epochs=None."),
    ("max_epochs", "(" * 2000, "the default is max_epochs=None."),
    ("precision", 8, "the default is precision='32-true'."),
    ("strategy", "xyz", "the default is strategy='auto'."),
]


@pytest.fixture(params=FRAMEWORKS)
def framework(request):
    return request.param


@pytest.mark.parametrize(("name", "value", "hint"), MEANT, ids=[f"{name}={value!r:.20}" for name, value, _ in MEANT])
def test_an_option_is_answered_with_what_is_meant(name, value, hint):
    with pytest.raises(ConfigError) as caught:
        TrainerConfig(**{name: value})
    assert caught.value.hint == hint


@pytest.mark.parametrize(("name", "value", "hint"), [one for one in MEANT if "quotes" in one[2] or "'" in one[2][:18]])
def test_what_a_hint_says_is_accepted(name, value, hint):
    said = re.search(r"(\w+=[^,]+?)(, without quotes\.)?$", hint)
    options = eval(f"dict({said[1]})") if said else {name: re.search("'(.*)'", hint)[1]}
    TrainerConfig(**options, **({} if name != "gradient_clip_algorithm" else {"gradient_clip_val": 1.0}))


NAMES = [
    ("NEVER", 'CustomEvent("never")'),
    ("dataDrifted", 'CustomEvent("data_drifted")'),
    ("data drifted!", 'CustomEvent("data_drifted")'),
    ("EPOCH_END", "Event.EPOCH_END, a built-in event."),
    ("EpochEnd", "Event.EPOCH_END, a built-in event."),
    ("class", 'CustomEvent("drifted")'),
    ("", 'CustomEvent("drifted")'),
    ("1", 'CustomEvent("drifted")'),
    (3, 'CustomEvent("drifted")'),
]


@pytest.mark.parametrize(("name", "hint"), NAMES)
def test_the_name_of_a_custom_event_is_answered_with_a_proper_one(name, hint):
    with pytest.raises(SpecError, match="in lower case") as caught:
        CustomEvent(name)
    assert caught.value.hint == hint


def make_spec(**changes):
    torch.manual_seed(0)
    fields = {"model": nn.Linear(4, 1), "loss": nn.MSELoss(), "optimizer": partial(torch.optim.SGD, lr=0.1)}
    return TrainSpec(**{**fields, **changes})


BATCHES = [(torch.ones(2, 4), torch.ones(2, 1))] * 3


def fit(framework, *callbacks, waits, fires, batches=BATCHES):
    trainer = UnifiedTrainer(framework, max_epochs=1, enable_progress_bar=False, callbacks=callbacks)
    if waits:
        trainer.on(CustomEvent(waits)(every=2), lambda: None)
    trainer.on(Event.BATCH_END, lambda run: run.fire(CustomEvent(fires)) if fires else None)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trainer.fit(make_spec(), batches)
    return [str(one.message) for one in caught if "never fired" in str(one.message)]


def test_a_misspelt_custom_event_is_told_of(framework):
    found = fit(framework, waits="wandered_of", fires="wandered_off")
    assert len(found) == 1
    assert "CustomEvent('wandered_of') was never fired" in found[0]
    assert "Did you mean 'wandered_off'?" in found[0]


def test_a_callback_that_waits_for_a_misspelt_event_is_told_of(framework):
    CustomEvent("wandered_of")

    class Waits(Callback):
        def on_wandered_of(self, run):
            pass

    assert len(fit(framework, Waits(), waits=None, fires="wandered_off")) == 1


@pytest.mark.parametrize(
    ("waits", "fires"),
    [("wandered", "wandered"), ("wandered_of", None), ("wandered_of", "quite_another"), (None, "wandered")],
)
def test_an_event_that_may_just_not_have_come_is_not(framework, waits, fires):
    assert not fit(framework, waits=waits, fires=fires)


def test_the_averages_that_do_not_go_together_are_named(framework):
    for other, named in ((EMA(), "and EMA both"), (StochasticWeightAveraging(0.1), "and another Stochastic")):
        trainer = UnifiedTrainer(framework, max_epochs=4, callbacks=[StochasticWeightAveraging(0.1), other])
        with pytest.raises(ConfigError, match=f"StochasticWeightAveraging {named}"):
            trainer.fit(make_spec(), BATCHES)


@pytest.mark.parametrize(("source", "target"), [("x", "y"), ("pixel_values", "labels"), ("input", "label")])
def test_the_keys_of_a_batch_are_in_the_steps_of_the_hint(framework, source, target):
    batches = [{source: inputs, target: wanted} for inputs, wanted in BATCHES]
    trainer = UnifiedTrainer(framework, max_epochs=1, enable_progress_bar=False)
    with pytest.raises(DataError, match="A batch must be") as caught:
        trainer.fit(make_spec(), batches)
    hint = caught.value.hint
    assert hint.startswith('rename the keys to "input" and "target"')
    steps = re.search(r"TrainSpec\((.*)\)\.$", hint)[1]
    spec = make_spec(**eval(f"dict({steps})", {"loss": nn.functional.mse_loss}))
    assert trainer.fit(spec, batches, batches).step == 3
    expected = make_spec()
    UnifiedTrainer("reference", max_epochs=1, enable_progress_bar=False).fit(expected, BATCHES)
    assert torch.equal(spec.model.weight, expected.model.weight)


@pytest.mark.parametrize("batch", [{"a": 1, "b": 2}, {"x": 1}, {"y": 2}, (1, 2, 3), None, {1: 2, 3: 4}])
def test_a_batch_without_such_keys_is_answered_in_general(batch):
    with pytest.raises(DataError) as caught:
        UnifiedTrainer("reference", max_epochs=1, enable_progress_bar=False).fit(make_spec(batch_size=1), [batch])
    assert caught.value.hint == "pass TrainSpec(training_step=, validation_step=) for any other structure."
