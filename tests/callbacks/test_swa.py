"""StochasticWeightAveraging: the loop that torch's swa_utils documents, on every backend, over stops and resumes."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import ReduceLROnPlateau, StepLR
from torch.optim.swa_utils import SWALR, AveragedModel, update_bn

import unitrain
from tests.backends import FRAMEWORKS
from tests.callbacks.conftest import saver
from unitrain import (
    EMA,
    Callback,
    CheckpointError,
    ConfigError,
    Event,
    LRSchedule,
    ModelCheckpoint,
    SpecError,
    StochasticWeightAveraging,
    TrainSpec,
    UnifiedTrainer,
    UnsupportedFeatureError,
)
from unitrain.callbacks import swa as module
from unitrain.testing.models import loader
from unitrain.testing.trace import SEED, differences

EPOCHS, START, RATE = 6, 4, 0.02


def make_model():
    torch.manual_seed(3)
    features = (nn.Unflatten(1, (1, 6, 6)), nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten())
    return nn.Sequential(*features, nn.Dropout(0.2), nn.Linear(64, 5))


def sgd(parameters):
    return torch.optim.SGD(parameters, lr=0.1, momentum=0.9, weight_decay=0.01)


def by_hand(annealing, strategy, avg_fn=None, schedule=None):
    """Train as torch's documentation of swa_utils has it; return the averaged model and the rates by epoch."""
    model, data, rates = make_model(), loader(), []
    torch.manual_seed(SEED)
    optimizer = sgd(model.parameters())
    scheduler = None if schedule is None else schedule(optimizer)
    averaged, swa_scheduler = AveragedModel(model, avg_fn=avg_fn), None
    for epoch in range(EPOCHS):
        if epoch == START - 1:
            swa_scheduler = SWALR(optimizer, RATE, annealing, strategy)
        rates.append(optimizer.param_groups[0]["lr"])
        for inputs, target in data:
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(inputs), target).backward()
            optimizer.step()
        if swa_scheduler is not None:
            averaged.update_parameters(model)
            swa_scheduler.step()
        elif scheduler is not None:
            scheduler.step()
    rng = torch.get_rng_state()
    update_bn(data, averaged)
    return averaged.module, rates, rng


def make_spec(**changes):
    fields = {"model": make_model(), "loss": nn.CrossEntropyLoss(), "optimizer": sgd}
    return TrainSpec(**{**fields, **changes})


def make_swa(**changes):
    return StochasticWeightAveraging(**{"swa_lrs": RATE, "swa_epoch_start": START, "annealing_epochs": 2, **changes})


def train(framework, swa, *, act=None, ckpt_path=None, spec=None, val=None, **options):
    trainer = UnifiedTrainer(
        framework, **{"max_epochs": EPOCHS, "seed": SEED, "enable_progress_bar": False, "callbacks": [swa], **options}
    )
    rates = []
    first = Event.BATCH_START(event_filter=lambda _, count: count % 6 == 1)
    trainer.on(first, lambda run: rates.append(run.optimizers["optimizer"].param_groups[0]["lr"]))
    if act is not None:
        act(trainer)
    spec = spec or make_spec(lr_scheduler=partial(StepLR, step_size=1, gamma=0.7))
    trainer.fit(spec, loader(), val, ckpt_path=ckpt_path)
    return trainer, rates


def assert_equal(one, other):
    left, right = ({name: tensor.detach() for name, tensor in given.items()} for given in (one, other))
    assert not differences(left, right)


@pytest.mark.parametrize(
    ("annealing", "strategy", "avg_fn"),
    [
        (2, "cos", None),
        (5, "linear", None),
        (0, "cos", None),
        (2, "linear", lambda average, weight, number: average + 0.5 * (weight - average) / (number + 1)),
    ],
)
def test_it_is_the_loop_of_torch(framework, annealing, strategy, avg_fn):
    expected, rates, rng = by_hand(annealing, strategy, avg_fn, partial(StepLR, step_size=1, gamma=0.7))
    swa = make_swa(annealing_epochs=annealing, annealing_strategy=strategy, avg_fn=avg_fn)
    trainer, got = train(framework, swa)
    assert_equal(expected.state_dict(), trainer.model.state_dict())
    assert got == rates
    assert torch.equal(torch.get_rng_state(), rng), "the pass for the batch norms drew from the global generator"
    assert swa.n_averaged == 3
    assert all(module.training for module in trainer.model.modules())
    assert trainer.model[2].momentum == 0.1


@pytest.mark.parametrize("seeded", ["rates", "average", "statistics"])
def test_a_seeded_fault_is_seen(framework, monkeypatch, seeded):
    expected, rates, _ = by_hand(2, "cos", None, partial(StepLR, step_size=1, gamma=0.7))
    if seeded == "rates":
        monkeypatch.setattr("unitrain.optim.schedules.Schedule.paused", property(lambda _: False, lambda *_: None))
    if seeded == "average":
        monkeypatch.setattr(module, "_mean", lambda *_: None)
    if seeded == "statistics":
        monkeypatch.setattr(module, "_fresh_statistics", lambda *_: {})
    trainer, got = train(framework, make_swa())
    found = differences(dict(expected.state_dict()), dict(trainer.model.state_dict()))
    assert found or got != rates


