"""What a run changes outside of its own state: weights as an epoch is cut, what is frozen, what the loss keeps."""

from __future__ import annotations

import warnings
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import nn

from unitrain import CheckpointError, Event, Freeze, ModelCheckpoint, TrainSpec, UnifiedTrainer
from unitrain.loop import fit as fit_loop

BACKENDS = ("lightning", "ignite", "reference")
each_backend = pytest.mark.parametrize("framework", BACKENDS)
DATA = torch.randn(5, 4, 5, generator=torch.Generator().manual_seed(1))
BATCHES = [(one[:, :4], one[:, 4:]) for one in DATA]
MIDDLE = len(BATCHES) + 2


def spec(*, tied=False):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 4), nn.Linear(4, 1))
    if tied:
        model[2].weight = model[0].weight
    return TrainSpec(model=model, loss=nn.MSELoss(), optimizer=partial(torch.optim.Adam, lr=0.01))


def fit(framework, what=None, *, on=(), ckpt_path=None, **options):
    trainer = UnifiedTrainer(framework, **{"max_epochs": 3, "seed": 0, "enable_progress_bar": False, **options})
    for event, handler in on:
        trainer.on(event, handler)
    what = what or spec()
    trainer.fit(what, BATCHES, ckpt_path=ckpt_path)
    return what.model.state_dict()


def same(one, other):
    return all(map(torch.equal, one.values(), other.values()))


def shrink(run):
    with torch.no_grad():
        for parameter in run.model.parameters():
            parameter.mul_(0.9)


def cut(framework, folder, **made):
    """Stop in the middle of the second epoch; at the end of each epoch the weights are changed."""
    on = [(Event.EPOCH_END, shrink), (Event.BATCH_END(once=MIDDLE), lambda run: run.stop())]
    fit(framework, spec(**made), on=on, callbacks=[ModelCheckpoint(folder, save_last=True)])
    return {"ckpt_path": folder / "last.ckpt", "callbacks": [ModelCheckpoint(folder, save_last=True)]}


@each_backend
@pytest.mark.parametrize("tied", [True, pytest.param(False, marks=pytest.mark.slow)], ids=["tied", "not tied"])
def test_weights_that_a_handler_changes_as_an_epoch_is_cut_are_not_in_its_file(framework, tied, tmp_path):
    other, on = BACKENDS[BACKENDS.index(framework) - 1], [(Event.EPOCH_END, shrink)]
    whole = fit(framework, spec(tied=tied), on=on)
    resuming = cut(framework, tmp_path, tied=tied)
    weights = torch.load(resuming["ckpt_path"], weights_only=True)["state_dict"]
    assert same(fit(other, spec(tied=tied), on=on, **resuming), whole)
    pointers = {weights[f"model.{name}.weight"].data_ptr() for name in ("0", "2")}
    assert len(pointers) == (1 if tied else 2)


def test_without_the_copy_they_would_be(tmp_path, monkeypatch):
    monkeypatch.setattr(fit_loop, "set_apart", lambda content: content)
    whole = fit("ignite", on=[(Event.EPOCH_END, shrink)])
    resuming = cut("ignite", tmp_path)
    assert not same(fit("ignite", on=[(Event.EPOCH_END, shrink)], **resuming), whole)


def frozen_first():
    what = spec()
    what.model[0].requires_grad_(False)
    return what


def unfreeze(run):
    run.model[0].requires_grad_(True)


def quiet(run):
    run.model[1].eval()


@each_backend
@pytest.mark.parametrize(
    ("make", "change", "words"),
    [
        (frozen_first, unfreeze, "the parameters '0.bias', '0.weight' were trained, and they are frozen now"),
        (spec, quiet, "the modules '1' were frozen, and they are trained now"),
    ],
    ids=["unfrozen", "eval"],
)
@pytest.mark.parametrize("at", [MIDDLE, pytest.param(2 * len(BATCHES), marks=pytest.mark.slow)])
def test_what_a_handler_has_frozen_or_not_is_told_when_it_is_not_so_any_more(
    framework, make, change, words, at, tmp_path
):
    path, once = tmp_path / "x.ckpt", Event.EPOCH_START(once=2)

    def save(run):
        if run.state.batch == at:
            run.save_checkpoint(path)

    whole = fit(framework, make(), on=[(once, change), (Event.BATCH_END, save)])
    with pytest.warns(UserWarning, match=words):
        assert not same(fit(framework, make(), on=[(once, change)], ckpt_path=path), whole)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert same(fit(framework, make(), on=[(Event.FIT_START, change)], ckpt_path=path), whole)


