"""The profile of `make bench`: the time goes to whom it belongs."""

import json
import sys
import time
from pathlib import Path

import pytest

from tests.bench import by_hand
from tests.bench.__main__ import VARIANTS
from tests.bench.profile import LOADING, SAME_WORK, owner, profiled
from tests.bench.report import parts
from tests.bench.work import WORK
from unitrain.metrics import metric as metrics

RESULTS = json.loads(Path(__file__).with_name("results.json").read_text())


def test_the_bare_loop_spends_its_time_on_the_work_and_on_its_sums():
    found = dict(profiled(WORK["W1"], {"bare": by_hand.bare_m}, seconds=3.0)["bare"])
    assert set(found) >= {SAME_WORK, LOADING, "tests/bench/by_hand.py add"}
    assert found[SAME_WORK] > sum(found.values()) / 3


@pytest.mark.parametrize("framework", ["ignite", pytest.param("lightning", marks=pytest.mark.slow)])
def test_what_is_made_slow_is_seen(framework, monkeypatch):
    def slow(mean, value, weight):
        end = time.perf_counter() + 0.002
        while time.perf_counter() < end:
            pass

    monkeypatch.setattr(metrics.Mean, "add", slow)
    found = dict(profiled(WORK["W3p"], {"slow": VARIANTS[f"unitrain on {framework}"]}, seconds=0.5)["slow"])
    assert found[f"{__name__.replace('.', '/')}.py slow"] == max(found.values())


def test_time_within_torch_is_its_callers():
    assert owner(sys._getframe()).endswith("test_profile.py test_time_within_torch_is_its_callers")


def test_small_parts_are_in_one_row():
    shown = {"work": "W1", "variant": "unitrain on ignite", "parts": []}
    shown["parts"] = [{"place": name, "microseconds": value} for name, value in (("a", 90.0), ("b", 9.0), ("c", 1.0))]
    header, rows = parts([shown])
    assert header == ("microseconds a batch", "W1, ignite")
    assert rows == [("a", "90.0"), ("b", "9.0"), ("the rest, each below 2%", "1.0"), ("all", "100.0")]


def test_each_goal_that_is_missed_has_its_profile():
    missed = {(one["work"], one["variant"]) for one in RESULTS["goals"] if not one["met"]}
    profiles = {(one["work"], one["variant"]) for one in RESULTS["profiles"]}
    assert missed <= profiles