def test_a_plateau_and_a_step_schedule_are_paused(framework):
    plateau = LRSchedule(partial(ReduceLROnPlateau, patience=0, threshold=9.0, factor=0.9), monitor="val/loss")
    stepped = LRSchedule(partial(StepLR, step_size=1, gamma=0.97), interval="step")
    swa = make_swa(annealing_epochs=0)
    _, rates = train(framework, swa, spec=make_spec(lr_scheduler=[stepped, plateau]), val=loader(shuffle=False))
    assert rates[0] > rates[1] > rates[2] > RATE
    assert rates[3:] == [RATE] * 3


@pytest.mark.parametrize("after", [8, 18, 20, 24, 27])
def test_a_resumed_run_is_the_uninterrupted_one(framework, tmp_path, after):
    """Before averaging, at its first epoch's beginning, within it, after it and later; six batches an epoch."""
    expected, _ = train("reference", oracle := make_swa())
    for reader in FRAMEWORKS if after == 27 else (framework,):
        with pytest.raises(InterruptedError):
            train(framework, make_swa(), act=saver(tmp_path / "one.ckpt", after))
        swa = make_swa()
        trainer, _ = train(reader, swa, ckpt_path=tmp_path / "one.ckpt")
        assert_equal(expected.model.state_dict(), trainer.model.state_dict())
        assert_equal(oracle.average, swa.average)
        assert not differences(
            expected.optimizers["optimizer"].state_dict(), trainer.optimizers["optimizer"].state_dict()
        )


def test_a_checkpoint_after_training_holds_the_weights_too(framework, tmp_path):
    """A run of six epochs that goes on to eight is the run of eight, though its model had the average in between."""
    expected, _ = train("reference", make_swa(), max_epochs=8)
    first, _ = train(framework, make_swa())
    first.save_checkpoint(tmp_path / "end.ckpt")
    trainer, _ = train("reference", make_swa(), ckpt_path=tmp_path / "end.ckpt", max_epochs=8)
    assert_equal(expected.model.state_dict(), trainer.model.state_dict())


def test_a_checkpoint_of_a_run_that_was_cut_short_holds_the_weights(framework, tmp_path):
    """Stopped within an averaged epoch, the model has the average, and the file what the run resumes from."""
    expected, _ = train("reference", make_swa())
    trainer, _ = train(framework, swa := make_swa(), max_steps=27)
    assert_equal(swa.average, dict(trainer.model.named_parameters()))
    trainer.save_checkpoint(tmp_path / "cut.ckpt")
    resumed, _ = train("reference", make_swa(), ckpt_path=tmp_path / "cut.ckpt")
    assert_equal(expected.model.state_dict(), resumed.model.state_dict())


def test_a_model_without_batch_norm_needs_no_pass(framework, monkeypatch):
    monkeypatch.setattr("unitrain.run.context.RunContext.forward_epoch", None)
    spec = make_spec(model=nn.Sequential(nn.Linear(36, 5)))
    trainer, _ = train(framework, swa := make_swa(), spec=spec)
    assert_equal(swa.average, dict(trainer.model.named_parameters()))


def test_a_frozen_batch_norm_keeps_its_statistics(framework):
    spec = make_spec()
    spec.model[2].eval()
    before = spec.model[2].running_mean.clone()
    trainer, _ = train(framework, make_swa(), spec=spec)
    assert torch.equal(trainer.model[2].running_mean, before)


def test_half_precision_is_averaged_in_float32(framework):
    _, _ = train(framework, swa := make_swa(), precision="bf16-true")
    assert {one.dtype for one in swa.average.values()} == {torch.float32}


def test_custom_steps_and_mixed_precision_agree(framework):
    def step(model, batch):
        return nn.functional.cross_entropy(model(batch[0]), batch[1])

    options = {"precision": "bf16-mixed", "accumulate_grad_batches": 4}
    one, _ = train(framework, make_swa(), spec=make_spec(loss=None, training_step=step), **options)
    two, _ = train("reference", make_swa(), spec=make_spec(), **options)
    assert_equal(one.model.state_dict(), two.model.state_dict())


def test_a_run_that_ends_too_early_says_so(framework):
    with pytest.warns(UserWarning, match="before any epoch was averaged"):
        train(framework, make_swa(), max_steps=7)


