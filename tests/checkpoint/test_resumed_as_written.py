"""A fit resumes from whatever it has written itself: no check of the form may refuse it."""

from __future__ import annotations

import copy
from functools import partial

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from unitrain import Callback, CheckpointError, Event, TrainSpec, UnifiedTrainer

torchmetrics = pytest.importorskip("torchmetrics")
X, Y = torch.randn(2, 12, 3, generator=torch.Generator().manual_seed(0))


class Growing(torchmetrics.Metric):
    """Holds one number at first, and later as many as there are columns."""

    full_state_update = False

    def __init__(self):
        super().__init__()
        self.add_state("total", torch.tensor(0.0), dist_reduce_fx="sum")

    def update(self, output, target):
        self.total = self.total + (output - target).abs().sum(0)

    def compute(self):
        return self.total.sum()


def fit(path, model, framework="reference", *, callbacks=(), metrics=None, at=6, **options):
    """Fit with a checkpoint after the batch ``at``, or resume from it."""
    spec = TrainSpec(model=model, loss=nn.MSELoss(), optimizer=partial(torch.optim.Adam, lr=0.1), metrics=metrics or {})
    trainer = UnifiedTrainer(
        framework, callbacks=list(callbacks), max_epochs=3, seed=0, enable_progress_bar=False, **options
    )
    found = path if path.exists() else None
    trainer.on(Event.BATCH_END, lambda run: run.save_checkpoint(path) if not found and run.state.batch == at else None)
    result = trainer.fit(spec, DataLoader(TensorDataset(X, Y), 3), ckpt_path=found)
    return result.history, list(model.state_dict().values())


def same(one, other):
    return one[0] == other[0] and all(map(torch.equal, one[1], other[1]))


METRICS = {
    "outputs": torchmetrics.ExplainedVariance,
    "growing": Growing,
    "function": lambda: lambda output, target: (output - target).abs().mean(),
}


@pytest.mark.parametrize("kind", METRICS)
def test_a_state_of_a_metric_is_taken_up_within_an_epoch(kind, tmp_path):
    path, start = tmp_path / "x.ckpt", nn.Linear(3, 3)
    whole = fit(path, copy.deepcopy(start), metrics={"one": METRICS[kind]()})
    assert same(fit(path, copy.deepcopy(start), metrics={"one": METRICS[kind]()}), whole)


def test_a_state_that_the_metric_cannot_load_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "x.ckpt"
    fit(path, nn.Linear(3, 3), metrics={"one": Growing()})
    monkeypatch.setattr(Growing, "load_state_dict", lambda self, state: state["no"])
    with pytest.raises(CheckpointError, match=r"cannot load its state: KeyError[\s\S]*between epochs"):
        fit(path, nn.Linear(3, 3), metrics={"one": Growing()})


@pytest.mark.filterwarnings("ignore:Lazy modules")
@pytest.mark.parametrize("framework", ["lightning", "ignite", "reference"])
@pytest.mark.parametrize("accumulated", [1, 4])
def test_lazy_layers_are_resumed(framework, accumulated, tmp_path):
    path = tmp_path / "x.ckpt"
    whole = fit(path, nn.LazyLinear(3), framework, accumulate_grad_batches=accumulated)
    assert same(fit(path, nn.LazyLinear(3), framework, accumulate_grad_batches=accumulated), whole)


class Stateful(Callback):
    """Has a state of any kind, and only once the fit has begun."""

    def __init__(self, state):
        self.first, self.loaded = state, []

    def on_fit_start(self, run):
        self.now = self.first

    def state_dict(self):
        return self.now

    def load_state_dict(self, state):
        self.loaded.append(state)


@pytest.mark.parametrize("state", [None, [1, 2], 5, {"a": 1}], ids=str)
def test_a_users_callback_has_any_state_and_is_not_asked_for_it_before_the_fit(state, tmp_path):
    path = tmp_path / "x.ckpt"
    fit(path, nn.Linear(3, 3), callbacks=[Stateful(state)])
    again = Stateful(state)
    fit(path, nn.Linear(3, 3), callbacks=[again])
    assert again.loaded == [state]
