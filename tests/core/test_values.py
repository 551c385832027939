"""What steps and functions return: one real number where a number is due, and the same meaning on each backend."""

from __future__ import annotations

import warnings
from collections import OrderedDict, UserDict
from dataclasses import dataclass
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from unitrain import Event, Freeze, LRSchedule, SpecError, TrainSpec, Unfreeze, UnifiedTrainer, metric
from unitrain.loop import meter
from unitrain.metrics import metric as of_core
from unitrain.testing import reference

BACKENDS = ("lightning", "ignite", "reference")
BATCHES = [(torch.full((2, 2), float(i)), torch.ones(2, 1)) for i in (1, 2, 3)]
COMPLEX = torch.tensor(1 + 2j)


def spec(**changes):
    net = nn.Linear(2, 1)
    nn.init.zeros_(net.weight)
    nn.init.zeros_(net.bias)
    return TrainSpec(**{"model": net, "loss": nn.MSELoss(), "optimizer": partial(torch.optim.SGD, lr=0.0), **changes})


def trainer(framework, **options):
    return UnifiedTrainer(framework, **{"max_epochs": 1, "enable_progress_bar": False, **options})


def with_value(value):
    return lambda model, batch: {"loss": model(batch[0]).mean(), "x": value}


@pytest.mark.parametrize("framework", BACKENDS)
@pytest.mark.parametrize(
    "value",
    [COMPLEX, 1 + 2j, np.complex64(1 + 2j), torch.ones(2), "1"],
    ids=lambda value: type(value).__name__ + str(np.ndim(value)),
)
def test_a_value_that_is_not_one_real_number_is_refused(framework, value):
    one_number = pytest.raises(SpecError, match="must be a single number")
    with one_number:
        trainer(framework).fit(spec(training_step=with_value(value)), BATCHES)
    with one_number:
        trainer(framework).validate(spec(validation_step=lambda model, batch: {"x": value}), BATCHES)
    with one_number:
        trainer(framework).validate(spec(metrics={"x": lambda output, target: value}), BATCHES)
    for event in (Event.BATCH_END, Event.EPOCH_END):
        logging = trainer(framework)
        logging.on(event, lambda run: run.log("x", value))
        with one_number:
            logging.fit(spec(), BATCHES)


@dataclass
class Returned(OrderedDict):
    """What a model of transformers returns: a mapping of the fields that are there."""

    loss: torch.Tensor
    logits: torch.Tensor
    extra: torch.Tensor
    states: tuple = ()

    def __post_init__(self):
        self.update({name: value for name, value in vars(self).items() if value is not None})


def returned(model, batch):
    logits = model(batch[0])
    return Returned(logits.square().mean(), logits, logits.detach().max(), (logits,))


def test_of_what_a_model_returned_the_loss_and_numbers_count():
    made = {}
    for framework in BACKENDS:
        one = spec(training_step=returned, validation_step=returned)
        result = trainer(framework).fit(one, BATCHES, BATCHES)
        made[framework] = result.metrics, {name: value.clone() for name, value in one.model.state_dict().items()}
    wanted, weights = made["reference"]
    assert set(wanted) == {"train/loss", "train/extra", "val/loss", "val/extra"}
    for metrics, others in made.values():
        assert metrics == wanted
        assert all(torch.equal(weights[name], others[name]) for name in weights)


@pytest.mark.parametrize("framework", BACKENDS)
def test_a_dict_with_more_than_numbers_is_still_refused(framework):
    with pytest.raises(SpecError, match="must be a single number"):
        trainer(framework).fit(spec(training_step=lambda model, batch: dict(returned(model, batch))), BATCHES)


@pytest.mark.parametrize("framework", BACKENDS)
def test_a_complex_value_taken_as_real_would_be_noticed(framework, monkeypatch):
    """The negative control: as it was."""
    monkeypatch.setattr(of_core, "is_number", lambda value: True)
    monkeypatch.setattr(torch.Tensor, "is_complex", lambda value: False)
    monkeypatch.setattr(reference, "one_number", lambda what, value: value.detach().real)
    warnings.simplefilter("ignore")  # torch tells of the cast, once in a process; pytest puts the filters back
    with pytest.raises(pytest.fail.Exception, match="DID NOT RAISE"):
        test_a_value_that_is_not_one_real_number_is_refused(framework, COMPLEX)


@pytest.mark.parametrize("framework", BACKENDS)
@pytest.mark.parametrize(
    "changes",
    [
        {"validation_step": lambda model, batch: model(batch[0])},
        {"validation_step": lambda model, batch: {"loss": model(batch[0])}},
        {"validation_step": lambda model, batch: {"loss": "1"}},
        {"validation_step": lambda model, batch: model(batch[0]).mean() * 1j},
        {"loss": nn.MSELoss(reduction="none")},
    ],
    ids=["step", "mapping", "text", "complex", "default"],
)
def test_an_unreduced_validation_loss_is_refused(framework, changes):
    for method in ("validate", "test"):
        with pytest.raises(SpecError, match="the loss must be a single number"):
            getattr(trainer(framework), method)(spec(**changes), BATCHES)


