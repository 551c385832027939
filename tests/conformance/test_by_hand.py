"""The reference, and the backends with it, against values computed by hand: plain numbers, and formulas on paper.

That all agree proves nothing if all are wrong; nothing here is computed by unitrain, Lightning or Ignite.
"""

from __future__ import annotations

import math
from functools import partial
from itertools import pairwise

import pytest
import torch
from torch import nn
from torch.optim import SGD
from torch.optim.lr_scheduler import ReduceLROnPlateau, StepLR
from torch.utils.data import DataLoader, TensorDataset

from unitrain import EarlyStopping, LRSchedule, ModelCheckpoint, TrainSpec, UnifiedTrainer, metric
from unitrain.callbacks import Callback
from unitrain.testing.reference import _Training


@pytest.fixture(params=["reference", "lightning", "ignite"])
def backend(request):
    return request.param


class Line(nn.Module):
    """y = w·x, with w = 1 at first."""

    def __init__(self, w=1.0):
        super().__init__()
        self.w = nn.Parameter(torch.tensor(w))

    def forward(self, x):
        return self.w * x


class Watch(Callback):
    """Keeps the weight and the rate after each batch, and where validations were."""

    def __init__(self):
        self.weights, self.rates, self.validated = [], [], []

    def on_batch_end(self, run):
        self.weights.append(run.model.w.item())
        self.rates.append(next(iter(run.optimizers.values())).param_groups[0]["lr"])

    def on_val_start(self, run):
        self.validated.append((run.state.epoch, run.state.batch))


def squared(output, target):
    return (output - target).square().mean()


def pairs(*values):
    """Return batches of one sample, or of as many as are given together, as (x, t)."""
    return [tuple(torch.tensor(one, dtype=torch.float32).reshape(-1, 2).unbind(1)) for one in values]


def fit(backend, batches, val=None, model=None, *, lr=0.1, callbacks=(), optimizer=None, **options):
    fields = ("training_step", "validation_step", "lr_scheduler", "loss", "metrics")
    given = {name: options.pop(name) for name in fields if name in options}
    watch = Watch()
    spec = TrainSpec(
        **{"model": model or Line(), "loss": squared, "optimizer": optimizer or partial(SGD, lr=lr), **given}
    )
    options = {"max_epochs": 1, "accelerator": "cpu", "enable_progress_bar": False, **options}
    trainer = UnifiedTrainer(backend, callbacks=[watch, *callbacks], **options)
    return trainer.fit(spec, batches, val), watch


def test_loss_is_the_mean_over_samples_with_an_uneven_last_batch(backend):
    # w = 1: squares 0, 1, 4 | 9, where the mean of the batches' means would be (5/3 + 9) / 2
    spec = TrainSpec(model=Line(), loss=squared)
    batches = pairs([[1, 1], [1, 2], [1, 3]], [[1, 4]])
    trainer = UnifiedTrainer(backend, accelerator="cpu", enable_progress_bar=False)
    assert trainer.validate(spec, batches)["val/loss"] == (0 + 1 + 4 + 9) / 4
    assert trainer.test(spec, batches)["test/loss"] == 3.5


def test_training_loss_is_of_the_weights_before_each_step(backend):
    # (x, t) = (1, 3): gradient 2(w - 3); with lr 1/4, w goes 1 -> 2 -> 2.5; losses 4 and 1
    result, watch = fit(backend, pairs([[1, 3]], [[1, 3]]), lr=0.25)
    assert watch.weights == [2.0, 2.5]
    assert result.metrics["train/loss"] == 2.5


def test_logged_values_are_weighed_by_the_samples(backend):
    # 3 samples log 1, 1 sample logs 5
    def step(model, batch):
        return {"loss": squared(model(batch[0]), batch[1]), "n": 5.0 if len(batch[0]) == 1 else 1.0}

    batches = pairs([[1, 1], [1, 2], [1, 3]], [[1, 4]])
    result, _ = fit(backend, batches, batches, training_step=step, validation_step=step)
    assert result.metrics["train/n"] == result.metrics["val/n"] == (3 * 1 + 1 * 5) / 4


