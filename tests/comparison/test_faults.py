"""Each seeded fault is named: the step, the phase, the tensor, the index and the distance."""

import pytest

from tests.comparison import programs
from unitrain.testing.comparison.compare import compare

BACKENDS = ("lightning", "ignite", "reference")
pytestmark = pytest.mark.usefixtures("here")


def found(other, make=programs.make, frameworks=("reference",), **options):
    """Return the difference of a program from the right one."""
    result = compare(make, other, frameworks=frameworks, **options)
    assert result.status == "different"
    assert len(result.differences) == 1
    assert result.steps == max((result.difference.step or 1) - 1, 0)
    assert result.sides[1].status == "different"
    return result.difference


def test_the_backends_are_equal():
    result = compare(programs.make, frameworks=BACKENDS)
    assert result.equal
    assert (result.steps, result.difference, result.notes) == (6, None, ())
    assert [one.name for one in result.sides] == list(BACKENDS)
    assert {one.status for one in result.sides} == {"finished"}
    assert len({(one.loss, str(one.history), one.stopped_by) for one in result.sides}) == 1
    assert [len(one.loss) for one in result.sides] == [12, 12, 12]
    assert [row["step"] for row in result.sides[0].history] == [3, 6]
    assert {"train/acc", "val/acc", "val/loss"} <= result.sides[0].history[0].keys()
    assert all(one.seconds > 0 and one.observing > 0 and one.memory > 2**20 for one in result.sides)


@pytest.mark.parametrize("backend", BACKENDS)
def test_one_ulp_in_one_gradient_is_named(backend):
    """The fault is on one backend only; the others are equal."""
    others = [one for one in BACKENDS if one != backend]
    result = compare(getattr(programs, f"faulty_on_{backend}"), frameworks=[*others, backend])
    assert [one.sides for one in result.differences] == [(others[0], backend)]
    one = result.difference
    assert (one.step, one.epoch, one.batch, one.phase) == (4, 1, 8, "gradient")
    assert (one.place, one.dtype, one.shape) == ("4.weight[1, 2]", "float32", (5, 12))
    assert (one.ulp, one.max_ulp, one.differing, one.elements) == (1, 1, 1, 60)
    left, right = (int(bits, 16) for bits in one.bits)
    assert abs(left - right) == 1
    assert one.values[0] != one.values[1]
    assert result.steps == 3


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_fault_of_a_program_is_named_on_each_backend(backend):
    one = found(programs.faulty_gradient, frameworks=(backend,))
    assert one.sides == ("make", "faulty_gradient")
    assert (one.step, one.phase, one.place, one.ulp) == (4, "gradient", "4.weight[1, 2]", 1)


AFTER = {
    "faulty_weight": ("parameters", "0.bias[3]"),
    "faulty_buffer": ("buffers", "1.running_mean[5]"),
    "faulty_moment": ("optimizer state", "4.bias['exp_avg'][0]"),
}


@pytest.mark.parametrize("fault", AFTER)
def test_what_changes_after_the_step_is_named(fault):
    one = found(getattr(programs, fault))
    assert (one.step, one.phase, one.kind, one.place, one.ulp) == (4, "after step", *AFTER[fault], 1)


def test_a_learning_rate_is_named():
    one = found(programs.faulty_rate)
    assert (one.step, one.kind, one.place, one.dtype) == (4, "optimizer options", "param_groups[0]['lr']", "float")
    assert one.ulp >= 1


def test_the_state_of_a_schedule_is_named():
    one = found(programs.faulty_plateau, programs.with_plateau)
    place = "ReduceLROnPlateau[0]['num_bad_epochs']"
    assert (one.step, one.phase, one.kind, one.place) == (4, "after step", "schedule state", place)


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_state_of_the_gradient_scaler_is_named(backend):
    one = found(programs.faulty_scale, programs.half, frameworks=(backend,))
    assert (one.step, one.phase, one.kind, one.place) == (4, "after step", "gradient scaler", "['_growth_tracker']")


