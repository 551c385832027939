"""Runs with every kind of state resume to the same bits, or are refused before training."""

from __future__ import annotations

import copy
import dataclasses
from collections import Counter, OrderedDict, deque
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim import SGD
from torch.optim.lr_scheduler import ExponentialLR, LambdaLR
from torch.utils.data import DataLoader, IterableDataset

import unitrain
from tests.checkpoint.test_gate import FRAMEWORKS, KEPT, Kind
from unitrain import Callback, CheckpointError, Event, LRSchedule, ModelCheckpoint, UnifiedTrainer
from unitrain.checkpoint import capture, io
from unitrain.checkpoint.optimizer_states import load_optimizer
from unitrain.testing.cases import spec
from unitrain.testing.models import loader
from unitrain.testing.trace import differences

# --- whole runs -------------------------------------------------------------------------------------------------------


class Odd(nn.Sequential):
    """A model with an extra state of every kind."""

    def __init__(self, extra):
        super().__init__(nn.Linear(4, 3))
        self.extra = extra

    def get_extra_state(self):
        return self.extra

    def set_extra_state(self, state):
        self.extra = state


class Keeper(Callback):
    def __init__(self, state=None):
        self.state = state

    def state_dict(self):
        return {"state": self.state}

    def load_state_dict(self, state):
        self.state = state["state"]


class Positions(IterableDataset):
    def __init__(self, kept=None):
        self.kept, self.at = kept, 0

    def __iter__(self):
        generator = torch.Generator().manual_seed(1)
        rows = torch.randn(16, 4, generator=generator)
        while self.at < len(rows):
            self.at += 1
            yield rows[self.at - 1], torch.tensor(self.at % 3)
        self.at = 0

    def state_dict(self):
        return {"at": np.int64(self.at), "kept": self.kept}

    def load_state_dict(self, state):
        self.at, self.kept = int(state["at"]), state["kept"]


def stepped(parameters, value):
    class Odd(SGD):
        def step(self, closure=None):
            super().step(closure)
            for parameter in self.param_groups[0]["params"]:
                self.state[parameter].setdefault("odd", value)

    return Odd(parameters, lr=np.float32(0.1), momentum=np.float64(0.9))


def odd_run(framework, values, **options):
    """Return a trainer, a spec and data with ``values`` wherever a user can put one."""
    first, second, third, fourth = values
    torch.manual_seed(0)
    made = unitrain.TrainSpec(
        model=Odd(first),
        loss=nn.CrossEntropyLoss(),
        optimizer=partial(stepped, value=second),
        lr_scheduler=LRSchedule(partial(ExponentialLR, gamma=np.float32(0.9)), interval="step"),
        callbacks=[Keeper(third)],
    )
    given = {"max_epochs": 2, "seed": 0, "enable_progress_bar": False, **options}
    return UnifiedTrainer(framework, **given), made, DataLoader(Positions(fourth), 4)


def told(made, data):
    """Return what a run left wherever a user can see it."""
    optimizers = [
        {key: one for key, one in group.items() if key != "params"}
        for group in made[0].optimizers["optimizer"].param_groups
    ]
    states = [one["odd"] for one in made[0].optimizers["optimizer"].state.values()]
    kept = next(one.state for one in made[1].callbacks if isinstance(one, Keeper))
    return made[1].model.extra, states, kept, data.dataset.kept, optimizers


def refusal(write, path):
    """Return what ``write`` says when it refuses to make the file; None if it has made it."""
    try:
        write()
    except CheckpointError as error:
        said = str(error)
    else:
        return None
    assert "Hint: " in said
    assert not path.exists()
    return said


def everywhere(framework, values, folder):
    """Fit to the end and across a checkpoint in the middle of an epoch; return what both left, or the refusal."""
    whole, whole_spec, data = odd_run(framework, copy.deepcopy(values))
    whole.fit(whole_spec, data)
    expected = told((whole, whole_spec), data)
    path = folder / "mid.ckpt"
    path.unlink(missing_ok=True)
    first, first_spec, data = odd_run(framework, copy.deepcopy(values))
    first.on(Event.BATCH_END(once=6), lambda run: (run.save_checkpoint(path), run.stop()))
    refused = refusal(lambda: first.fit(first_spec, data), path)
    if refused is not None:
        return refused
    torch.load(path, weights_only=True)
    unitrain.load_weights(path)
    for form in ("lightning", "portable"):
        unitrain.convert_checkpoint(path, folder / "other", form, overwrite=True)
        torch.load(folder / "other", weights_only=True)
    second, second_spec, data = odd_run(framework, [None] * 4)
    second.fit(second_spec, data, ckpt_path=path)
    assert told((second, second_spec), data) == expected
    ours, theirs = (dict(one.model.named_parameters()) for one in (second_spec, whole_spec))
    assert not differences(ours, theirs)
    return None


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_all_kinds_come_back_and_the_run_goes_on_to_the_same_bits(framework, tmp_path):
    values = [value for name, value in KEPT.items() if name != "mapping"]  # which copy.deepcopy does not take
    assert everywhere(framework, [values[0::4], values[1::4], values[2::4], values[3::4]], tmp_path) is None


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("where", range(4))
def test_what_is_refused_leaves_no_file(framework, where, tmp_path):
    values = [None] * 4
    values[where] = {"deep": [Kind.A]}
    places = [
        "state_dict['model._extra_state']",
        "optimizer_states[0]['state'][0]['odd']",
        "unitrain['callbacks']['Keeper']['state']",
    ]
    places.append("unitrain['progress']['loader']['kept']")
    assert f"{places[where]}['deep'][0] is a " in everywhere(framework, values, tmp_path)


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("where", ["group", "extra"])
def test_it_is_refused_before_training_where_a_checkpoint_is_wanted(framework, where, tmp_path):
    begun = []
    trainer = UnifiedTrainer(framework, max_epochs=1, enable_progress_bar=False, callbacks=[ModelCheckpoint(tmp_path)])
    trainer.on(Event.FIT_START, lambda: begun.append(1))
    made = {"group": spec, "extra": lambda: unitrain.TrainSpec(model=Odd({"k": Kind.A}), loss=nn.MSELoss())}
    group = lambda parameters: SGD([{"params": parameters, "kind": Kind.A if where == "group" else 1}], lr=0.1)  # noqa: E731
    place = {"group": r"optimizer_states\[0\]\['param_groups'\]\[0\]\['kind'\]", "extra": r"_extra_state'\]\['k'\]"}
    with pytest.raises(CheckpointError, match=rf"{place[where]} is a .*Kind"):
        trainer.fit(dataclasses.replace(made[where](), optimizer=group), loader())
    assert not begun


