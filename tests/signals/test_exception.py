"""``ModelCheckpoint(save_on_exception=True)``: the exact state after the last batch that was done, or a warning."""

from __future__ import annotations

import warnings
from dataclasses import replace

import pytest
import torch

from unitrain import Event, ModelCheckpoint
from unitrain.testing import cases
from unitrain.testing.models import loader
from unitrain.testing.trace import Case, record

FRAMEWORKS = ["reference", "lightning", "ignite"]


def case_of(folder, event=None, once=8, error=ZeroDivisionError, model="cnn"):
    def act(trainer) -> None:
        if event is None:
            return

        @trainer.on(event(once=once))
        def fail():
            torch.rand(3)
            raise error("the user's")

        trainer.on(Event.EXCEPTION, lambda: trainer.announced.append(1))
        trainer.announced = announced

    announced: list[int] = []
    options = {"callbacks": [ModelCheckpoint(folder, save_top_k=0, save_on_exception=True)]}
    made = lambda: cases.spec(model, "adamw", "step")  # noqa: E731
    case = Case(name="", spec=made, train=loader, val=loader, options=options, act=act)
    return case, announced


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt])
@pytest.mark.parametrize(
    ("event", "once"), [(Event.BATCH_START, 8), (Event.BACKWARD_END, 10), (Event.EPOCH_START, 2)], ids=str
)
@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_an_error_before_the_step_leaves_a_file_that_goes_on_exactly(framework, event, once, error, tmp_path, resume):
    case, announced = case_of(tmp_path, event, once, error)
    warnings.simplefilter("error")
    with pytest.raises(error, match="the user's"):
        record(framework, case)
    assert announced == [1]
    warnings.simplefilter("default")
    whole_case, _ = case_of(tmp_path)
    rest = resume.resumed(framework, whole_case, tmp_path / "exception.ckpt")
    resume.assert_goes_on(record("reference", whole_case), rest)


@pytest.mark.parametrize("event", [Event.OPTIMIZER_STEP, Event.BATCH_END, Event.VAL_END])
@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_an_error_after_the_step_is_said_to_leave_none(framework, event, tmp_path):
    case, announced = case_of(tmp_path, event, 1 if event is Event.VAL_END else 8)
    with pytest.raises(ZeroDivisionError, match="the user's"), pytest.warns(UserWarning, match="was not written"):
        record(framework, case)
    assert announced == [1]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_weights_that_user_code_changed_are_noticed(framework, tmp_path):
    """The negative control: without the look at the weights this would write a state that never was."""
    case, _ = case_of(tmp_path)

    def act(trainer) -> None:
        @trainer.on(Event.BATCH_START(once=8))
        def spoil(run):
            with torch.no_grad():
                next(run.model.parameters()).add_(1)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), pytest.warns(UserWarning, match="was not written"):
        record(framework, replace(case, act=act))


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_an_error_while_saving_is_a_note(framework, tmp_path):
    folder = tmp_path / "file"
    case, announced = case_of(folder, Event.BATCH_START)

    def act(trainer):
        trainer.on(Event.FIT_START, lambda: folder.write_text("in the way"))  # before, it is refused
        case.act(trainer)

    with pytest.raises(ZeroDivisionError, match="the user's") as caught:
        record(framework, replace(case, act=act))
    assert announced == [1]
    assert sum("could not be written" in note for note in caught.value.__notes__) == 1


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_without_the_option_nothing_is_written(framework, tmp_path):
    case, _ = case_of(tmp_path, Event.BATCH_START)
    options = {"callbacks": [ModelCheckpoint(tmp_path, save_top_k=0)]}
    with pytest.raises(ZeroDivisionError):
        record(framework, replace(case, options=options))
    assert not list(tmp_path.iterdir())
