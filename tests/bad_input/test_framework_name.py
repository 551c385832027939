"""The framework: a name that is known, or an adapter."""

from __future__ import annotations

import pytest

from unitrain import ConfigError, UnifiedTrainer
from unitrain.backends.registry import adapter_names
from unitrain_ignite.adapter import IgniteAdapter


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("lighting", "did you mean 'lightning'"),
        ("Lightning", "did you mean 'lightning'"),
        ("pytorch-ignite", "did you mean 'ignite'"),
        ("keras", "accepted are ignite, lightning, reference"),
        ("", "accepted are ignite, lightning, reference"),
        (None, "'ignite', 'lightning', 'reference'"),
        (3, "'ignite', 'lightning', 'reference'"),
        (IgniteAdapter, "'ignite', 'lightning', 'reference'"),
        (object(), "'ignite', 'lightning', 'reference'"),
    ],
    ids=["misspelt", "capital", "distribution", "another", "empty", "none", "number", "class", "object"],
)
def test_framework_that_is_unknown_is_refused_with_those_there_are(given, says):
    with pytest.raises(ConfigError) as caught:
        UnifiedTrainer(given)
    assert says in str(caught.value)
    assert repr(given) in str(caught.value)
    assert "\nHint: " in str(caught.value)


def test_names_are_the_installed_ones():
    assert adapter_names() == ("ignite", "lightning", "reference")


@pytest.mark.parametrize("name", ["ignite", "lightning", "reference"])
def test_every_name_is_a_backend(name):
    assert UnifiedTrainer(name).framework == name


def test_adapter_object_is_taken_as_it_is(make_spec, make_batches):
    trainer = UnifiedTrainer(IgniteAdapter(), max_epochs=1, enable_progress_bar=False)
    assert trainer.fit(make_spec(), make_batches()).framework == "ignite"
    assert type(trainer.native).__module__.startswith("ignite.")
