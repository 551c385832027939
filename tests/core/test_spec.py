"""TrainSpec and LRSchedule: a field is meant, or refused by a SpecError before anything is trained."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, fields, replace
from functools import partial

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch import nn
from torch.optim import SGD
from torch.optim.lr_scheduler import LambdaLR, ReduceLROnPlateau, StepLR

from unitrain import ConfigError, Event, LRSchedule, SpecError, TrainSpec

NET = nn.Linear(4, 1)
FIELDS = sorted(field.name for field in fields(TrainSpec))


def one_argument(batch):
    """Take too few arguments for a step."""


anything = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=5),
    st.binary(max_size=3),
    st.lists(st.integers() | st.none(), max_size=3),
    st.dictionaries(st.text(max_size=4) | st.integers(), st.integers() | st.none() | st.text(max_size=3), max_size=3),
    st.sampled_from(
        [
            NET,
            nn.Linear,
            SGD,
            StepLR,
            partial(SGD, lr=0.1),
            nn.MSELoss(),
            one_argument,
            max,
            print,
            dict,
            object(),
            NET.parameters,
        ]
    ),
)


def refusal(make):
    """Return what ``make`` returned, and None, or else None and the SpecError; any other error comes out."""
    try:
        return make(), None
    except SpecError as error:
        return None, error


@given(st.dictionaries(st.sampled_from(FIELDS), anything, max_size=4))
@example({"training_step": max})
@example({"metrics": dict})
@example({"metrics": {1: max}})
@example({"metrics": {"f": one_argument}})
@example({"optimizer": {}})
@example({"callbacks": b"abc"})
def test_any_field_is_meant_or_refused_by_a_spec_error(given_fields):
    spec, error = refusal(lambda: TrainSpec(**{"model": NET, **given_fields}))
    if spec is None:
        assert any(name in str(error) or name.removesuffix("s") in str(error) for name in given_fields)
        return
    for name, value in given_fields.items():
        kept = getattr(spec, name)
        assert (
            kept is value
            or kept == value
            or kept == tuple(value or ())
            or (name == "metrics" and kept == (value or {}))
        )


@given(anything, anything, anything, anything)
@example(StepLR, "epoch", 1, 3)
def test_any_schedule_is_meant_or_refused_by_a_spec_error(factory, interval, frequency, monitor):
    rule, error = refusal(lambda: LRSchedule(factory, interval, frequency, monitor))
    if rule is None:
        assert "LRSchedule" in str(error)
        return
    assert callable(rule.factory)
    assert rule.interval in ("step", "epoch")
    assert type(rule.frequency) is int
    assert rule.frequency >= 1
    assert rule.monitor is None or isinstance(rule.monitor, str)


WRONG = {
    "model": (None, 3, nn.Linear, "net", torch.ones(1)),
    "loss": (3, nn.MSELoss, "mse"),
    "optimizer": (3, "adam", {}, {"a": 3}, {3: SGD}, [SGD]),
    "lr_scheduler": (3, "step", [3], {"optimizer": 3}),
    "metrics": (
        3,
        "acc",
        [nn.L1Loss()],
        {"loss": nn.L1Loss()},
        {"a/b": nn.L1Loss()},
        {"": nn.L1Loss()},
        {1: nn.L1Loss()},
        {"a": 3},
    ),
    "callbacks": (3, "early", None, {1}),
    "training_step": (3, one_argument, lambda: None, nn.Linear),
    "validation_step": (3, one_argument, lambda a, b, c: None),
    "predict_step": ("p", one_argument),
    "automatic_optimization": (None, 1, "no"),
    "hparams": (3, "lr=1", [1]),
    "batch_size": (0, -1, True, 2.0, "8", nn.Linear, lambda: 1, lambda model, batch: 1),
}
WRONG_CASES = [(name, value) for name, values in WRONG.items() for value in values]


def test_every_field_but_the_free_one_has_wrong_values():
    assert sorted({*WRONG, "example_input"}) == FIELDS


@pytest.mark.parametrize(("name", "value"), WRONG_CASES, ids=[f"{n}-{i}" for n in WRONG for i in range(len(WRONG[n]))])
def test_wrong_value_is_refused_when_the_spec_is_made(make_spec, name, value):
    with pytest.raises(SpecError) as caught:
        make_spec(**{name: value})
    assert type(caught.value) is SpecError


@pytest.mark.parametrize(
    ("kind", "name", "nearest"),
    [
        (TrainSpec, "modle", "model"),
        (TrainSpec, "optimiser", "optimizer"),
        (TrainSpec, "metric", "metrics"),
        (TrainSpec, "lr_schedule", "lr_scheduler"),
        (LRSchedule, "interv", "interval"),
    ],
)
def test_unknown_keyword_is_refused_with_the_nearest(kind, name, nearest):
    with pytest.raises(
        SpecError, match=rf"{kind.__name__} got an unknown argument '{name}'[\s\S]*did you mean '{nearest}'"
    ):
        kind(**{name: NET})


def fit(make_trainer, spec, batches, val=None):
    """Fit and return the error's message; nothing may have been trained by then."""
    before = [parameter.detach().clone() for parameter in spec.model.parameters()]
    trainer = make_trainer()
    with pytest.raises(SpecError) as caught:
        trainer.fit(spec, batches, val)
    assert all(torch.equal(now, was) for now, was in zip(spec.model.parameters(), before, strict=True))
    assert trainer.state.batch == 0
    return str(caught.value)