@pytest.mark.parametrize("framework", BACKENDS)
@pytest.mark.parametrize("scale", [1j, torch.ones(2, 1)], ids=["complex", "vector"])
@pytest.mark.parametrize("automatic", [True, False])
def test_a_training_loss_that_is_not_one_real_number_is_refused(framework, scale, automatic):
    step = lambda given, batch: (given if automatic else given.model)(batch[0]).mean() * scale  # noqa: E731
    with pytest.raises(SpecError, match="the loss must be a single number"):
        trainer(framework).fit(spec(training_step=step, automatic_optimization=automatic), BATCHES)


@pytest.mark.parametrize("framework", BACKENDS)
@pytest.mark.parametrize(
    ("returned", "expected"),
    [
        (lambda output, target: {"loss": 1.5}, {"val/loss": 1.5}),
        (lambda output, target: {"loss": np.float64(2), "y": 1}, {"val/loss": 2.0, "val/y": 1.0}),
        (lambda output, target: {"loss": None, "y": 1.0}, {"val/y": 1.0}),
        (lambda output, target: {"loss": None, "output": output, "target": target}, {"val/loss": 1.0}),
        (lambda output, target: UserDict(loss=output.mean(), y=1.0), {"val/loss": 0.0, "val/y": 1.0}),
        (lambda output, target: output.mean().reshape(1, 1), {"val/loss": 0.0}),
        (lambda output, target: (output, target), {"val/loss": 1.0}),
        (lambda output, target: None, {}),
        (lambda output, target: {}, {}),
    ],
    ids=["number", "other numbers", "no loss", "loss of output", "mapping", "one element", "pair", "none", "empty"],
)
def test_what_a_validation_step_returns_means_the_same(framework, returned, expected):
    """The model gives 0 and the target is 1, so that the mean squared error is 1."""
    step = lambda model, batch: returned(model(batch[0]), batch[1])  # noqa: E731
    assert trainer(framework).validate(spec(validation_step=step), BATCHES) == expected


@pytest.mark.parametrize("framework", BACKENDS)
@pytest.mark.parametrize(
    "returned",
    [
        lambda output, target: (output, target, target),
        lambda output, target: [output, target],
        lambda output, target: [("a", 1.0)],
        lambda output, target: (),
        lambda output, target: 1.5,
        lambda output, target: 0,
        lambda output, target: "ab",
    ],
    ids=["triple", "list", "pairs", "nothing", "number", "zero", "text"],
)
def test_what_a_validation_step_cannot_return_is_refused(framework, returned):
    step = lambda model, batch: returned(model(batch[0]), batch[1])  # noqa: E731
    with pytest.raises(SpecError, match=r"validation_step must return \(output, target\)"):
        trainer(framework).validate(spec(validation_step=step), BATCHES)


@pytest.mark.parametrize("framework", BACKENDS)
def test_a_mapping_of_any_class_is_one(framework):
    step = lambda model, batch: UserDict(loss=model(batch[0]).mean(), y=2.0)  # noqa: E731
    assert trainer(framework).fit(spec(training_step=step), BATCHES).metrics == {"train/loss": 0.0, "train/y": 2.0}
    predictions = trainer(framework).predict(spec(), [UserDict(input=x, target=y) for x, y in BATCHES])
    assert all(torch.equal(one, torch.zeros(2, 1)) for one in predictions)
    assert len(predictions) == len(BATCHES)


@pytest.mark.parametrize("framework", BACKENDS)
def test_batches_that_all_count_nothing_are_refused(framework):
    for method in ("fit", "validate", "test"):
        with pytest.raises(SpecError, match="has 0 samples by its count"):
            getattr(trainer(framework), method)(spec(batch_size=lambda batch: 0), BATCHES)
    only_a_function = spec(loss=None, metrics={"one": lambda output, target: 1.0}, batch_size=lambda batch: 0)
    with pytest.raises(SpecError, match="has 0 samples by its count"):
        trainer(framework).validate(only_a_function, BATCHES)


@pytest.mark.parametrize("framework", BACKENDS)
def test_a_batch_may_count_nothing_among_others(framework):
    step = lambda model, batch: {"first": batch[0][0, 0]}  # noqa: E731 - 1, 2, 3
    masked = spec(validation_step=step, batch_size=lambda batch: int(batch[0][0, 0]) - 1)
    third = torch.tensor((0 * 1.0 + 1 * 2.0 + 2 * 3.0) / 3).item()
    assert trainer(framework).validate(masked, BATCHES) == {"val/first": third}
    empty = [(torch.ones(0, 2), torch.ones(0, 1))] * 2
    assert np.isnan(trainer(framework).validate(spec(), empty)["val/loss"])  # as torch has it


def frozen(**changes):
    return spec(model=nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1)), **changes)


