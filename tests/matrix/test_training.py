"""The shipped suite's most telling cases on every backend of the cell, bit for bit against the bare loop."""

import pytest

from unitrain.loop.step import TrainStep
from unitrain.testing.conformance import ALL, AdapterConformance, assert_same, reference
from unitrain.testing.trace import record

CASES = (
    # models, optimizers, schedules
    *("mlp-sgd-constant", "cnn-adamw-step", "transformer-groups-epoch", "mlp-lbfgs-plateau", "tied-sgd-epoch"),
    # data
    *("noisy", "stream", "noisy-workers", "shared-generator", "unsized", "dicts"),
    # steps
    *("custom-steps", "drawing-validation", "adversarial", "adversarial-clipped", "manual", "busy-callback"),
    # options
    *(
        "accumulate-4-midway-validation",
        "clip-norm",
        "clip-value",
        "limit-fraction",
        "val-over-epochs",
        "no-validation",
    ),
    *("max-steps", "max-steps-accumulated", "fast-dev-run", "overfit-2"),
    # stops and callbacks
    *(
        "stop-batch_end",
        "stop-midway-validation",
        "stop-min-epochs",
        "stop-stream",
        "early-stopping",
        "timer-min-steps",
    ),
    *("ema-every-2-midway", "accumulation-schedule", "plateau-on-a-logged-value", "frozen-submodule"),
    # precision
    *("64-true-cnn", "bf16-true-norm-3", "16-true-transformer", "bf16-mixed-tied", "16-mixed-tied"),
    *("bf16-mixed-norm-1", "16-mixed-custom-steps", "16-mixed-adversarial-clipped", "16-mixed-manual-products"),
    *("poisoned-joint", "poisoned-norm-3"),
)
ENGINES = ["lightning", "ignite"]


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("framework", ENGINES)
def test_training_equals_the_bare_loop(framework, name):
    assert_same(reference(name), record(framework, ALL[name]))


@pytest.fixture
def suite(framework):
    made = AdapterConformance()
    made.framework = framework
    return made


@pytest.mark.parametrize("name", ["noisy", "stream"])
@pytest.mark.parametrize("framework", ENGINES)
def test_evaluation_and_prediction_equal_the_bare_loop(suite, framework, name):
    suite.test_evaluation_equals_the_bare_loop(name, "validate")
    suite.test_evaluation_equals_the_bare_loop(name, "test")
    suite.test_prediction_equals_the_bare_loop(name)


@pytest.mark.parametrize("framework", ENGINES)
def test_an_error_in_a_handler_comes_out_as_it_is(suite, framework):
    suite.test_an_error_in_a_handler_comes_out_as_it_is("val_batch_end")


@pytest.mark.parametrize("framework", ENGINES)
def test_a_fault_is_noticed(framework, monkeypatch):
    monkeypatch.setattr(TrainStep, "_clip", lambda *_: None)
    with pytest.raises(AssertionError, match="the runs differ"):
        test_training_equals_the_bare_loop(framework, "clip-norm")


def test_the_reference_trains():
    assert reference("noisy").outcome[1] > 0
