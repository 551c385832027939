"""A resume that is refused leaves the user's model, optimizer and random numbers as they were, whatever refuses it."""

from __future__ import annotations

import copy
import random
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import LinearLR

from unitrain import (
    Callback,
    CheckpointError,
    ConfigError,
    Event,
    StochasticWeightAveraging,
    TrainSpec,
    UnifiedTrainer,
    metric,
)
from unitrain.checkpoint import restore, resume

BACKENDS = ("lightning", "ignite", "reference")
BATCHES = [(torch.full((2, 4), float(i)), torch.full((2, 1), float(i))) for i in range(1, 6)]
MIDDLE = len(BATCHES) + 2
"""After two of the five batches of the second epoch."""


class Own(nn.Linear):
    """Has a state of its own, which it may refuse."""

    strict = False

    def get_extra_state(self):
        return {"version": 1}

    def set_extra_state(self, state):
        if self.strict:
            raise ValueError("version 1 is too old")


class Keeping(Callback):
    strict = False

    def state_dict(self):
        return {"kept": 1}

    def load_state_dict(self, state):
        if self.strict:
            raise RuntimeError("it cannot take this up")


def averaging():
    return StochasticWeightAveraging(0.05, swa_epoch_start=1)


SGD = partial(torch.optim.SGD, lr=0.1, momentum=0.9)


def spec(model=None, optimizer=SGD, **changes):
    """Return a spec with an optimizer that is the user's own, and has made a step."""
    torch.manual_seed(3)
    model = Own(4, 1) if model is None else model
    made = optimizer(model.parameters())
    model(torch.ones(1, 4)).sum().backward()
    made.step()
    return TrainSpec(**{"model": model, "loss": nn.MSELoss(), "optimizer": made, **changes})