@pytest.mark.parametrize("framework", BACKENDS)
@pytest.mark.parametrize(
    ("callback", "named"),
    [
        (lambda: Unfreeze({1: "0.bias", 5: "0.weight"}), "Unfreeze was to unfreeze in epoch 5"),
        (lambda: Unfreeze({2: "0.bias", 5: "0.weight"}), "Unfreeze was to unfreeze in epochs 2, 5"),
        (lambda: Freeze("0", until_epoch=2), "Freeze was to unfreeze in epoch 2"),
    ],
    ids=["one", "two", "Freeze"],
)
def test_an_epoch_that_never_comes_to_unfreeze_is_told(framework, callback, named):
    with pytest.warns(UserWarning, match=f"{named}, and the last epoch of the fit is 1"):
        trainer(framework, max_epochs=2, callbacks=[callback()]).fit(frozen(), BATCHES)


@pytest.mark.parametrize("framework", BACKENDS)
def test_a_warm_up_longer_than_the_fit_is_told(framework):
    with pytest.warns(UserWarning, match=r"warmup_steps=4\) never reached the full .*: the fit made 3 steps"):
        trainer(framework).fit(spec(lr_scheduler=LRSchedule(None, warmup_steps=4)), BATCHES)


@pytest.mark.parametrize("framework", BACKENDS)
def test_what_has_happened_or_was_cut_short_is_not_told(framework):
    """Warnings are errors here."""
    warm = LRSchedule(None, warmup_steps=3)
    callbacks = [Unfreeze({1: "0"})]
    trainer(framework, max_epochs=2, callbacks=callbacks).fit(frozen(lr_scheduler=warm), BATCHES)
    trainer(framework, callbacks=[Freeze("0")]).fit(frozen(), BATCHES)
    stopped = trainer(framework, max_epochs=2, callbacks=callbacks)
    stopped.on(Event.BATCH_END, lambda run: run.stop())
    stopped.fit(frozen(lr_scheduler=warm), BATCHES)


@pytest.mark.parametrize("framework", BACKENDS)
@pytest.mark.parametrize("method", ["validate", "test"])
def test_the_matrices_of_an_evaluation_are_in_the_state(framework, method):
    net = nn.Linear(2, 2)
    nn.init.zeros_(net.weight)
    nn.init.zeros_(net.bias)  # so that the first class is predicted
    measured = spec(model=net, loss=None, metrics={"cm": metric("confusion_matrix", num_classes=2)})
    batches = [(x, torch.tensor([0, 1])) for x, _ in BATCHES]
    one = trainer(framework)
    assert getattr(one, method)(measured, batches) == {}
    stage = {"validate": "val", "test": "test"}[method]
    assert torch.equal(one.state.tensors[f"{stage}/cm"], torch.tensor([[3, 0], [3, 0]]))


@pytest.mark.parametrize("framework", BACKENDS)
@pytest.mark.parametrize("given", [True, 2])
def test_a_smoke_test_tells_nothing_of_what_it_cuts_short(framework, given):
    """Warnings are errors here."""
    warm, callbacks = LRSchedule(None, warmup_steps=9), [Unfreeze({1: "0"})]
    trainer(framework, fast_dev_run=given, callbacks=callbacks).fit(frozen(lr_scheduler=warm), BATCHES)


@pytest.mark.parametrize("framework", BACKENDS)
@pytest.mark.parametrize("event", [Event.BATCH_END, Event.EPOCH_END, Event.VAL_BATCH_END])
def test_a_number_that_no_float_can_hold_is_refused(framework, event):
    logging = trainer(framework)
    logging.on(event, lambda run: run.log("x", 10**400))
    with pytest.raises(SpecError, match="is too large"):
        logging.fit(spec(), BATCHES, BATCHES)


@pytest.mark.parametrize("framework", BACKENDS)
@pytest.mark.parametrize("value", [2**63, 2**80, -(2**100), 2**53 + 1, 1e300])
def test_a_large_number_is_the_nearest_float(framework, value):
    logging = trainer(framework)
    logging.on(Event.BATCH_END, lambda run: run.log("x", value))
    found = logging.fit(spec(), BATCHES[:1]).metrics["train/x"]
    product = torch.tensor(float(value)) * len(BATCHES[0][0])
    assert found == float(product / len(BATCHES[0][0]))


@pytest.mark.parametrize("framework", ["lightning", "ignite"])
def test_a_number_that_is_not_made_a_float_would_be_noticed(framework, monkeypatch):
    """The negative control: as it was."""
    monkeypatch.setattr(of_core, "as_number", lambda name, value: value)
    monkeypatch.setattr(meter, "as_number", lambda name, value: value)
    with pytest.raises((OverflowError, RuntimeError)):
        test_a_number_that_no_float_can_hold_is_refused(framework, Event.BATCH_END)


def test_nor_on_the_reference(monkeypatch):
    monkeypatch.setattr(reference, "one_number", lambda what, value: torch.as_tensor(value))
    with pytest.raises(ValueError, match="Overflow when unpacking"):
        test_a_number_that_no_float_can_hold_is_refused("reference", Event.BATCH_END)