def manual(run, batch):
    """Stand for a manual step."""


CANNOT_BE_FITTED = {
    "no loss": ({"loss": None}, "neither a loss nor a training_step"),
    "no optimizer": ({"optimizer": None}, "no optimizer"),
    "foreign optimizer": ({"optimizer": SGD(nn.Linear(2, 2).parameters(), lr=0.1)}, "none of the model's parameters"),
    "made for others": (
        {"optimizer": lambda _: SGD(nn.Linear(2, 2).parameters(), lr=0.1)},
        "none of the model's parameters",
    ),
    "nan": ({"optimizer": partial(SGD, lr=float("nan"))}, "must be finite; got nan"),
    "inf": ({"optimizer": partial(SGD, lr=float("inf"))}, "must be finite; got inf"),
    "inf tensor": ({"optimizer": partial(torch.optim.Adam, lr=torch.tensor(float("inf")))}, "must be finite; got inf"),
    "nan from the schedule": ({"lr_scheduler": partial(LambdaLR, lr_lambda=lambda _: float("nan"))}, "must be finite"),
    "negative": ({"optimizer": partial(SGD, lr=-1.0)}, "could not be created"),
    "unknown option": ({"optimizer": partial(SGD, rate=1.0)}, "could not be created"),
    "no Optimizer": ({"optimizer": lambda parameters: parameters}, "must return a torch.optim.Optimizer"),
    "no parameters": ({"model": nn.Flatten()}, "has no parameters"),
    "several, automatic": ({"optimizer": {"a": SGD, "b": SGD}}, "'a', 'b') need manual optimization"),
    "one in a mapping, automatic": ({"optimizer": {"a": SGD}}, "need manual optimization"),
    "manual without a step": ({"automatic_optimization": False}, "none is given"),
    "schedule without its option": ({"lr_scheduler": StepLR}, "could not be created"),
    "schedule of nothing": ({"lr_scheduler": lambda optimizer: None}, "must return a torch scheduler"),
    "schedule of another optimizer": ({"lr_scheduler": {"gen": StepLR}}, "contains the unknown optimizer 'gen'"),
    "plateau without a monitor": ({"lr_scheduler": ReduceLROnPlateau}, "needs a metric to monitor"),
    "plateau each step": (
        {"lr_scheduler": LRSchedule(ReduceLROnPlateau, "step", monitor="train/loss")},
        "once per epoch",
    ),
    "monitor of no plateau": (
        {"lr_scheduler": LRSchedule(partial(StepLR, step_size=1), monitor="train/loss")},
        "monitor='train/loss') has no effect on StepLR",
    ),
}


@pytest.mark.parametrize(("changes", "says"), CANNOT_BE_FITTED.values(), ids=CANNOT_BE_FITTED)
def test_spec_that_cannot_be_trained_is_refused_by_fit(make_trainer, make_spec, make_batches, changes, says):
    message = fit(make_trainer, make_spec(**changes), make_batches())
    assert says in message
    assert message.splitlines()[-1].startswith("Hint: ")


TWO = nn.ModuleDict({"gen": nn.Linear(4, 4), "disc": nn.Linear(4, 1)})
MANUAL = {"model": TWO, "automatic_optimization": False, "training_step": manual, "loss": None}
CANNOT_BE_FITTED_BY_HAND = {
    "no such submodule": ({"optimizer": {"gan": SGD}}, "did you mean 'gen'"),
    "schedule for none of them": (
        {"optimizer": {"gen": SGD, "disc": SGD}, "lr_scheduler": StepLR},
        "must be a mapping from optimizer name",
    ),
    "schedule for a third": (
        {"optimizer": {"gen": SGD, "disc": SGD}, "lr_scheduler": {"dics": StepLR}},
        "did you mean 'disc'",
    ),
}


