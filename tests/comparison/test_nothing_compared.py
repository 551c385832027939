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
    assert "without a step" in result.sides[0].error


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