@pytest.mark.parametrize(("fault", "generator"), [("draws_once_more", "torch"), ("draws_in_python", "python")])
def test_a_random_number_more_is_named(fault, generator):
    one = found(getattr(programs, fault))
    assert (one.step, one.phase, one.kind) == (4, "random state", "random state at the model's call")
    assert one.tensor.startswith(generator)
    assert "drew random numbers on one side only" in one.cause


def test_dropout_that_is_drawn_twice_is_named_in_the_forward_pass():
    one = found(programs.drops_twice, programs.drops_once)
    assert (one.step, one.phase, one.kind, one.module) == (4, "forward", "output", "inner.3")
    assert one.differing > 1
    assert "same weights, input and random state" in one.cause


def test_one_call_of_the_model_more_is_named():
    one = found(programs.two_calls, programs.one_call)
    assert (one.step, one.phase) == (2, "order")
    assert "one side calls the model once more" in one.cause


def test_another_loss_is_named():
    one = found(programs.other_loss)
    assert (one.step, one.phase, one.kind, one.tensor) == (1, "forward", "loss", "loss")
    assert one.ulp in (1, 2)


def test_other_initial_weights_are_named_before_anything_is_trained():
    one = found(programs.seeded_elsewhere)
    assert (one.step, one.phase, one.place) == (0, "initial weights", "0.weight[0, 0]")
    assert one.cause == "the initial weights differ"
    assert one.hint.startswith("seed before the model is built")


def test_other_data_are_named_with_the_generator_that_they_are_drawn_from():
    one = found(programs.noisy, programs.quietly_noisy)
    assert (one.step, one.phase, one.tensor) == (1, "batch", "batch[0]")
    assert one.cause.startswith("your data differs: the generator at data.dataset.random")
    assert "make()" in one.hint


def test_data_that_no_run_repeats_are_no_fault_of_a_backend():
    result = compare(programs.noisy, frameworks=["reference", "ignite"])
    assert result.difference.cause.startswith("your data differs")
    assert [note.partition(".")[0] for note in result.notes] == [
        "reference does not repeat itself: two runs of it alone differ in step 1",
        "ignite does not repeat itself: two runs of it alone differ in step 1",
    ]
    assert compare(programs.quietly_noisy, frameworks=["reference", "ignite"]).equal


def test_the_same_side_twice_shows_whether_it_repeats_itself():
    result = compare(programs.noisy, frameworks=["ignite", "ignite"], steps=2)
    assert [one.name for one in result.sides] == ["ignite", "ignite (2)"]
    assert result.difference.phase == "batch"
    result = compare(programs.make, programs.make, steps=2)
    assert [one.name for one in result.sides] == ["make", "make (2)"]
    assert result.equal


def test_nan_on_both_sides_is_equal():
    result = compare(programs.infinite_weights, frameworks=BACKENDS)
    assert result.equal
    assert result.steps == 6
    assert result.sides[0].loss[-1][1] != result.sides[0].loss[-1][1]


def test_runs_of_unequal_length_are_named():
    one = found(programs.shorter)
    assert (one.step, one.phase) == (4, "length")
    assert one.cause == "make goes on, shorter ends after 3 steps"
    again = found(programs.make, programs.shorter)
    assert (again.step, again.values) == (4, ("ends after 3 steps", "goes on"))


def test_values_that_one_side_logs_are_named():
    one = found(programs.logs_more)
    assert (one.step, one.phase, one.tensor) == (4, "logs", "more")
    assert one.values == ("only here: nothing", "only here: more")


def test_metrics_of_one_side_are_named():
    one = found(programs.without_validation)
    assert (one.step, one.phase, one.tensor) == (3, "metrics", "val/loss")


def test_only_the_asked_steps_are_compared():
    result = compare(programs.make, programs.faulty_gradient, steps=3)
    assert result.equal
    assert result.steps == 3
    assert {one.status for one in result.sides} == {"steps"}
    assert not compare(programs.make, programs.faulty_gradient, steps=4).equal