def test_momentum_steps(backend):
    # g = 2(w - 3); v = 0.5 v + g; w -= 0.25 v: (g, v, w) = (-4, -4, 2), (-2, -4, 3), (0, -2, 3.5)
    _, watch = fit(backend, pairs([[1, 3]], [[1, 3]], [[1, 3]]), optimizer=partial(SGD, lr=0.25, momentum=0.5))
    assert watch.weights == [2.0, 3.0, 3.5]


def test_accumulation_with_a_remainder(backend):
    # The gradient of w·x - t is x; five batches by two: the steps are (1 + 2)/2, (4 + 8)/2 and, alone, 16/2.
    result, watch = fit(
        backend,
        pairs([[1, 0]], [[2, 0]], [[4, 0]], [[8, 0]], [[16, 0]]),
        loss=lambda output, target: (output - target).mean(),
        lr=1.0,
        accumulate_grad_batches=2,
    )
    assert watch.weights == [1.0, -0.5, -0.5, -6.5, -14.5]
    assert result.step == 3


class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.w, self.v = nn.Parameter(torch.tensor(0.0)), nn.Parameter(torch.tensor(0.0))

    def forward(self, x):
        return 3 * self.w * x + 4 * self.v * x


@pytest.mark.parametrize(
    ("algorithm", "limit", "step"),
    [("norm", 1.0, (0.6, 0.8)), ("norm", 10.0, (3.0, 4.0)), ("value", 3.5, (3.0, 3.5))],
)
def test_clipping_by_norm_and_by_value(backend, algorithm, limit, step):
    # the gradient is (3, 4), of norm 5
    model = Two()
    fit(
        backend,
        pairs([[1, 0]]),
        model=model,
        loss=lambda output, target: output.mean(),
        lr=1.0,
        gradient_clip_val=limit,
        gradient_clip_algorithm=algorithm,
    )
    assert (-model.w.item(), -model.v.item()) == pytest.approx(step, rel=1e-6)


def test_rates_of_a_step_schedule_by_epochs_and_by_steps(backend):
    batches = pairs([[1, 1]], [[1, 1]])
    by_epoch = partial(StepLR, step_size=2, gamma=0.5)
    # an epoch's schedule is stepped after its last batch, so a handler of that batch sees the next epoch's rate
    _, watch = fit(backend, batches, lr=0.8, lr_scheduler=by_epoch, max_epochs=4)
    assert watch.rates == [0.8, 0.8, 0.8, 0.4, 0.4, 0.4, 0.4, 0.2]
    by_step = LRSchedule(partial(StepLR, step_size=1, gamma=0.5), interval="step", frequency=3)
    _, watch = fit(backend, batches, lr=0.8, lr_scheduler=by_step, max_epochs=4)
    assert watch.rates == [0.8, 0.8, 0.4, 0.4, 0.4, 0.2, 0.2, 0.2]


def scripted(*values):
    """Return a validation step that gives one value an epoch."""
    following = iter(values)
    return lambda model, batch: {"score": float(next(following))}


def test_rates_of_a_plateau(backend):
    # bests 5, 4; then 4.5 and 4.2 are two without an improvement, more than patience=1: halved for the epoch after
    rule = LRSchedule(partial(ReduceLROnPlateau, factor=0.5, patience=1, threshold=0.0), monitor="val/score")
    _, watch = fit(
        backend,
        pairs([[1, 1]]),
        pairs([[1, 1]]),
        lr=0.8,
        lr_scheduler=rule,
        max_epochs=6,
        validation_step=scripted(5, 4, 4.5, 4.2, 3, 2),
    )
    assert watch.rates == [0.8, 0.8, 0.8, 0.8, 0.4, 0.4]


