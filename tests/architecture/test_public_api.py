"""What users may rely on is what public_api.txt says: a change of the API is seen in the diff, and is a decision."""

import argparse
import importlib.util
import inspect
from enum import Enum
from pathlib import Path

import pytest
from packaging.version import Version

import unitrain
from unitrain.cli import commands
from unitrain.compat.deprecation import Deprecation
from unitrain.run.result import FitResult
from unitrain.serving.options import ServeOptions

spec = importlib.util.spec_from_file_location("public_api", Path(__file__).with_name("public_api.py"))
public_api = importlib.util.module_from_spec(spec)
spec.loader.exec_module(public_api)


def test_the_public_api_is_the_one_that_was_agreed_on():
    assert public_api.PAGE.read_text() == public_api.text(), "a change for users: CHANGELOG.md, then `make docs`"


def another_default(monkeypatch):
    found = changed(unitrain.bundle, "target", default="vertex")
    monkeypatch.setattr(unitrain.bundle, "__signature__", found, raising=False)


def another_annotation(monkeypatch):
    found = changed(unitrain.summarize, "depth", annotation="float")
    monkeypatch.setattr(unitrain.summarize, "__signature__", found, raising=False)


def another_result(monkeypatch):
    monkeypatch.setitem(unitrain.load_weights.__annotations__, "return", "list[Tensor]")


def a_further_argument(monkeypatch):
    monkeypatch.setattr(unitrain, "seed_everything", lambda seed, workers=False: None)


def changed(function, name, **changes):
    signature = inspect.signature(function)
    parameters = signature.parameters | {name: signature.parameters[name].replace(**changes)}
    return signature.replace(parameters=list(parameters.values()))


def a_name_less(monkeypatch):
    monkeypatch.setattr(unitrain, "__all__", [name for name in unitrain.__all__ if name != "EMA"])


def a_method_less(monkeypatch):
    monkeypatch.delattr(unitrain.TuneResult, "best_spec")


def a_further_method(monkeypatch):
    monkeypatch.setattr(unitrain.Deployment, "logs", lambda self: [], raising=False)


def another_property(monkeypatch):
    monkeypatch.setattr(unitrain.Deployment, "url", property(lambda self: b""))


def another_attribute(monkeypatch):
    monkeypatch.setitem(FitResult.__annotations__, "epoch", "float")


def an_attribute_that_is_not_documented_any_more(monkeypatch):
    text = unitrain.EarlyStopping.__doc__
    assert "    best: " in text or "    stopped_epoch: " in text
    monkeypatch.setattr(unitrain.EarlyStopping, "__doc__", text.partition("Attributes:")[0])


def another_value_of_an_event(monkeypatch):
    monkeypatch.setattr(unitrain, "Event", Enum("Event", {"FIT_START": "start"}))


def an_option_of_a_dictionary_less(monkeypatch):
    monkeypatch.delitem(ServeOptions.__annotations__, "watch")


def another_base_method(monkeypatch):
    monkeypatch.setattr(unitrain.Callback, "on_fit_end", lambda self, run, result: None)


def of_a_command(change):
    def seed(monkeypatch):
        module = importlib.import_module(commands.COMMANDS["status"].module)
        before = module.add_arguments
        monkeypatch.setattr(module, "add_arguments", lambda parser: change(before, parser))

    return seed


def renamed(add, parser):
    add(parser)
    next(one for one in parser._actions if one.dest == "json").option_strings[:] = ["--as-json"]


def required(add, parser):
    add(parser)
    next(one for one in parser._actions if one.dest == "json").required = True


def with_choices(add, parser):
    add(parser)
    next(one for one in parser._actions if one.dest == "provider").choices = ["local"]


def with_another_type(add, parser):
    add(parser)
    next(one for one in parser._actions if one.dest == "project").type = int


def in_another_order(add, parser):
    parser.add_argument("first")
    add(parser)


def hidden(add, parser):
    add(parser)
    next(one for one in parser._actions if one.dest == "json").help = argparse.SUPPRESS


def a_command_less(monkeypatch):
    monkeypatch.delitem(commands.COMMANDS, "bench-serve")


SEEDS = {
    "default": another_default,
    "annotation": another_annotation,
    "result": another_result,
    "argument": a_further_argument,
    "name": a_name_less,
    "method": a_method_less,
    "further method": a_further_method,
    "property": another_property,
    "attribute": another_attribute,
    "documented attribute": an_attribute_that_is_not_documented_any_more,
    "event": another_value_of_an_event,
    "dictionary": an_option_of_a_dictionary_less,
    "base": another_base_method,
    "command": a_command_less,
    "option": of_a_command(renamed),
    "required": of_a_command(required),
    "choices": of_a_command(with_choices),
    "type": of_a_command(with_another_type),
    "order": of_a_command(in_another_order),
    "hidden": of_a_command(hidden),
}


@pytest.mark.parametrize("seed", SEEDS)
def test_a_change_is_noticed(monkeypatch, seed):
    SEEDS[seed](monkeypatch)
    assert public_api.PAGE.read_text() != public_api.text()


def functions_of(thing):
    """Yield what a public name can mark as deprecated: itself, its methods and the getters of its properties."""
    yield thing
    if inspect.isclass(thing):
        for name in dir(thing):
            member = inspect.getattr_static(thing, name)
            yield getattr(member, "fget", None) or getattr(member, "__func__", member)


def deprecations():
    every = (one for name in unitrain.__all__ for one in functions_of(getattr(unitrain, name)))
    return {found for one in every if isinstance(found := getattr(one, "__deprecation__", None), Deprecation)}


def test_no_deprecated_name_outlives_its_date():
    found = deprecations()
    assert "TrainerControls.bridged" in {one.name for one in found}
    assert [one.name for one in found if Version(one.remove) <= Version(unitrain.__version__)] == []


def test_a_deprecated_function_is_found(monkeypatch):
    marked = unitrain.compat.deprecation.deprecated(since="0.1", remove="0.3", instead="nothing")(lambda: None)
    monkeypatch.setattr(unitrain, "summarize", marked)
    assert "0.3" in {one.remove for one in deprecations()}