def test_a_second_fit_begins_anew(framework):
    trainer, _ = train(framework, swa := make_swa())
    trainer.fit(make_spec(), loader())
    assert swa.n_averaged == 3


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"swa_lrs": 0}, "swa_lrs"),
        ({"swa_lrs": []}, "swa_lrs"),
        ({"swa_lrs": [0.1, "x"]}, "swa_lrs"),
        ({"swa_lrs": float("inf")}, "swa_lrs"),
        ({"swa_epoch_start": 0}, "swa_epoch_start"),
        ({"swa_epoch_start": True}, "swa_epoch_start"),
        ({"swa_epoch_start": 1.5}, "swa_epoch_start"),
        ({"annealing_epochs": -1}, "annealing_epochs"),
        ({"annealing_strategy": "exp"}, "annealing_strategy"),
        ({"avg_fn": 3}, "avg_fn"),
    ],
)
def test_an_invalid_argument_is_refused(arguments, named):
    with pytest.raises(ConfigError, match=named):
        make_swa(**arguments)


def manual(run, batch):
    run.backward(nn.functional.cross_entropy(run.model(batch[0]), batch[1]))
    run.step()


@pytest.mark.parametrize(
    ("swa", "options", "spec", "error", "words"),
    [
        ({"swa_epoch_start": 7}, {}, {}, ConfigError, "beyond max_epochs"),
        ({"swa_epoch_start": 0.5}, {"max_epochs": -1, "max_steps": 3}, {}, ConfigError, "fraction of max_epochs"),
        ({"swa_lrs": [0.1, 0.1]}, {}, {}, ConfigError, "has 2 rates, but the optimizer has 1 groups"),
        ({}, {}, {"callbacks": [EMA()]}, ConfigError, "both replace the weights"),
        ({}, {}, {"callbacks": [make_swa()]}, ConfigError, "both replace the weights"),
        ({}, {"strategy": "fsdp"}, {}, UnsupportedFeatureError, "fsdp"),
        ({}, {}, {"automatic_optimization": False, "training_step": manual}, SpecError, "batch-norm statistics"),
        (
            {},
            {},
            {"automatic_optimization": False, "training_step": manual, "optimizer": {"1": sgd, "6": sgd}},
            SpecError,
            "one optimizer",
        ),
    ],
)
def test_a_fit_that_cannot_be_averaged_is_refused(framework, swa, options, spec, error, words):
    started = []
    with pytest.raises(error, match=words):
        train(
            framework,
            make_swa(**swa),
            spec=make_spec(**spec),
            act=lambda trainer: trainer.on(Event.FIT_START, lambda: started.append(1)),
            **options,
        )
    assert not started


class CutShort(Callback):
    """Stops in the middle of the fifth epoch."""

    def on_batch_end(self, run):
        if run.state.epoch == 4:
            run.stop()


@pytest.mark.slow
@pytest.mark.parametrize("cut", [False, True])
def test_a_run_in_other_processes_brings_the_average_back(framework, cut, tmp_path):
    swa = make_swa()
    trainer, _ = started(framework, swa, *([CutShort()] if cut else []))
    assert swa.n_averaged == (2 if cut else 3)
    assert_equal(swa.average, dict(trainer.model.named_parameters()))
    trainer.save_checkpoint(tmp_path / "end.ckpt")
    whole, _ = started("reference", make_swa(), max_epochs=8)
    resumed, _ = started(framework, make_swa(), max_epochs=8, ckpt_path=tmp_path / "end.ckpt")
    assert_equal(whole.model.state_dict(), resumed.model.state_dict())


def started(framework, *callbacks, ckpt_path=None, **options):
    options = {"max_epochs": EPOCHS, "seed": SEED, "enable_progress_bar": False, "callbacks": callbacks, **options}
    trainer = UnifiedTrainer(framework, devices=2, accelerator="cpu", **options)
    trainer.fit(make_spec(), loader(), ckpt_path=ckpt_path)
    return trainer, options


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize(
    ("norm", "budget"), [(False, {"max_epochs": 3}), (True, {"max_epochs": 3}), (False, {"max_steps": 7})]
)
def test_a_run_that_has_ended_has_its_average_again_or_says_why_not(framework, norm, budget, tmp_path):
    def fit(ckpt_path=None):
        torch.manual_seed(3)
        model = nn.Sequential(nn.Flatten(), nn.Linear(36, 5), nn.BatchNorm1d(5) if norm else nn.Identity())
        kept = ModelCheckpoint(
            tmp_path, "{step}", every_n_train_steps=1 if "max_steps" in budget else None, save_last=True
        )
        callbacks = [StochasticWeightAveraging(RATE, swa_epoch_start=1), kept]
        trainer = UnifiedTrainer(framework, callbacks=callbacks, enable_progress_bar=False, seed=SEED, **budget)
        trainer.fit(
            TrainSpec(model=model, loss=nn.functional.cross_entropy, optimizer=sgd), loader(), ckpt_path=ckpt_path
        )
        return model.state_dict()

    expected = fit()
    if "max_steps" in budget:
        with pytest.raises(CheckpointError, match="that epoch would be missing from the average"):
            fit(tmp_path / "last.ckpt")
    else:
        assert differences(expected, fit(tmp_path / "last.ckpt")) == []
        assert differences(expected, unitrain.load_weights(tmp_path / "last.ckpt")) != []
