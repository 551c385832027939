"""The exception tree, its messages and its hints."""

from __future__ import annotations

import inspect
import re

import pytest

import unitrain
from unitrain import errors
from unitrain.errors import UnitrainError, did_you_mean, install_hint, refuse_unknown

TREE = {
    "ConfigError": ValueError,
    "SpecError": ValueError,
    "DataError": ValueError,
    "UnsupportedFeatureError": NotImplementedError,
    "BackendNotInstalledError": ImportError,
    "VersionError": None,
    "CheckpointError": None,
    "ExportError": None,
    "DeployError": None,
    "DistributedError": None,
}


def test_tree_is_whole():
    found = {name for name, one in vars(errors).items() if inspect.isclass(one) and issubclass(one, Exception)}
    assert found == {*TREE, "UnitrainError"}


def test_tree_is_the_one_that_the_docstring_draws():
    drawn = dict(re.findall(r"[├└]── (\w+)(?:.*\(also an? (\w+)\))?", errors.__doc__))
    assert drawn == {name: "" if also is None else also.__name__ for name, also in TREE.items()}


@pytest.mark.parametrize("name", TREE)
def test_error_can_be_caught_by_the_root_and_by_the_builtin(name):
    kind = getattr(unitrain, name)
    assert kind is getattr(errors, name)
    assert kind.__bases__ == ((UnitrainError,) if TREE[name] is None else (UnitrainError, TREE[name]))


@pytest.mark.parametrize("name", ["UnitrainError", *TREE])
def test_every_error_is_public_and_carries_its_hint(name):
    assert name in unitrain.__all__
    kind = getattr(unitrain, name)
    with_hint, without = kind("got 3.", hint="give 4."), kind("got 3.")
    assert (str(with_hint), with_hint.hint) == ("got 3.\nHint: give 4.", "give 4.")
    assert (str(without), without.hint) == ("got 3.", None)


@pytest.mark.parametrize(
    ("given", "accepted", "hint"),
    [
        ("max_epoch", ["max_epochs", "min_epochs"], "did you mean 'max_epochs'?"),
        ("Ignite", ["ignite", "lightning"], "did you mean 'ignite'?"),
        ("zzz", ["b", "a"], "accepted are a, b."),
        ("", ["a"], "accepted are a."),
    ],
)
def test_did_you_mean_names_the_nearest_or_all(given, accepted, hint):
    assert did_you_mean(given, accepted) == hint


@pytest.mark.parametrize("given", [3, None, ("a",)])
def test_did_you_mean_understands_a_name_that_is_no_text(given):
    assert did_you_mean(given, ["a", "b"]) == "accepted are a, b."


def test_refuse_unknown_lets_known_names_pass_and_raises_the_asked_error():
    refuse_unknown(["a", "b"], ["a", "b", "c"], "f()", errors.DataError)
    with pytest.raises(errors.DataError, match=r"f\(\) got an unknown argument 'aa'.*\nHint: "):
        refuse_unknown(["a", "aa"], ["a"], "f()", errors.DataError)


def test_install_hint_names_the_distribution_and_not_the_import():
    assert install_hint("ignite") == "pip install 'pytorch-unitrain[ignite]'"