def test_early_stopping_epoch(backend):
    # best in epoch 1; epochs 2 and 3 do not improve
    result, _ = fit(
        backend,
        pairs([[1, 1]]),
        pairs([[1, 1]]),
        max_epochs=9,
        validation_step=scripted(5, 3, 4, 3, 1, 0),
        callbacks=[EarlyStopping("val/score", patience=2)],
    )
    assert (result.epoch, result.stopped_by, len(result.history)) == (3, "early_stopping", 4)


def test_best_checkpoint_is_of_the_best_epoch(backend, tmp_path):
    best = ModelCheckpoint(tmp_path, "{epoch}", monitor="val/score", mode="max")
    fit(
        backend,
        pairs([[1, 3]]),
        pairs([[1, 1]]),
        max_epochs=5,
        validation_step=scripted(1, 4, 2, 4, 3),
        callbacks=[best],
        lr=0.25,
    )
    assert best.best_model_score == 4.0
    found = torch.load(best.best_model_path, weights_only=False)
    assert found["epoch"] == 1
    (weight,) = found["state_dict"].values()
    assert weight.item() == 2.5  # 1 -> 2 -> 2.5


LIMITS = {
    "epochs": ({"max_epochs": 3}, (2, 12, "max_epochs")),
    "steps": ({"max_epochs": 9, "max_steps": 6}, (1, 6, "max_steps")),
    "the least of both": ({"max_epochs": 1, "max_steps": 6}, (0, 4, "max_epochs")),
    "accumulated": ({"max_epochs": 9, "max_steps": 3, "accumulate_grad_batches": 3}, (1, 3, "max_steps")),
}


@pytest.mark.parametrize("case", LIMITS)
def test_limits(backend, case):
    # four batches an epoch
    options, (epoch, step, why) = LIMITS[case]
    result, _ = fit(backend, pairs(*[[[1, 1]]] * 4), **options)
    assert (result.epoch, result.step, result.stopped_by) == (epoch, step, why)


@pytest.mark.parametrize(("least", "epoch"), [({}, 1), ({"min_epochs": 4}, 3), ({"min_steps": 6}, 2)])
def test_no_stop_before_the_least(backend, least, epoch):
    # stops after epoch 1 by itself; two batches an epoch
    result, _ = fit(
        backend,
        pairs([[1, 1]], [[1, 1]]),
        pairs([[1, 1]]),
        max_epochs=9,
        validation_step=scripted(*range(1, 10)),
        callbacks=[EarlyStopping("val/score", patience=1)],
        **least,
    )
    assert (result.epoch, result.stopped_by) == (epoch, "early_stopping")


POSITIONS = {
    "each epoch": ({}, [(0, 5), (1, 10), (2, 15), (3, 20)]),
    "every second epoch": ({"check_val_every_n_epoch": 2}, [(1, 10), (3, 20)]),
    # int(5 · 0.4) = 2: after batches 2 and 4 of each epoch
    "two fifths": ({"val_check_interval": 0.4}, [(n, 5 * n + k) for n in range(4) for k in (2, 4)]),
    "every three": ({"val_check_interval": 3}, [(n, 5 * n + 3) for n in range(4)]),
    # counted over epochs: 7 and 14
    "every seven of all": (
        {"val_check_interval": 7, "check_val_every_n_epoch": None},
        [(1, 7), (2, 14)],
    ),
}


@pytest.mark.parametrize("case", POSITIONS)
def test_positions_of_validations(backend, case):
    options, positions = POSITIONS[case]
    _, watch = fit(backend, pairs(*[[[1, 1]]] * 5), pairs([[1, 1]]), max_epochs=4, **options)
    assert watch.validated == positions


def test_overflow_skips_a_step_of_float16(backend):
    # the gradient of w·x is x: steps of 1, none, 1; the sum over the batch of infinities is no number to step by
    _, watch = fit(
        backend,
        pairs([[1, 0]], [[math.inf, 0]], [[1, 0]]),
        loss=lambda output, target: output.float().mean(),
        lr=1.0,
        precision="16-mixed",
    )
    assert watch.weights == [0.0, 0.0, -1.0]


