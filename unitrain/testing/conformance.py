"""The conformance suite: what a backend must show to be one.

A third party runs it on a backend of its own::

    from unitrain.testing.conformance import AdapterConformance

    class TestMine(AdapterConformance):
        framework = "mine"

Each case is trained on the backend and on the reference loop (``framework="reference"``), and the two traces are
compared in every bit: weights, optimizer state, losses, metrics, learning rates, events and the final random number
generators. A case that needs a feature which the backend does not declare must be refused, and is then a declared
refusal.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache, partial
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from unitrain.backends.protocol import Adapter, Feature
from unitrain.backends.registry import find_adapter
from unitrain.errors import BackendNotInstalledError, UnsupportedFeatureError, install_hint
from unitrain.run.hub import Event
from unitrain.testing import cases, cases_callbacks, cases_loaders, cases_precision, cases_views
from unitrain.testing.models import loader
from unitrain.testing.needs import needs
from unitrain.testing.trace import Case, Trace, differences, record
from unitrain.trainer import UnifiedTrainer

try:
    import pytest
except ModuleNotFoundError as error:
    raise BackendNotInstalledError(
        "the conformance suite needs pytest, which is not installed.", hint=install_hint("testing")
    ) from error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

DRAWING = ["noisy", "drawing-validation", "busy-callback", "shared-generator", "stream", "several-validations"]
"""Cases with random numbers in validation."""

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
    """Return the reference loop's trace of the case of that name."""
    return record("reference", ALL[name])


def assert_same(expected: Trace, got: Trace) -> None:
    """Fail, saying where, if two traces differ in any bit."""
    found = differences(expected, got)
    assert not found, "the runs differ:\n" + "\n".join(found[:20])


def trains(trace: Trace) -> bool:
    """Return whether anything was trained; an empty run would be equal to any other."""
    return trace.outcome[1] > 0 and bool(trace.tape)


_PARTS = (*Adapter.__annotations__, "build", "accepts_callback")


