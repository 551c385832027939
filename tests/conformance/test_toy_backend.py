"""The backend of docs/backends.md is complete: it passes the suite, and with few features it refuses the rest of it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from unitrain import UnsupportedFeatureError
from unitrain.backends.protocol import Feature
from unitrain.testing import cases
from unitrain.testing.conformance import ALL, AdapterConformance
from unitrain.testing.models import loader
from unitrain.trainer import UnifiedTrainer

PAGE = Path(__file__).parents[2] / "docs" / "backends.md"
BACKEND, SUITE, _ = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
toy: dict = {}
exec(BACKEND, toy)  # the page is the program
exec(SUITE, toy)


class Few(toy["ToyAdapter"]):
    """Declares nothing but what it must."""

    features = frozenset({Feature.TRAINING, Feature.EVALUATION})


@pytest.mark.slow  # the fast tier asks for one refusal of each feature, below
class TestFew(AdapterConformance):
    framework = Few()


@pytest.mark.slow
class TestWhole(toy["TestToy"]):
    framework = toy["ToyAdapter"]()


SOME = [
    "mlp-sgd-constant",
    "cnn-adamw-plateau",
    "mlp-lbfgs-epoch",
    "accumulate-3",
    "clip-norm",
    "16-mixed-norm-1",
    "stream",
]


@pytest.mark.parametrize("name", SOME)
def test_the_page_has_a_whole_backend(name):
    suite = toy["TestToy"]()
    suite.test_training_equals_the_bare_loop(name)
    assert not suite.refusals


def test_it_is_written_in_some_twenty_lines():
    lines = [line for line in BACKEND.splitlines() if line and not line.startswith(("from", "import"))]
    assert len(lines) <= 22


def test_a_refusal_is_counted_and_says_what_is_missing():
    suite = TestFew()
    suite.test_training_equals_the_bare_loop("clip-norm")
    assert suite.refusals["clip-norm"] == {Feature.CLIPPING}


def test_what_is_not_declared_and_not_refused_is_a_failure(monkeypatch):
    monkeypatch.setattr("unitrain.trainer.require_config", lambda adapter, config: None)
    with pytest.raises(pytest.fail.Exception, match="DID NOT RAISE"):
        TestFew().test_training_equals_the_bare_loop("clip-norm")


@pytest.mark.parametrize(
    ("asked", "feature"),
    [
        (lambda trainer: trainer.fit(cases.spec(), loader(), loader()), Feature.EVALUATION),
        (lambda trainer: trainer.validate(cases.spec(), loader()), Feature.EVALUATION),
        (lambda trainer: trainer.test(cases.spec(), loader()), Feature.EVALUATION),
        (lambda trainer: trainer.predict(cases.spec(), loader()), Feature.PREDICTION),
    ],
    ids=["fit", "validate", "test", "predict"],
)
def test_what_only_trains_refuses_the_rest(asked, feature):
    only = Few()
    only.features = frozenset({Feature.TRAINING})
    trainer = UnifiedTrainer(only, max_epochs=1, enable_progress_bar=False)
    trainer.fit(cases.spec(), loader())
    with pytest.raises(UnsupportedFeatureError, match=feature.value):
        asked(trainer)


def test_a_suite_without_a_framework_says_so_at_once():
    with pytest.raises(TypeError, match="TestNothing must set the backend to test"):
        type("TestNothing", (AdapterConformance,), {})


def test_an_adapter_that_lacks_something_says_so_at_once():
    with pytest.raises(TypeError, match="lacks name, requires, packages, features, events"):
        type("TestLacking", (AdapterConformance,), {"framework": object()})


def test_every_case_is_there():
    assert set(SOME) <= set(ALL)
