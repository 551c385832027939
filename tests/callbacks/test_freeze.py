"""Freeze and Unfreeze: what a hand-written loop with requires_grad does, on every backend and over a resume."""

from __future__ import annotations

import copy
from functools import partial

import pytest
import torch
from torch import nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import CosineAnnealingLR, OneCycleLR

from tests.backends import FRAMEWORKS
from tests.callbacks.conftest import saver
from unitrain import (
    EMA,
    ConfigError,
    Event,
    Freeze,
    SpecError,
    StochasticWeightAveraging,
    TrainSpec,
    Unfreeze,
    UnifiedTrainer,
    UnsupportedFeatureError,
)
from unitrain.testing.models import loader
from unitrain.testing.trace import SEED, differences


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        stem = (nn.Unflatten(1, (1, 6, 6)), nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten())
        self.backbone = nn.ModuleDict({"stem": nn.Sequential(*stem), "body": nn.Linear(64, 16)})
        self.head = nn.Linear(16, 5)

    def forward(self, inputs):
        return self.head(torch.relu(self.backbone["body"](self.backbone["stem"](inputs))))


adamw = partial(AdamW, lr=1e-2, weight_decay=0.1)
cosine = partial(CosineAnnealingLR, T_max=9)


def make_spec(**changes):
    torch.manual_seed(3)
    fields = {"model": Net(), "loss": nn.CrossEntropyLoss(), "optimizer": adamw, "lr_scheduler": cosine}
    return TrainSpec(**{**fields, **changes})


def train(framework, *callbacks, act=None, ckpt_path=None, spec=None, val=None, **options):
    options = {"max_epochs": 4, "seed": SEED, "enable_progress_bar": False, "callbacks": callbacks, **options}
    trainer = UnifiedTrainer(framework, **options)
    if act is not None:
        act(trainer)
    trainer.fit(spec or make_spec(), loader(), val, ckpt_path=ckpt_path)
    return trainer


def by_hand(schedule, *, train_bn=True, factor=None):
    """Train as one would by hand; ``schedule`` maps the epoch to functions of the model that return parameters."""
    model, data = make_spec().model, loader()
    torch.manual_seed(SEED)
    frozen = {epoch: list(find(model)) for epoch, find in schedule.items()}
    if factor is None:
        groups = [{"params": list(model.parameters())}]
    else:
        late = {id(one): epoch for epoch, some in frozen.items() for one in some}
        groups = [{"params": [one for one in model.parameters() if id(one) not in late]}]
        for epoch in frozen:
            params = [one for one in model.parameters() if late.get(id(one)) == epoch]
            groups.append({"params": params, "lr": 1e-2 * factor})
    optimizer = adamw(groups)
    scheduler = cosine(optimizer)
    for epoch in range(4):
        for first, parameters in frozen.items():
            for one in parameters:
                one.requires_grad = epoch >= first
        model.train()
        model.backbone["stem"][2].train(train_bn or epoch >= max(frozen))
        for inputs, target in data:
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(inputs), target).backward()
            optimizer.step()
        scheduler.step()
    return model, optimizer


def all_but_norm(model):
    return [*model.backbone["stem"][1].parameters(), *model.backbone["body"].parameters()]