@pytest.mark.parametrize(("changes", "says"), CANNOT_BE_FITTED_BY_HAND.values(), ids=CANNOT_BE_FITTED_BY_HAND)
def test_optimizers_that_cannot_be_meant_are_refused(make_trainer, make_spec, make_batches, changes, says):
    assert says in fit(make_trainer, make_spec(**MANUAL, **changes), make_batches())


def test_frozen_model_is_refused_before_its_loss_has_no_gradient(make_trainer, make_spec, make_batches):
    message = fit(make_trainer, make_spec(model=nn.Linear(4, 1).requires_grad_(requires_grad=False)), make_batches())
    assert "requires_grad" in message or "gradient" in message


@pytest.mark.parametrize(
    ("monitor", "near"), [("val/los", "val/loss"), ("train/acc", "train/loss"), ("loss", "val/loss")]
)
def test_monitor_that_no_one_logs_is_refused_with_what_is_logged(make_trainer, make_spec, make_batches, monitor, near):
    spec = make_spec(lr_scheduler=LRSchedule(ReduceLROnPlateau, monitor=monitor))
    with pytest.raises(ConfigError, match=r"available: train/loss, val/loss") as caught:
        make_trainer().fit(spec, make_batches(), make_batches())
    assert monitor in str(caught.value)
    assert near in str(caught.value)


@pytest.mark.parametrize("validates", [False, True])
def test_monitor_that_handlers_might_log_is_refused_when_they_did_not(make_trainer, make_spec, make_batches, validates):
    trainer = make_trainer()
    trainer.on(Event.EPOCH_END, lambda run: run.log("own", 1.0))
    spec = make_spec(lr_scheduler=LRSchedule(ReduceLROnPlateau, monitor="val/acc" if validates else "train/acc"))
    with pytest.raises(ConfigError, match=r"available: .*train/own"):
        trainer.fit(spec, make_batches(), make_batches() if validates else None)


def test_monitor_of_a_validation_that_there_is_not_is_refused(make_trainer, make_spec, make_batches):
    """A handler could log val/loss by itself; once an epoch is over, and none did, the plateau would never be stepped."""
    trainer = make_trainer(max_epochs=3)
    trainer.on(Event.EPOCH_END, lambda: None)
    spec = make_spec(lr_scheduler=LRSchedule(ReduceLROnPlateau, monitor="val/loss"))
    with pytest.raises(ConfigError, match="val/loss"):
        trainer.fit(spec, make_batches())


def test_evaluation_of_nothing_is_refused(make_trainer, make_spec, make_batches):
    spec = make_spec(loss=None, optimizer=None)
    for run in (make_trainer().validate, make_trainer().test):
        with pytest.raises(SpecError, match=r"nothing to evaluate[\s\S]*Hint:"):
            run(spec, make_batches())
    assert len(make_trainer().predict(spec, make_batches(2))) == 2  # a prediction needs neither


def test_spec_is_frozen_and_keeps_its_own_containers(make_spec):
    metrics, callbacks = {"mae": nn.L1Loss()}, []
    spec = make_spec(metrics=metrics, callbacks=callbacks)
    metrics["other"] = nn.L1Loss()
    callbacks.append(3)
    assert (list(spec.metrics), spec.callbacks) == (["mae"], ())
    with pytest.raises(FrozenInstanceError):
        spec.loss = None


def test_replace_makes_a_variant_and_checks_it(make_spec):
    spec = make_spec(metrics={"mae": nn.L1Loss()})
    assert replace(spec, optimizer=SGD).metrics == spec.metrics
    with pytest.raises(SpecError):
        replace(spec, model=3)


@pytest.mark.parametrize("given_first", [3, None, "spec", NET], ids=["number", "none", "name", "module"])
def test_fit_of_something_else_is_refused(make_trainer, make_batches, given_first):
    with pytest.raises((SpecError, NotImplementedError), match=r"TrainSpec"):
        make_trainer().fit(given_first, make_batches())


def test_train_takes_a_module_and_the_spec_s_fields(make_trainer, make_spec, make_batches):
    torch.manual_seed(0)
    by_hand = nn.Linear(4, 1)
    make_trainer().train(by_hand, make_batches(), loss=nn.MSELoss(), optimizer=partial(SGD, lr=0.1))
    spec = make_spec()
    make_trainer().train(spec, make_batches())
    assert torch.equal(by_hand.weight, spec.model.weight)
    with pytest.raises(SpecError, match=r"got a TrainSpec and loss=[\s\S]*replace"):
        make_trainer().train(spec, make_batches(), loss=nn.MSELoss())
    with pytest.raises(SpecError, match="did you mean 'optimizer'"):
        make_trainer().train(by_hand, make_batches(), optimiser=SGD)
