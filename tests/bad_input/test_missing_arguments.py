"""A call that lacks an argument, or has an unknown one, is refused with what is needed and a hint: no bare TypeError."""

import inspect
from enum import Enum

import pytest

import unitrain
from unitrain.deployment.providers.provider import ACCEPTED
from unitrain.deployment.providers.registry import provider_names

MADE_BY_UNITRAIN = {"Comparison", "FitResult", "RunContext", "Deployment", "ExportReport", "TuneResult", "Summary"}
"""Results: nobody else makes them."""


def required_by_name(thing):
    every = inspect.signature(thing).parameters.values()
    return [one.name for one in every if one.kind is one.KEYWORD_ONLY and one.default is one.empty]


def callables():
    for name in unitrain.__all__:
        thing = getattr(unitrain, name)
        is_plain = callable(thing) and not (inspect.isclass(thing) and issubclass(thing, (Enum, Exception)))
        if is_plain and name not in MADE_BY_UNITRAIN and required_by_name(thing):
            yield name
    yield "CloudModel.deploy"


def found(name):
    if name == "CloudModel.deploy":
        return unitrain.CloudModel("reference", "local").deploy
    return getattr(unitrain, name)


CALLABLES = list(callables())


def test_the_known_ones_are_among_them():
    assert {"TrainSpec", "deploy", "tune", "undeploy"} <= set(CALLABLES)


@pytest.mark.parametrize("name", CALLABLES)
def test_each_missing_argument_is_named(name):
    call = found(name)
    first = [
        None
        for one in inspect.signature(call).parameters.values()
        if one.kind is one.POSITIONAL_OR_KEYWORD and one.default is one.empty
    ]
    with pytest.raises(unitrain.UnitrainError) as caught:
        call(*first)
    for argument in required_by_name(call):
        assert f"{argument}=" in str(caught.value).partition("\nHint: ")[0]
        assert f"{argument}=" in caught.value.hint


CALLS = {
    "deploy": (lambda: unitrain.deploy("out", name="digits"), unitrain.DeployError, "deploy() needs provider=."),
    "deploy, nothing": (
        unitrain.deploy,
        unitrain.DeployError,
        "deploy() needs bundle= and provider= and name=.",
    ),
    "undeploy": (lambda: unitrain.undeploy("digits"), unitrain.DeployError, "undeploy() needs provider=."),
    "cloud model": (
        lambda: unitrain.CloudModel("reference", "local").deploy("out"),
        unitrain.DeployError,
        "deploy() needs name=.",
    ),
    "bundle": (lambda: unitrain.bundle("model.onnx"), unitrain.DeployError, "bundle() needs folder=."),
    "serve": (unitrain.serve, unitrain.ConfigError, "serve() needs models=."),
    "tune": (
        lambda: unitrain.tune(None, [], n_trials=3, framework="ignite"),
        unitrain.ConfigError,
        "tune() needs monitor=.",
    ),
    "tune, unknown": (
        lambda: unitrain.tune(None, [], n_trial=3, monitor="val/loss", framework="ignite"),
        unitrain.ConfigError,
        "tune() got an unknown argument 'n_trial'.\nHint: did you mean 'n_trials'?",
    ),
    "compare": (unitrain.compare, unitrain.ConfigError, "compare() needs make=."),
    "compare, unknown": (
        lambda: unitrain.compare("a.ckpt", "b.ckpt", overwrites=True),
        unitrain.ConfigError,
        "compare() got an unknown argument 'overwrites'.\nHint: did you mean 'overwrite'?",
    ),
    "convert": (
        lambda: unitrain.convert_checkpoint("a", "b"),
        unitrain.ConfigError,
        "convert_checkpoint() needs to=.",
    ),
    "convert, unknown": (
        lambda: unitrain.convert_checkpoint("a", "b", to="lightning", overwrites=True),
        unitrain.ConfigError,
        "did you mean 'overwrite'?",
    ),
    "export": (lambda: unitrain.export_module(None), unitrain.ExportError, "export_module() needs path=."),
    "engine": (unitrain.from_engine, unitrain.SpecError, "from_engine() needs engine=."),
    "callback": (unitrain.EarlyStopping, unitrain.ConfigError, "EarlyStopping needs monitor=."),
    "spec": (lambda: unitrain.TrainSpec(loss=None), unitrain.SpecError, "TrainSpec needs model=."),
}


@pytest.mark.parametrize("case", CALLS)
def test_a_wrong_call_says_what_is_needed(case):
    call, kind, says = CALLS[case]
    with pytest.raises(kind) as caught:
        call()
    assert says in str(caught.value)
    assert caught.value.hint


def test_the_providers_of_the_hint_are_all_that_are_shipped():
    assert all(f'"{name}"' in ACCEPTED for name in provider_names())


def test_a_signature_is_still_that_of_the_function():
    parameters = inspect.signature(unitrain.deploy).parameters
    assert list(parameters)[:3] == ["bundle", "provider", "name"]
    assert unitrain.deploy.__doc__.startswith("Deploy a bundle")