CASES = {
    "whole fit": (lambda: Freeze("backbone"), {"schedule": {9: all_but_norm}}),
    "until 2": (lambda: Freeze("backbone", 2), {"schedule": {2: all_but_norm}}),
    "until 2, no norms": (
        lambda: Freeze("backbone", 2, train_bn=False),
        {"schedule": {2: lambda model: model.backbone.parameters()}, "train_bn": False},
    ),
    "until 2, factor": (
        lambda: Freeze("backbone", 2, lr_factor=0.1),
        {"schedule": {2: all_but_norm}, "factor": 0.1},
    ),
    "schedule": (
        lambda: Unfreeze({1: "backbone.body", 3: ["backbone"]}),
        {
            "schedule": {
                1: lambda model: model.backbone["body"].parameters(),
                3: lambda model: model.backbone["stem"][1].parameters(),
            }
        },
    ),
    "schedule, rate": (
        lambda: Unfreeze({1: "backbone.body", 3: ["backbone"]}, lr=1e-2 * 0.5),
        {
            "schedule": {
                1: lambda model: model.backbone["body"].parameters(),
                3: lambda model: model.backbone["stem"][1].parameters(),
            },
            "factor": 0.5,
        },
    ),
    "a parameter": (
        lambda: Freeze("head.bias", until_epoch=1),
        {"schedule": {1: lambda model: [model.head.bias]}},
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_it_is_the_loop_by_hand(framework, name):
    make, given = CASES[name]
    model, optimizer = by_hand(**given)
    trainer = train(framework, make(), val=loader(shuffle=False))
    assert not differences(dict(model.state_dict()), dict(trainer.model.state_dict()))
    expected, got = optimizer.state_dict(), trainer.optimizers["optimizer"].state_dict()
    assert not differences(expected["state"], got["state"])
    assert [group["lr"] for group in expected["param_groups"]] == [group["lr"] for group in got["param_groups"]]


def test_frozen_weights_do_not_move_and_are_released(framework):
    spec = make_spec()
    before = copy.deepcopy(spec.model.backbone.state_dict())
    seen = []

    def act(trainer):
        @trainer.on(Event.BATCH_END)
        def look(run):
            body = run.model.backbone["body"].weight
            seen.append((body.requires_grad, body.grad is None, run.model.backbone["stem"][2].training))

    trainer = train(framework, Freeze("backbone", train_bn=False), spec=spec, val=loader(), act=act)
    assert not differences(dict(before), dict(trainer.model.backbone.state_dict()))
    assert set(seen) == {(False, True, False)}
    assert all(one.requires_grad for one in trainer.model.parameters())
    assert all(module.training for module in trainer.model.modules())


def test_what_the_user_froze_is_unfrozen_and_what_stays_frozen_is_as_before(framework):
    spec = make_spec()
    spec.model.requires_grad_(requires_grad=False)
    spec.model.head.requires_grad_()
    train(framework, Unfreeze({1: "backbone.body"}), Freeze("backbone.stem"), spec=spec)
    assert spec.model.backbone["body"].weight.requires_grad
    assert not spec.model.backbone["stem"][1].weight.requires_grad


@pytest.mark.parametrize("after", [3, 6, 8, 18, 20])
def test_a_resumed_run_is_the_uninterrupted_one(framework, tmp_path, after):
    """While all is frozen, at the epoch that unfreezes, after it; with groups that the callback made."""

    def make():
        return Unfreeze({1: "backbone.body", 3: "backbone"}, lr_factor=0.3, train_bn=False)

    expected = train("reference", make())
    for reader in FRAMEWORKS if after == 8 else (framework,):
        with pytest.raises(InterruptedError):
            train(framework, make(), act=saver(tmp_path / "one.ckpt", after))
        trainer = train(reader, make(), ckpt_path=tmp_path / "one.ckpt")
        assert not differences(dict(expected.model.state_dict()), dict(trainer.model.state_dict()))
        ours, theirs = (one.optimizers["optimizer"].state_dict() for one in (expected, trainer))
        assert not differences(ours, theirs)


@pytest.mark.parametrize("seeded", ["gradients", "modes", "groups"])
def test_a_seeded_fault_is_seen(framework, monkeypatch, seeded):
    model, _ = by_hand(**CASES["until 2, no norms"][1], factor=0.1)
    freeze = Freeze("backbone", 2, train_bn=False, lr_factor=0.1)
    if seeded == "gradients":
        monkeypatch.setattr(Freeze, "on_epoch_start", lambda *_: None)
    if seeded == "modes":
        monkeypatch.setattr("unitrain.callbacks.freeze._norms", lambda _: ())
    if seeded == "groups":
        monkeypatch.setattr(Freeze, "_rate", lambda _, __, rate: rate)
    trainer = train(framework, freeze)
    assert differences(dict(model.state_dict()), dict(trainer.model.state_dict()))


def manual(run, batch):
    run.backward(nn.functional.cross_entropy(run.model(batch[0]), batch[1]))
    run.step()


def test_manual_optimization(framework):
    spec = make_spec(automatic_optimization=False, training_step=manual)
    spec.model.backbone["body"].weight.grad = torch.ones(16, 64)  # left by whoever
    trainer = train(framework, Freeze("backbone", 2, lr=1e-3), spec=spec)
    expected = train("reference", Freeze("backbone", 2, lr=1e-3))
    assert not differences(dict(expected.model.state_dict()), dict(trainer.model.state_dict()))


@pytest.mark.filterwarnings("ignore:Freeze was to unfreeze in epoch 9")
@pytest.mark.parametrize("swa_first", [True, False])
def test_it_goes_with_averages(framework, swa_first):
    """The statistics of a frozen batch norm stay what they were, whichever callback comes first."""
    spec = make_spec()
    before = spec.model.backbone["stem"][2].running_var.clone()
    callbacks = [StochasticWeightAveraging([0.01, 0.001], 3), Freeze("backbone", 9, train_bn=False, lr_factor=0.1)]
    trainer = train(framework, *(callbacks if swa_first else reversed(callbacks)), spec=spec)
    assert torch.equal(trainer.model.backbone["stem"][2].running_var, before)
    body = trainer.model.backbone["body"].weight.detach()
    ema = EMA(0.5)
    train(framework, ema, Freeze("backbone"), spec=spec)
    assert torch.equal(ema.average["backbone.body.weight"], body)


@pytest.mark.slow
def test_compiled(framework):
    one = train(framework, Unfreeze({1: "backbone.body", 2: "backbone"}), compile=True, max_epochs=3)
    two = train("reference", Unfreeze({1: "backbone.body", 2: "backbone"}), compile=True, max_epochs=3)
    assert not differences(dict(one.model.state_dict()), dict(two.model.state_dict()))


INVALID = {
    "empty name": (lambda: Freeze(""), "names of submodules"),
    "no names": (lambda: Freeze([]), "names of submodules"),
    "number": (lambda: Freeze(3), "names of submodules"),
    "epoch 0": (lambda: Freeze("a", until_epoch=0), "until_epoch"),
    "epoch True": (lambda: Freeze("a", until_epoch=True), "until_epoch"),
    "train_bn": (lambda: Freeze("a", train_bn=1), "train_bn"),
    "rate of nothing": (lambda: Freeze("a", lr=0.1), "require until_epoch"),
    "rate 0": (lambda: Freeze("a", 2, lr=0), "positive number"),
    "two rates": (lambda: Freeze("a", 2, lr=0.1, lr_factor=0.1), "both lr= and lr_factor="),
    "empty schedule": (lambda: Unfreeze({}), "must map epochs"),
    "schedule from 0": (lambda: Unfreeze({0: "a"}), "must map epochs"),
    "no schedule": (lambda: Unfreeze(["a"]), "must map epochs"),
    "rate of another epoch": (lambda: Unfreeze({2: "a"}, lr={3: 0.1}), "epochs of the schedule"),
    "factor nan": (lambda: Unfreeze({2: "a"}, lr_factor=float("nan")), "positive number"),
}


@pytest.mark.parametrize("name", INVALID)
def test_an_invalid_argument_is_refused(name):
    make, words = INVALID[name]
    with pytest.raises(ConfigError, match=words):
        make()


LBFGS = partial(torch.optim.LBFGS, max_iter=2)


@pytest.mark.parametrize(
    ("callbacks", "spec", "options", "error", "words"),
    [
        ([lambda: Freeze("backbone.stam")], {}, {}, ConfigError, "did you mean 'backbone.stem'"),
        (
            [lambda: Freeze("backbone.stem.2")],
            {},
            {},
            ConfigError,
            "no parameters to freeze except those of batch norms",
        ),
        ([lambda: Freeze("backbone.stem.3")], {}, {}, ConfigError, "no parameters to freeze"),
        ([lambda: Freeze("backbone"), lambda: Freeze("backbone.body", 2)], {}, {}, ConfigError, "by two callbacks"),
        (
            [lambda: Freeze("backbone", train_bn=False), lambda: Unfreeze({2: "head"})],
            {},
            {},
            ConfigError,
            "no trainable parameters in epoch 0",
        ),
        ([lambda: Freeze("head", 2, lr=0.1)], {"lr_scheduler": None, "optimizer": LBFGS}, {}, SpecError, "closure"),
        (
            [lambda: Freeze("head", 2, lr=0.1)],
            {"lr_scheduler": partial(OneCycleLR, max_lr=0.1, total_steps=99)},
            {},
            ConfigError,
            "has no effect",
        ),
        ([lambda: Freeze("head")], {}, {"strategy": "fsdp"}, UnsupportedFeatureError, "fsdp"),
        ([lambda: Freeze("head")], {}, {"native": {"ddp": {"static_graph": True}}}, ConfigError, "static_graph"),
    ],
)
def test_a_fit_that_cannot_be_frozen_so_is_refused(framework, callbacks, spec, options, error, words):
    started = []
    with pytest.raises(error, match=words):
        train(
            framework,
            *(make() for make in callbacks),
            spec=make_spec(**spec),
            act=lambda trainer: trainer.on(Event.BATCH_START, lambda: started.append(1)),
            **options,
        )
    assert not started


def test_an_optimizer_that_is_made_already_gets_no_groups(framework):
    spec = make_spec()
    spec = make_spec(model=spec.model, optimizer=adamw(spec.model.parameters()), lr_scheduler=None)
    with pytest.raises(SpecError, match="an optimizer instance"):
        train(framework, Freeze("backbone", 2, lr=0.1), spec=spec)
    assert len(spec.optimizer.param_groups) == 1
    before = spec.model.backbone["body"].weight.detach().clone()
    train(framework, Freeze("backbone"), spec=spec)
    assert torch.equal(spec.model.backbone["body"].weight, before)