class AdapterConformance:
    """Subclass it, set ``framework``, and let pytest collect it.

    Attributes:
        framework: The name of the backend, or an Adapter.
        refusals: The tests that passed by a refusal, and what they need that the backend does not declare.

    Raises:
        TypeError: By a subclass at its definition, if it sets no framework, or an Adapter that lacks something.
        ConfigError: If no backend has that name.
    """

    framework: ClassVar[str | Adapter]
    refusals: ClassVar[dict[str, frozenset[Feature]]] = {}

    def __init_subclass__(cls) -> None:
        """Say at once what the subclass lacks."""
        super().__init_subclass__()
        cls.refusals = {}
        given = getattr(cls, "framework", None)
        if given is None:
            raise TypeError(f'{cls.__name__} must set the backend to test: framework = "mine", or an Adapter.')
        missing = [] if isinstance(given, str) else [part for part in _PARTS if not hasattr(given, part)]
        if missing:
            raise TypeError(f"{cls.__name__}.framework lacks {', '.join(missing)}; subclass Adapter.")
        events = set(Event) - set(find_adapter(given).events)
        if events:
            raise TypeError(f"{cls.__name__}.framework.events lacks {', '.join(sorted(events))}.")

    def _refuses(self, test: str, needed: Iterable[Feature], act: Callable[[], object]) -> bool:
        """Return whether ``test`` needs what the backend does not declare, after a check that it is refused by name."""
        missing = frozenset(needed) - find_adapter(self.framework).features
        if not missing:
            return False
        with pytest.raises(UnsupportedFeatureError) as caught:
            act()
        assert any(feature.value in str(caught.value) for feature in missing)
        self.refusals[test] = missing
        return True

    @pytest.mark.filterwarnings("ignore:TerminateOnNaN")
    @pytest.mark.parametrize("name", ALL)
    def test_training_equals_the_bare_loop(self, name: str) -> None:
        """Each case ends with bit-identical results, and did the same on the way."""
        if self._refuses(name, needs(ALL[name]), lambda: record(self.framework, ALL[name])):
            return
        expected = reference(name)
        assert trains(expected) or name == "stop-fit_start"
        assert_same(expected, record(self.framework, ALL[name]))

    @pytest.mark.parametrize("name", DRAWING)
    def test_validation_leaves_no_trace(self, name: str) -> None:
        """Training is the same with and without validation, whatever the validation draws."""
        if self._refuses(f"trace-{name}", needs(ALL[name]), lambda: record(self.framework, ALL[name])):
            return
        with_validation = record(self.framework, ALL[name])
        options = {**ALL[name].options, "limit_val_batches": 0}
        without = record(self.framework, replace(ALL[name], options=options))
        assert any(event.startswith("val_") for event, *_ in with_validation.tape)
        assert not any(event.startswith("val_") for event, *_ in without.tape)
        for part in ("weights", "losses", "rates", "optimizers", "rng", "outcome"):
            assert not differences(getattr(with_validation, part), getattr(without, part), part)

    def test_two_runs_are_equal(self) -> None:
        """The same case twice gives the same bits: nothing is kept between runs."""
        if self._refuses("twice", needs(ALL["noisy"]), lambda: record(self.framework, ALL["noisy"])):
            return
        assert_same(record(self.framework, ALL["noisy"]), record(self.framework, ALL["noisy"]))

    @pytest.mark.parametrize("stage", ["validate", "test"])
    @pytest.mark.parametrize("name", ["noisy", "stream", "custom-steps", "drawing-validation", "list"])
    def test_evaluation_equals_the_bare_loop(self, name: str, stage: str) -> None:
        """Evaluation measures the same, fires the same events and leaves the generators as they were."""
        attempt = partial(_evaluated, self.framework, ALL[name], stage)
        if self._refuses(f"{stage}-{name}", [Feature.EVALUATION], attempt):
            return
        expected, tape = _evaluated("reference", ALL[name], stage)
        got, same_tape = attempt()
        assert expected
        assert got == expected
        assert same_tape == tape

    @pytest.mark.parametrize("stage", ["validate", "test"])
    def test_evaluation_of_several_loaders_equals_the_bare_loop(self, stage: str) -> None:
        """Each loader is measured under its own name, and one validation is one VAL_START and one VAL_END."""
        case = Case(name="", spec=cases.step_cases()[1].spec, train=cases_loaders.several)
        attempt = partial(_evaluated, self.framework, case, stage)
        if self._refuses(f"{stage}-several", [Feature.EVALUATION], attempt):
            return
        expected, tape = _evaluated("reference", case, stage)
        prefix = {"validate": "val", "test": "test"}[stage]
        assert {*expected} == {
            f"{prefix}/{name}/{key}" for name in cases_loaders.several() for key in ("noisy", "loss")
        }
        assert tape.count(f"{prefix}_start") == tape.count(f"{prefix}_end") == 1
        assert attempt() == (expected, tape)

    def test_prediction_of_several_loaders_equals_the_bare_loop(self) -> None:
        """Predictions are lists by the loader's name, one item per batch."""
        case = Case(name="", spec=cases.spec, train=cases_loaders.several)
        if self._refuses("predict-several", [Feature.PREDICTION], partial(_predicted, self.framework, case)):
            return
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
        """Predictions are equal, one item per batch."""
        if self._refuses(f"predict-{name}", [Feature.PREDICTION], partial(_predicted, self.framework, ALL[name])):
            return
        expected, got = _predicted("reference", ALL[name]), _predicted(self.framework, ALL[name])
        assert expected
        assert not differences(expected, got)

    @pytest.mark.parametrize("event", ["epoch_start", "batch_end", "backward_end", "val_batch_end", "epoch_end"])
    def test_an_error_in_a_handler_comes_out_as_it_is(self, event: str) -> None:
        """The original exception is raised, once, after EXCEPTION was fired and nothing else."""
        needed = [Feature.TRAINING, Feature.EVALUATION]
        if self._refuses(f"error-{event}", needed, partial(_attempted, self.framework)):
            return
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


def _attempted(framework: str | Adapter) -> None:
    trainer = UnifiedTrainer(framework, max_epochs=1, enable_progress_bar=False)
    trainer.fit(cases.spec(), loader(), loader())


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
