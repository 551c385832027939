"""Any state is read back equal or refused; without the gate, these checks fail."""

from __future__ import annotations

import argparse
from collections import Counter, OrderedDict, UserDict, defaultdict, deque
from decimal import Decimal
from pathlib import Path, PureWindowsPath

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

import unitrain
from tests.checkpoint.test_gate import FRAMEWORKS, Dict, Kind, Level, List, Number, Point, Text
from tests.checkpoint.test_gate_runs import everywhere, refusal
from unitrain import CheckpointError
from unitrain.checkpoint import gate, io
from unitrain.checkpoint import sharded_files as parts
from unitrain.checkpoint.convert import safe_reading as foreign
from unitrain.checkpoint.layout import KEY

# --- any state --------------------------------------------------------------------------------------------------------

FLAT = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(2**1990, 2**2300),
    st.floats(allow_nan=False),
    st.complex_numbers(allow_nan=False),
    st.text(max_size=5),
    st.binary(max_size=3),
    st.sampled_from([np.float32(0.1), np.int16(-3), np.bool_(False), np.str_("s"), np.datetime64("2024-01-02")]),
    st.sampled_from([Path("a"), PureWindowsPath("b"), Kind.A, Level.HIGH, Text("t"), Number(1.5)]),
    st.sampled_from([torch.float64, torch.device("cpu"), torch.Size([2]), Decimal("1.0"), range(3), len, nn.ReLU]),
    st.dates(),
    st.datetimes(),
    st.timedeltas(),
)
KEYS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=3), st.just(Path("k"))
)


def containers(inner):
    lists = st.lists(inner, max_size=3)
    dicts = st.dictionaries(KEYS, inner, max_size=3)
    return st.one_of(
        lists,
        dicts,
        lists.map(tuple),
        lists.map(List),
        lists.map(deque),
        dicts.map(Dict),
        dicts.map(OrderedDict),
        dicts.map(lambda given: defaultdict(int, given)),
        dicts.map(UserDict),
        st.tuples(inner, inner).map(lambda given: Point(*given)),
        st.frozensets(st.integers(), max_size=3),
        st.dictionaries(st.sampled_from("ab"), inner).map(lambda given: argparse.Namespace(**given)),
        st.dictionaries(st.sampled_from("ab"), st.integers(1, 3)).map(Counter),
    )


STATES = st.recursive(FLAT, containers, max_leaves=8)
QUIET = {"deadline": None, "derandomize": True, "suppress_health_check": list(HealthCheck), "database": None}


def through_every_reader(value, folder):
    """Return why ``value`` is refused; it is read back equal by every reader, or refused with its place."""
    path = folder / "a.ckpt"
    path.unlink(missing_ok=True)
    weights = {"model.w": torch.ones(1), "model._extra_state": value}
    content = {"state_dict": weights, "optimizer_states": [{"state": {}, "param_groups": [{"odd": value}]}]}
    content[KEY] = {"format": 1, "callbacks": {"Keeper": value}, "hub": {"epoch": 0}}
    refused = refusal(lambda: io.write(path, content), path)
    if refused is not None:
        assert "state_dict['model._extra_state']" in refused
        return refused
    torch.load(path, weights_only=True)
    found = parts.read_any(path)
    assert found[KEY]["callbacks"]["Keeper"] == value
    assert found["optimizer_states"][0]["param_groups"][0]["odd"] == value
    assert unitrain.load_weights(path)["_extra_state"] == value
    assert foreign.read(path)["state_dict"]["model._extra_state"] == value
    return None


@settings(max_examples=60, **QUIET)
@given(value=STATES)
def test_any_state_is_read_back_equal_or_refused(value, tmp_path_factory):
    through_every_reader(value, tmp_path_factory.getbasetemp())


@pytest.mark.slow
@settings(max_examples=5000, **QUIET)
@given(value=STATES)
def test_any_state_of_many_is_read_back_equal_or_refused(value, tmp_path_factory):
    through_every_reader(value, tmp_path_factory.getbasetemp())


@pytest.mark.slow
@pytest.mark.parametrize("framework", FRAMEWORKS)
@settings(max_examples=60, **QUIET)
@given(values=st.lists(STATES, min_size=4, max_size=4))
def test_any_states_in_a_run_come_back_or_are_refused(framework, values, tmp_path_factory):
    everywhere(framework, values, tmp_path_factory.getbasetemp())


# --- negative controls ------------------------------------------------------------------------------------------------


def test_without_the_gate_the_check_of_the_written_file_refuses(tmp_path, monkeypatch):
    monkeypatch.setattr(io, "admitted", lambda content, lost=None: dict(content))
    with pytest.raises(CheckpointError, match=r"could not be read back, so it was not written[\s\S]*Hint: "):
        io.write(tmp_path / "a.ckpt", {KEY: {"x": np.float64(1.0)}})
    assert not list(tmp_path.iterdir())


def test_without_the_gate_and_the_check_the_property_fails(tmp_path, monkeypatch):
    monkeypatch.setattr(io, "admitted", lambda content, lost=None: dict(content))
    monkeypatch.setattr(io, "_require_readable", lambda path, **how: None)
    for value in (np.float64(1.0), Path("x"), b"", 2**3000):
        with pytest.raises(Exception, match=r"weights_only|Weights only"):
            through_every_reader(value, tmp_path)


@pytest.mark.parametrize("name", ["numpy.number", "Path", "deque"])
def test_a_kind_that_is_not_restored_is_noticed(name, tmp_path, monkeypatch):
    broken = gate.KINDS[name]
    monkeypatch.setitem(gate.KINDS, name, type(broken)(broken.pack, lambda value, _: "another"))
    value = {"numpy.number": np.float32(0.1), "Path": Path("x"), "deque": deque([1])}[name]
    with pytest.raises(AssertionError, match="another"):
        through_every_reader(value, tmp_path)
