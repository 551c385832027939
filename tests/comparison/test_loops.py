"""Hand-written loops against specs."""

import sys
from dataclasses import replace

import pytest
import torch

from tests.comparison import loops, programs
from unitrain.errors import ConfigError
from unitrain.testing.comparison.compare import compare

BACKENDS = ("lightning", "ignite", "reference")
pytestmark = pytest.mark.usefixtures("here")


@pytest.mark.parametrize("loop", [loops.loop, loops.bare], ids=["values", "model"])
def test_a_loop_and_a_spec_are_equal(loop):
    result = compare(loop, programs.make, frameworks=BACKENDS)
    assert result.equal
    assert result.steps == 6
    assert [one.framework for one in result.sides] == [None, *BACKENDS]
    assert [one.steps for one in result.sides] == [6, 6, 6, 6]
    with_values = {"loss", "batch"} & {*result.compared}
    assert with_values == (set() if loop is loops.bare else {"loss", "batch"})
    assert {"initial parameters", "input", "output", "gradient", "parameters", "optimizer state"} <= {*result.compared}


@pytest.mark.parametrize("backend", BACKENDS)
def test_one_ulp_in_a_gradient_of_the_loop_is_named(backend):
    result = compare(loops.faulty, programs.make, frameworks=(backend,))
    one = result.difference
    assert (one.step, one.phase, one.place, one.ulp) == (4, "gradient", "4.weight[1, 2]", 1)
    assert result.steps == 3


def test_the_loop_may_be_the_second():
    result = compare(programs.faulty_gradient, loops.loop)
    assert (result.difference.step, result.difference.phase, result.difference.place) == (
        4,
        "gradient",
        "4.weight[1, 2]",
    )
    assert result.sides[1].status == "different"


def test_a_loop_that_reads_other_data_is_told_so():
    one = compare(loops.other_data, programs.make).difference
    assert (one.step, one.phase) == (1, "batch")
    assert one.cause == "your data differs"
    bare = compare(loops.other_data_bare, programs.make).difference
    assert (bare.step, bare.phase, bare.kind) == (1, "forward", "input")
    assert bare.cause == "your data differs, or how it becomes the model's input"


def test_a_loop_that_draws_in_another_order_is_told_that_dropout_differs():
    one = compare(loops.other_draws, programs.make).difference
    assert (one.step, one.phase, one.kind, one.module) == (4, "forward", "output", "3")
    assert "so does the random state" in one.cause


def test_other_initial_weights_of_a_loop_are_named():
    one = compare(loops.other_weights, programs.make).difference
    assert (one.step, one.phase) == (0, "initial weights")
    assert one.cause == "the initial weights differ"


def test_a_longer_loop_is_named():
    one = compare(programs.make, loops.longer).difference
    assert (one.step, one.phase, one.cause) == (7, "length", "make ends after 6 steps, longer goes on")


def test_keyword_arguments_of_the_model_are_seen_in_the_first_step_too():
    result = compare(loops.keyword_loop, loops.keyword_spec)
    assert result.equal
    other = compare(loops.keyword_loop, loops.other_keyword_spec)
    assert (other.difference.step, other.difference.tensor) == (1, "input['scale']")


BROKEN = {
    "yields_text": "must yield its model after each optimizer step; it yielded a str",
    "yields_more": "it yielded 'acc' in it",
    "yields_a_number": "must yield its loss as a tensor with one number",
    "yields_two_models": "must yield the same model",
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_loop_that_yields_something_else_is_told_what_to_yield(name):
    result = compare(getattr(loops, name), programs.make)
    assert result.status == "failed"
    assert BROKEN[name] in result.sides[0].error
    assert "Hint:" in result.sides[0].error


def test_one_loop_alone_is_refused():
    with pytest.raises(ConfigError, match="one side only"):
        compare(loops.loop)


def test_two_loops_are_compared():
    result = compare(loops.loop, loops.faulty)
    assert (result.difference.step, result.difference.phase) == (4, "gradient")
    assert [one.framework for one in result.sides] == [None, None]


def test_no_hook_is_left():
    optimizers = sys.modules["torch.optim.optimizer"]
    before = dict(optimizers._global_optimizer_pre_hooks)
    compare(loops.faulty, programs.make)
    assert dict(optimizers._global_optimizer_pre_hooks) == before
    assert not torch.nn.modules.module._global_forward_pre_hooks
    assert replace(programs.make()[0]).model._forward_hooks == {}