def fit(framework, what, data=BATCHES, *, ckpt_path=None, path=None, at=0, **options):
    options = {"max_epochs": 3, "accumulate_grad_batches": 4, "enable_progress_bar": False, **options}
    trainer = UnifiedTrainer(framework, **options)
    if path is not None:
        trainer.on(Event.BATCH_END(once=at), lambda run: run.save_checkpoint(path))
    trainer.fit(what, data, ckpt_path=ckpt_path)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Checkpoints: within an epoch, at the end of one, and within the last epoch of an averaged run."""
    folder = tmp_path_factory.mktemp("files")
    fit("reference", spec(), path=folder / "middle", at=MIDDLE, callbacks=[Keeping()])
    fit("reference", spec(), path=folder / "end", at=len(BATCHES), callbacks=[Keeping()])
    fit("reference", spec(), path=folder / "averaged", at=MIDDLE, callbacks=[averaging()], max_epochs=2)
    whole = (folder / "middle").read_bytes()
    (folder / "cut").write_bytes(whole[: len(whole) // 2])
    (folder / "turned").write_bytes(whole[:2000] + bytes([whole[2000] ^ 1]) + whole[2001:])
    (folder / "empty").write_bytes(b"")
    (folder / "text").write_bytes(b"no checkpoint")
    torch.save({"state_dict": {}}, folder / "another program's")
    return folder


def endless():
    while True:
        yield BATCHES[0]


def strict(one):
    one.strict = True
    return one


REFUSED = {
    "another window": ("middle", {}, {"accumulate_grad_batches": 2}, CheckpointError),
    "another scale": ("middle", {}, {"precision": "16-mixed"}, CheckpointError),
    "a new metric": ("middle", {"metrics": {"mae": metric("mae")}}, {}, CheckpointError),
    "no batch left": ("middle", {}, {"data": BATCHES[:2]}, CheckpointError),
    "no batch left of a limit": ("middle", {}, {"limit_train_batches": 2}, CheckpointError),
    "epochs done": ("middle", {}, {"max_epochs": 1}, ConfigError),
    "the same batches again": ("middle", {}, {"overfit_batches": 1}, ConfigError),
    "another model": ("middle", {"model": lambda: nn.Linear(4, 2)}, {}, CheckpointError),
    "another class": ("middle", {"model": lambda: nn.Linear(4, 1)}, {}, CheckpointError),
    "a state that is refused": ("middle", {"model": lambda: strict(Own(4, 1))}, {}, CheckpointError),
    "another optimizer": ("end", {"optimizer": partial(torch.optim.Adam, lr=0.1)}, {}, CheckpointError),
    "a new schedule": ("middle", {"lr_scheduler": partial(LinearLR, total_iters=3)}, {}, CheckpointError),
    "a callback that cannot": ("middle", {}, {"callbacks": lambda: [strict(Keeping())]}, CheckpointError),
    "an average without its epoch": (
        "averaged",
        {},
        {"callbacks": lambda: [averaging()], "max_steps": 1, "max_epochs": 2},
        CheckpointError,
    ),
    "cut": ("cut", {}, {}, CheckpointError),
    "turned": ("turned", {}, {}, CheckpointError),
    "empty": ("empty", {}, {}, CheckpointError),
    "text": ("text", {}, {}, CheckpointError),
    "none": ("none", {}, {}, CheckpointError),
    "another program's": ("another program's", {}, {}, CheckpointError),
}


def state(what):
    rng = (torch.get_rng_state().tolist(), random.getstate(), np.random.get_state()[1].tolist())  # noqa: NPY002 - what is compared
    held = copy.deepcopy((what.model.state_dict(), what.optimizer.state_dict()))
    modes = [one.training for one in what.model.modules()]
    return held, modes, [one.grad.clone() for one in what.model.parameters()], rng


def same(one, other):
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(value, other[name]) for name, value in one.items())
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


def refused(framework, files, name):
    """Return whether everything is as before."""
    file, changes, options, kind = REFUSED[name]
    changes = {key: value() if key == "model" else value for key, value in changes.items()}
    options = {key: value() if callable(value) else value for key, value in options.items()}
    data = options.pop("data", BATCHES)
    what = spec(**changes)
    before = state(what)
    with pytest.raises(kind):
        fit(framework, what, data, ckpt_path=files / file, **options)
    return same(before, state(what))


@pytest.mark.filterwarnings("ignore:.*contains state for callbacks not in")
@pytest.mark.parametrize("framework", BACKENDS)
@pytest.mark.parametrize("name", REFUSED)
def test_a_refused_resume_changes_nothing(framework, name, files):
    assert refused(framework, files, name)


@pytest.mark.filterwarnings("ignore:.*contains state for callbacks not in")
def test_weights_that_come_too_early_would_be_seen(files, monkeypatch):
    """A negative control: as it was."""
    weights = {name: torch.zeros_like(one) for name, one in nn.Linear(4, 1).state_dict().items()}
    early = lambda job, path: job.spec.model.load_state_dict(weights, strict=False)  # noqa: E731
    monkeypatch.setattr(resume, "own_again", early)
    assert not refused("ignite", files, "no batch left")


@pytest.mark.filterwarnings("ignore:.*contains state for callbacks not in")
def test_an_optimizer_that_is_not_put_back_would_be_seen(files, monkeypatch):
    monkeypatch.setattr(restore, "vars", lambda _: {}, raising=False)
    assert not refused("reference", files, "another optimizer")


@pytest.mark.filterwarnings("ignore:.*contains state for callbacks not in")
@pytest.mark.parametrize("framework", BACKENDS)
def test_the_trainer_takes_the_right_data_after_a_refusal(framework, files):
    what = spec()
    trainer = UnifiedTrainer(framework, max_epochs=3, accumulate_grad_batches=4, enable_progress_bar=False)
    with pytest.raises(CheckpointError):
        trainer.fit(what, BATCHES[:2], ckpt_path=files / "middle")
    assert trainer.fit(what, BATCHES, ckpt_path=files / "middle").epoch == 2


CHANGED = {
    "no progress": (("progress",), None),
    "no format": (("format",), None),
    "no counters": (("hub",), None),
    "a generator": (("progress", "rng", "cpu"), [1]),
    "a generator of NumPy": (("progress", "rng", "numpy", 0), "x"),
    "a generator of Python": (("progress", "rng_at_iter", "python", 1), [1]),
    "steps of schedules": (("schedule_steps",), None),
    "names": (("names",), []),
}


@pytest.mark.parametrize("framework", BACKENDS)
@pytest.mark.parametrize("name", CHANGED)
def test_a_part_that_is_not_as_it_was_written_is_named_before_anything_is_changed(framework, name, tmp_path):
    path, what = tmp_path / "x.ckpt", spec(lr_scheduler=LinearLR)
    fit("reference", spec(lr_scheduler=LinearLR), path=path, at=MIDDLE)
    content = torch.load(path, weights_only=True)
    (*places, last), value = CHANGED[name]
    place = content["unitrain"]
    for one in places:
        place = place[one]
    place[last] = value
    torch.save(content, path)
    before, states = copy.deepcopy(what.model.state_dict()), (random.getstate(), torch.get_rng_state())
    with pytest.raises(CheckpointError, match="its contents are not as unitrain writes them"):
        fit(framework, what, ckpt_path=path)
    assert torch.equal(what.model.weight, before["weight"])
    assert random.getstate() == states[0]
    assert torch.equal(torch.get_rng_state(), states[1])


class Stubborn(torch.optim.SGD):
    def load_state_dict(self, state_dict):
        raise RuntimeError("my own bug")


class Unfit(LinearLR):
    def load_state_dict(self, state_dict):
        raise RuntimeError("my own bug")


USERS_OWN = {
    "Stubborn": {"optimizer": partial(Stubborn, lr=0.1, momentum=0.9)},
    "Unfit": {"lr_scheduler": Unfit},
}


@pytest.mark.parametrize("framework", BACKENDS)
@pytest.mark.parametrize("name", USERS_OWN)
def test_an_error_of_a_users_own_class_is_not_said_to_be_the_files(framework, name, tmp_path):
    path, what = tmp_path / "x.ckpt", USERS_OWN[name]
    fit("reference", spec(**what), path=path, at=MIDDLE)
    resumed = spec(**what)
    before = state(resumed)
    with pytest.raises(CheckpointError, match=f"does not fit {name}: RuntimeError.'my own bug'") as raised:
        fit(framework, resumed, ckpt_path=path)
    assert "damaged" not in str(raised.value)
    assert isinstance(raised.value.__cause__, RuntimeError)
    assert same(before, state(resumed))