def test_double_precision_computes_in_double(backend):
    # w -= 0.1 · 2 (w - 1/3) with x = 1, in Python's floats
    w, expected = 1.0, []
    target = float(torch.tensor(1 / 3, dtype=torch.float32))
    for _ in range(4):
        w -= 0.1 * (2 * (w - target))
        expected.append(w)
    _, watch = fit(backend, pairs(*[[[1, 1 / 3]]] * 4), precision="64-true")
    assert watch.weights == pytest.approx(expected, rel=1e-14)
    assert all(one != pytest.approx(other, rel=1e-9) for one, other in pairwise(watch.weights))


SCORES = torch.tensor([[3.0, 1, 0], [0, 2, 1], [5, 4, 0], [0, 1, 2], [1, 0, 3]])  # classes 0, 1, 0, 2, 2
CLASSES = torch.tensor([0, 1, 1, 2, 0])


def test_metrics_by_counting(backend):
    # right: samples 0, 1, 3. Class 0: tp 1, fp 1, fn 1; class 1: tp 1, fp 0, fn 1; class 2: tp 1, fp 1, fn 0
    metrics = {
        "acc": metric("accuracy", num_classes=3, average="micro"),
        "f1": metric("f1", num_classes=3, average="macro"),
        "precision": metric("precision", num_classes=3, average="macro"),
        "recall": metric("recall", num_classes=3, average=None),
        "share": lambda output, target: (output.argmax(1) == target).float().mean(),
    }
    spec = TrainSpec(model=nn.Identity(), metrics=metrics)
    trainer = UnifiedTrainer(backend, accelerator="cpu", enable_progress_bar=False)
    found = trainer.validate(spec, DataLoader(TensorDataset(SCORES, CLASSES), batch_size=2))
    assert found["val/acc"] == found["val/share"] == pytest.approx(3 / 5)
    assert found["val/f1"] == pytest.approx((2 / 4 + 2 / 3 + 2 / 3) / 3)
    assert found["val/precision"] == pytest.approx((1 / 2 + 1 + 1 / 2) / 3)
    assert [found[f"val/recall_{n}"] for n in range(3)] == [0.5, 0.5, 1.0]


def test_errors_by_squares(backend):
    # differences -1, 0, 2, 3: squares 0 + 1 + 4 + 9, absolutes 6
    metrics = {"mse": metric("mse"), "mae": metric("mae"), "root": metric("mse", squared=False)}
    trainer = UnifiedTrainer(backend, accelerator="cpu", enable_progress_bar=False)
    found = trainer.validate(TrainSpec(model=Line(), metrics=metrics), pairs([[1, 2], [2, 2], [3, 1]], [[4, 1]]))
    assert found == pytest.approx({"val/mse": 3.5, "val/mae": 1.5, "val/root": math.sqrt(3.5)})


def test_wrong_weight_in_the_reference_would_be_noticed(monkeypatch):
    """A negative control."""
    monkeypatch.setattr("unitrain.testing.reference.size_of", lambda run, batch: 1)
    with pytest.raises(AssertionError):
        test_loss_is_the_mean_over_samples_with_an_uneven_last_batch("reference")


def test_forgotten_clip_and_late_step_in_the_reference_would_be_noticed(monkeypatch):
    """A negative control."""
    monkeypatch.setattr(_Training, "clip", lambda self, optimizer: None)
    with pytest.raises(AssertionError):
        test_clipping_by_norm_and_by_value("reference", "norm", 1.0, (0.6, 0.8))
    monkeypatch.setattr(_Training, "after_batch", lambda self, last: None)
    with pytest.raises(AssertionError):
        test_rates_of_a_step_schedule_by_epochs_and_by_steps("reference")