@each_backend
def test_freeze_freezes_again_and_nothing_is_told(framework, tmp_path):
    path, callbacks = tmp_path / "x.ckpt", lambda: [Freeze("0", until_epoch=2, train_bn=False)]
    save = Event.BATCH_END(once=MIDDLE), lambda run: run.save_checkpoint(path)
    whole = fit(framework, on=[save], callbacks=callbacks())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert same(fit(framework, callbacks=callbacks(), ckpt_path=path), whole)


class Centred(nn.Module):
    """A loss that keeps a moving average of the targets, as that of DINO does of its outputs; and a given weight."""

    def __init__(self, weight=1.0, size=1):
        super().__init__()
        self.register_buffer("centre", torch.zeros(size))
        self.register_buffer("weight", torch.tensor(weight))

    def forward(self, output, target):
        self.centre.mul_(0.9).add_(target.mean(), alpha=0.1)
        return self.weight * (output - target - self.centre).square().mean()


def of_loss(loss):
    return replace(spec(), loss=loss)


@each_backend
@pytest.mark.parametrize("at", [MIDDLE, pytest.param(2 * len(BATCHES), marks=pytest.mark.slow)])
def test_what_the_loss_keeps_is_kept(framework, at, tmp_path):
    path, other = tmp_path / "x.ckpt", BACKENDS[BACKENDS.index(framework) - 1]
    save = Event.BATCH_END(once=at), lambda run: run.save_checkpoint(path)
    whole, losses = fit(framework, of_loss(Centred()), on=[save]), (Centred(), Centred(weight=0.5))
    assert same(fit(other, of_loss(losses[0]), ckpt_path=path), whole)
    assert not same(fit(other, of_loss(losses[1]), ckpt_path=path), whole)  # what no run changes is the user's
    assert losses[1].weight == 0.5
    assert torch.equal(losses[0].centre, losses[1].centre)


@each_backend
@pytest.mark.parametrize("loss", [nn.MSELoss(), nn.functional.mse_loss, Centred(size=2)])
def test_another_loss_cannot_take_it_up(framework, loss, tmp_path):
    path, what = tmp_path / "x.ckpt", of_loss(loss)
    fit("reference", of_loss(Centred()), on=[(Event.BATCH_END(once=3), lambda run: run.save_checkpoint(path))])
    before = {name: value.clone() for name, value in what.model.state_dict().items()}
    with pytest.raises(CheckpointError, match="contains the state 'centre' of the loss"):
        fit(framework, what, ckpt_path=path)
    assert same(what.model.state_dict(), before)


def test_a_loss_that_is_not_kept_would_be_noticed(tmp_path, monkeypatch):
    path = tmp_path / "x.ckpt"
    save = Event.BATCH_END(once=MIDDLE), lambda run: run.save_checkpoint(path)
    monkeypatch.setattr(fit_loop, "changed_in_loss", lambda *_: None)
    whole = fit("ignite", of_loss(Centred()), on=[save])
    assert not same(fit("ignite", of_loss(Centred()), ckpt_path=path), whole)


def with_outside():
    what, outside = spec(), nn.Linear(1, 1)
    sgd = torch.optim.SGD([*what.model.parameters(), *outside.parameters()], lr=0.1)

    def step(model, batch):
        return nn.functional.mse_loss(outside(model(batch[0])), batch[1])

    return replace(what, loss=None, optimizer=sgd, training_step=step), outside


@each_backend
def test_a_run_that_trains_more_than_the_model_is_not_saved(framework, tmp_path):
    what, outside = with_outside()
    words = "the optimizer 'optimizer' trains 2 parameters that are not the model's"
    with pytest.raises(CheckpointError, match=words):
        fit(framework, what, callbacks=[ModelCheckpoint(tmp_path)])
    assert not any(what.optimizer.state.values())  # it is refused before training
    with pytest.raises(CheckpointError, match=words):
        fit(framework, what, on=[(Event.BATCH_END, lambda run: run.save_checkpoint(tmp_path / "x.ckpt"))])
    before = outside.weight.clone()
    fit(framework, what)
    assert not torch.equal(outside.weight, before)
    assert not list(tmp_path.iterdir())