@pytest.mark.parametrize("resumed", FRAMEWORKS)
@pytest.mark.parametrize("kind", [np.float64, np.float32, np.float16])
def test_learning_rates_of_numpy_go_on_to_the_same_bits_on_every_backend(resumed, kind, tmp_path):
    def made():
        torch.manual_seed(3)
        return spec_of(kind)

    def spec_of(kind):
        return unitrain.TrainSpec(
            model=nn.Sequential(nn.Linear(4, 3)),
            loss=nn.CrossEntropyLoss(),
            optimizer=partial(SGD, lr=kind(0.3), momentum=kind(0.9)),
            lr_scheduler=LRSchedule(partial(LambdaLR, lr_lambda=lambda epoch: kind(0.7) ** epoch), interval="step"),
        )

    data = lambda: DataLoader(Positions(), 4)  # noqa: E731
    plain = {"seed": 0, "enable_progress_bar": False}
    whole = made()
    UnifiedTrainer("reference", max_epochs=4, **plain).fit(whole, data())
    others = [name for name in FRAMEWORKS if name != resumed]
    for number, (written, path) in enumerate((name, tmp_path / f"{name}.ckpt") for name in others):
        trainer = UnifiedTrainer(written, max_epochs=2 + number, **plain)
        trainer.fit(made(), data())
        trainer.save_checkpoint(path)
        other = made()
        UnifiedTrainer(resumed, max_epochs=4, **plain).fit(other, data(), ckpt_path=path)
        assert not differences(dict(other.model.state_dict()), dict(whole.model.state_dict()))


ODD_STATES = ["", "text", ["a"], {"b": ("c",)}, np.arange(2.0), range(2), deque([1], 2), Counter("a"), OrderedDict(a=1)]


@pytest.mark.parametrize("value", ODD_STATES, ids=repr)
def test_an_optimizer_gets_back_what_torch_would_break(value):
    optimizer = SGD([nn.Parameter(torch.ones(2))], lr=0.1, momentum=0.9)
    state = {"odd": value, "momentum_buffer": torch.ones(2, dtype=torch.float64), "of tensors": [torch.ones(1)]}
    load_optimizer(optimizer, {**optimizer.state_dict(), "state": {0: state}})
    (found,) = optimizer.state.values()
    assert type(found["odd"]) is type(value)
    assert np.array_equal(found["odd"], value) if isinstance(value, np.ndarray) else found["odd"] == value
    assert found["momentum_buffer"].dtype == torch.float32  # torch's own part is done as ever


def test_torch_itself_breaks_a_text():
    """Once it does not, ``optimizer_states.py`` can go."""
    optimizer = SGD([nn.Parameter(torch.ones(2))], lr=0.1)
    optimizer.load_state_dict({**optimizer.state_dict(), "state": {0: {"odd": "text"}}})
    assert "generator object" in next(iter(optimizer.state.values()))["odd"]


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_the_first_file_of_a_run_is_read_back(framework, tmp_path, monkeypatch):
    checked = []
    real = io._require_readable
    monkeypatch.setattr(io, "_require_readable", lambda path, **how: (checked.append(path), real(path, **how)))
    keep = ModelCheckpoint(tmp_path, save_top_k=-1)
    for number in (1, 2):
        UnifiedTrainer(framework, max_epochs=3, enable_progress_bar=False, callbacks=[keep]).fit(spec(), loader())
        assert len(checked) == number


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_file_that_cannot_be_read_back_ends_the_run_and_is_not_there(framework, tmp_path, monkeypatch):
    monkeypatch.setattr(capture, "admitted", lambda content, lost=None: {**content, "odd": Path("x")})
    trainer = UnifiedTrainer(framework, max_epochs=3, enable_progress_bar=False, callbacks=[ModelCheckpoint(tmp_path)])
    with pytest.raises(CheckpointError, match="could not be read back, so it was not written"):
        trainer.fit(spec(), loader())
    assert not list(tmp_path.iterdir())
