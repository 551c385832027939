"""The conformance suite: what a backend must show to be one.

A third party runs it on a backend of its own::

    from unitrain.testing.conformance import AdapterConformance

    class TestMine(AdapterConformance):
        framework = "mine"

Each case is trained on the backend and on the bare loop (``framework="reference"``), and the two traces are compared in
every bit: weights, optimizer state, losses, metrics, learning rates, events and the final random number generators.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
import torch

from unitrain.run.hub import Event
from unitrain.testing import cases, cases_callbacks, cases_loaders, cases_precision, cases_views
from unitrain.testing.models import loader
from unitrain.testing.trace import Case, Trace, differences, record
from unitrain.trainer import UnifiedTrainer

if TYPE_CHECKING:
    from unitrain.backends.protocol import Adapter

DRAWING = ["noisy", "drawing-validation", "busy-callback", "shared-generator", "stream", "several-validations"]
"""Cases whose validation draws random numbers."""

TABLES = {
    "matrix": cases.matrix(),
    "data": cases.data_cases(),
    "steps": cases.step_cases(),
    "options": cases.option_cases(),
    "stops": cases.stop_cases(),
    "handlers": cases.handler_cases(),
    "loaders": cases_loaders.loader_cases(),
    "callbacks": cases_callbacks.callback_cases(),
    "views": cases_views.view_cases(),
    "precision": cases_precision.precision_cases(),
    "poisoned": cases_precision.poisoned_cases(),
}
ALL = {case.name: case for table in TABLES.values() for case in table}


@cache
def reference(name: str) -> Trace:
    """Return the bare loop's trace of the case of that name."""
    return record("reference", ALL[name])


def assert_same(expected: Trace, got: Trace) -> None:
    """Fail, saying where, if two traces differ in any bit."""
    found = differences(expected, got)
    assert not found, "the runs differ:\n" + "\n".join(found[:20])


def trains(trace: Trace) -> bool:
    """Return whether anything was trained; an empty run would be equal to any other."""
    return trace.outcome[1] > 0 and bool(trace.tape)


class AdapterConformance:
    """Subclass it, set ``framework``, and let pytest collect it.

    Attributes:
        framework: The name of the backend, or an Adapter.
    """

    framework: ClassVar[str | Adapter]

    @pytest.mark.filterwarnings("ignore:TerminateOnNaN")
    @pytest.mark.parametrize("name", ALL)
    def test_training_equals_the_bare_loop(self, name: str) -> None:
        """Each case ends with the same bits, and did the same on the way."""
        expected = reference(name)
        assert trains(expected) or name == "stop-fit_start"
        assert_same(expected, record(self.framework, ALL[name]))

    @pytest.mark.parametrize("name", DRAWING)
    def test_validation_leaves_no_trace(self, name: str) -> None:
        """Training is the same with and without validation, whatever the validation draws."""
        with_validation = record(self.framework, ALL[name])
        options = {**ALL[name].options, "limit_val_batches": 0}
        without = record(self.framework, replace(ALL[name], options=options))
        assert any(event.startswith("val_") for event, *_ in with_validation.tape)
        assert not any(event.startswith("val_") for event, *_ in without.tape)
        for part in ("weights", "losses", "rates", "optimizers", "rng", "outcome"):
            assert not differences(getattr(with_validation, part), getattr(without, part), part)

    def test_two_runs_are_equal(self) -> None:
        """The same case twice gives the same bits: nothing is kept between runs."""
        assert_same(record(self.framework, ALL["noisy"]), record(self.framework, ALL["noisy"]))

    @pytest.mark.parametrize("stage", ["validate", "test"])
    @pytest.mark.parametrize("name", ["noisy", "stream", "custom-steps", "drawing-validation", "list"])
    def test_evaluation_equals_the_bare_loop(self, name: str, stage: str) -> None:
        """Evaluation measures the same, fires the same events and leaves the generators as they were."""
        expected, tape = _evaluated("reference", ALL[name], stage)
        got, same_tape = _evaluated(self.framework, ALL[name], stage)
        assert expected
        assert got == expected
        assert same_tape == tape

    @pytest.mark.parametrize("stage", ["validate", "test"])
    def test_evaluation_of_several_loaders_equals_the_bare_loop(self, stage: str) -> None:
        """Each loader is measured under its own name, and one validation is one VAL_START and one VAL_END."""
        case = Case(name="", spec=cases.step_cases()[1].spec, train=cases_loaders.several)
        expected, tape = _evaluated("reference", case, stage)
        prefix = {"validate": "val", "test": "test"}[stage]
        assert {*expected} == {
            f"{prefix}/{name}/{key}" for name in cases_loaders.several() for key in ("noisy", "loss")
        }
        assert tape.count(f"{prefix}_start") == tape.count(f"{prefix}_end") == 1
        assert _evaluated(self.framework, case, stage) == (expected, tape)

    def test_prediction_of_several_loaders_equals_the_bare_loop(self) -> None:
        """Predictions are lists by the loader's name, one item a batch."""
        case = Case(name="", spec=cases.spec, train=cases_loaders.several)
        expected, got = _predicted("reference", case), _predicted(self.framework, case)
        assert {name: len(found) for name, found in expected.items()} == {
            "noisy": 6,
            "list": 6,
            "small": 2,
            "stream": 6,
        }
        assert not differences(expected, got)

    @pytest.mark.parametrize("name", ["noisy", "stream", "dicts", "list"])
    def test_prediction_equals_the_bare_loop(self, name: str) -> None:
        """Predictions are equal, one item a batch."""
        expected, got = _predicted("reference", ALL[name]), _predicted(self.framework, ALL[name])
        assert expected
        assert not differences(expected, got)

    @pytest.mark.parametrize("event", ["epoch_start", "batch_end", "backward_end", "val_batch_end", "epoch_end"])
    def test_an_error_in_a_handler_comes_out_as_it_is(self, event: str) -> None:
        """The original exception is raised, once, after EXCEPTION was fired and nothing else."""
        expected = _broken("reference", event)
        assert expected[-1] == "exception"
        assert _broken(self.framework, event) == expected


def _evaluated(framework: str | Adapter, case: Case, stage: str) -> tuple[dict[str, float], list[str]]:
    torch.manual_seed(0)
    spec, data = case.spec(), case.train()
    trainer = UnifiedTrainer(framework, enable_progress_bar=False)
    tape: list[str] = []
    for event in Event:
        trainer.on(event, lambda event=event: tape.append(event.value))
    modes = [module.training for module in spec.model.modules()]
    before = torch.get_rng_state()
    metrics = getattr(trainer, stage)(spec, data)
    assert torch.equal(before, torch.get_rng_state()), "the evaluation drew from the global generator"
    assert modes == [module.training for module in spec.model.modules()]
    return metrics, tape


def _predicted(framework: str | Adapter, case: Case) -> Any:
    torch.manual_seed(0)
    return UnifiedTrainer(framework, seed=0, enable_progress_bar=False).predict(case.spec(), case.train())


class _Broken(Exception):  # noqa: N818 - it is the user's, not ours
    pass


def _broken(framework: str | Adapter, event: str) -> list[str]:
    trainer = UnifiedTrainer(framework, max_epochs=2, seed=0, enable_progress_bar=False)
    tape: list[str] = []
    error = _Broken("on purpose")
    for one in Event:
        trainer.on(one, lambda one=one: tape.append(one.value))

    def fail() -> None:
        raise error

    trainer.on(Event(event)(once=2), fail)
    with pytest.raises(_Broken) as caught:
        trainer.fit(cases.spec(), loader(), loader())
    assert caught.value is error
    return tape
