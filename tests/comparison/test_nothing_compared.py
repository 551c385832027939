"""Sides of which nothing was compared are never equal, and odd values end no comparison."""

import os
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from tests.comparison import loops, programs
from unitrain.errors import ConfigError
from unitrain.testing.comparison.compare import compare

pytestmark = pytest.mark.usefixtures("here")


def nothing():
    return
    yield


def other_each_time():
    torch.manual_seed(int.from_bytes(os.urandom(4), "little"))
    model = torch.nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    yield model


def returns_an_iterator():
    return loops.loop()


def with_numpy_values():
    spec, train, *rest = programs.faulty_gradient()
    return replace(spec, optimizer=partial(torch.optim.AdamW, lr=np.float64(1e-2))), train, *rest


def test_a_loop_is_compared_with_itself():
    assert compare(loops.loop, loops.loop).equal
    result = compare(other_each_time, other_each_time)
    assert not result.equal
    assert len(result.sides) == 2


def test_a_loop_without_a_step_is_not_equal_to_a_spec():
    result = compare(nothing, programs.make)
    assert result.status == "failed"
    assert "without an optimizer step" in result.sides[0].error


def test_programs_that_train_nothing_are_not_equal():
    result = compare(programs.never_stepping, frameworks=["reference", "ignite"])
    assert (result.status, result.equal, result.steps) == ("failed", False, 0)
    assert [one.error for one in result.sides] == [
        "it ended without an optimizer step, so nothing can be compared."
    ] * 2


def test_only_what_two_checkpoints_share_is_called_equal(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    weights = {"weight": torch.ones(2)}
    torch.save(weights, "a.pt")
    states = [torch.optim.SGD([torch.ones(2, requires_grad=True)], lr=0.1).state_dict()]
    torch.save({"state_dict": weights, "optimizer_states": states, "pytorch-lightning_version": "2.6.0"}, "b.ckpt")
    told = str(compare("a.pt", "b.ckpt"))
    assert told.startswith("equal: a.pt and b.ckpt have the same weights\n")
    assert "note: only b.ckpt has optimizer states: not compared." in told


def test_one_loop_that_is_returned_is_refused():
    with pytest.raises(ConfigError, match="one side only: a hand-written loop"):
        compare(returns_an_iterator)


def test_a_folder_with_tensors_of_an_earlier_comparison_is_refused_before_anything_runs(tmp_path):
    (tmp_path / "reference-step-3.safetensors").touch()
    with pytest.raises(ConfigError, match="already exists"):
        compare(pytest.fail, programs.make, bisect=tmp_path)


def test_a_difference_among_values_of_numpy_is_named():
    one = compare(programs.make, with_numpy_values).difference
    assert (one.step, one.phase) == (4, "gradient")
