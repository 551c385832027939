"""Each script, as it is, on each backend: the same trace as on its own framework, and the engine that ran is proved."""

import pytest

from tests.bridges.running import BACKENDS, OTHER, PATHS, home_of, natively, redirected
from tests.bridges.trace import difference, unproved
from tests.peers.plain_path import plain_path

# a choice of scripts in which each construct occurs at least once; all of them are in the slow tier
FAST = {
    "lightning": {"autoencoder_callbacks", "manual_accumulate", "resume", "warmup_hooks"},
    "ignite": {"autoencoder_early_stop", "handler_zoo", "resume", "stopping", "teacher_student"},
}


def name(path):
    return f"{home_of(path)}-{path.stem}"


def tiered(path, framework):
    fast = path.stem in FAST[home_of(path)] and framework != home_of(path)
    return pytest.param(path, framework, id=f"{name(path)}-on-{framework}", marks=() if fast else pytest.mark.slow)


def test_there_are_many_scripts_of_either_framework():
    counts = [sum(home_of(path) == home for path in PATHS) for home in ("lightning", "ignite")]
    assert min(counts) >= 15
    assert all({path.stem for path in PATHS if home_of(path) == home} >= names for home, names in FAST.items())


@pytest.mark.parametrize(("path", "framework"), [tiered(path, one) for path in PATHS for one in BACKENDS])
def test_a_script_does_the_same_on_another_engine(path, framework, native):
    wanted, got = native(path), redirected(path, framework)
    assert not difference(wanted, got)
    assert not unproved(got, framework, wanted)


@pytest.mark.parametrize(
    "path", [pytest.param(one, id=name(one), marks=() if one.stem == "resume" else pytest.mark.slow) for one in PATHS]
)
def test_a_script_does_the_same_on_the_plain_path(path, native):
    framework, wanted = OTHER[home_of(path)], native(path)
    with plain_path():
        got = redirected(path, framework)
    assert not difference(wanted, got)
    assert not unproved(got, framework, wanted)


@pytest.mark.slow
@pytest.mark.parametrize("path", PATHS, ids=map(name, PATHS))
def test_a_script_is_deterministic_and_trains(path, native):
    first, again = native(path), natively(path)
    assert not difference(first, again)
    assert not unproved(first, home_of(path), first)
    assert any(home_of(path) in engines for engines in first.engines)
    assert (first.error is not None) == path.stem.startswith("broken")
