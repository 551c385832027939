"""What a run changes outside of its own state: weights as an epoch is cut, what the loss keeps."""

from __future__ import annotations

import threading
import warnings
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import nn

from unitrain import CheckpointError, Event, ModelCheckpoint, TrainSpec, UnifiedTrainer
from unitrain.checkpoint import outside_model
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


class Switching(nn.Sequential):
    """A model that freezes parts of itself within each step, as GANs do, and leaves them so."""

    def forward(self, inputs):
        self[1].eval()
        self[2].requires_grad_(False)
        return super().forward(inputs)


@each_backend
def test_a_model_that_freezes_its_parts_itself_resumes_without_a_warning(framework, tmp_path):
    path, save = tmp_path / "x.ckpt", Event.BATCH_END(once=MIDDLE)
    one, other = (replace(made, model=Switching(*made.model)) for made in (spec(), spec()))
    whole = fit(framework, one, on=[(save, lambda run: run.save_checkpoint(path))])
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        assert same(fit(framework, other, ckpt_path=path), whole)


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


@each_backend
@pytest.mark.parametrize("stop", [{"max_steps": 3}, {"max_steps": 13, "min_epochs": 1}], ids=["first", "third"])
def test_a_run_that_writes_no_file_may_be_cut_whatever_it_trains(framework, stop, tmp_path):
    what, outside = with_outside()
    before = outside.weight.clone()
    fit(framework, what, **stop)
    assert not torch.equal(outside.weight, before)
    save = Event.EPOCH_END, lambda run: run.save_checkpoint(tmp_path / "x.ckpt")
    with pytest.raises(CheckpointError, match="are not the model's"):
        fit(framework, with_outside()[0], on=[save], **stop)
    assert not list(tmp_path.iterdir())


class Stateful(torch.optim.SGD):
    """An optimizer whose state no checkpoint could hold."""

    def state_dict(self):
        return super().state_dict() | {"lock": threading.Lock()}


@each_backend
def test_a_run_that_writes_no_file_may_be_cut_whatever_its_optimizer_keeps(framework, tmp_path):
    fit(framework, replace(spec(), optimizer=partial(Stateful, lr=0.1)), max_steps=3)
    save = Event.EPOCH_END, lambda run: run.save_checkpoint(tmp_path / "x.ckpt")
    with pytest.raises(CheckpointError, match="lock"):
        fit(framework, replace(spec(), optimizer=partial(Stateful, lr=0.1)), on=[save], max_steps=3)


class Late(nn.Module):
    """A loss whose buffer is made by the first batch."""

    def __init__(self, **others):
        super().__init__()
        self.register_buffer("centre", None)
        for name, value in others.items():
            self.register_buffer(name, value)

    def forward(self, output, target):
        now = target.mean().detach()
        self.centre = now if self.centre is None else 0.9 * self.centre + 0.1 * now
        return (output - target - self.centre).square().mean()


class Counted(nn.Module):
    """A loss that counts its batches in its extra state."""

    def __init__(self):
        super().__init__()
        self.seen, self.read = {"batches": 0}, 0

    def get_extra_state(self):
        return self.seen

    def set_extra_state(self, state):
        self.seen, self.read = state, self.read + 1

    def forward(self, output, target):
        self.seen["batches"] += 1
        return (output - target / self.seen["batches"]).square().mean()


class Taught(nn.Module):
    """A loss with a frozen teacher that follows."""

    def __init__(self, momentum=0.9, *, data=False):
        super().__init__()
        self.data = data
        torch.manual_seed(1)
        self.teacher = nn.Linear(1, 1).requires_grad_(False)
        self.momentum = momentum

    def forward(self, output, target):
        loss = (output - self.teacher(target)).square().mean()
        if self.momentum < 1:
            weight = self.teacher.weight
            (weight.data if self.data else weight).mul_(self.momentum)
        return loss


MAKERS = [Late, partial(Late, other=torch.ones(1)), Counted, Taught, partial(Taught, data=True)]


@each_backend
@pytest.mark.parametrize("make", MAKERS, ids=["late", "late-and-more", "extra", "teacher", "data"])
def test_what_a_loss_makes_or_counts_is_kept(framework, make, tmp_path):
    path, other, last = tmp_path / "x.ckpt", BACKENDS[BACKENDS.index(framework) - 1], make()
    save = Event.BATCH_END(once=MIDDLE), lambda run: run.save_checkpoint(path)
    whole = fit(framework, of_loss(make()), on=[save])
    assert same(fit(other, of_loss(last), ckpt_path=path), whole)


def kept_by(framework, loss, path):
    what = of_loss(loss) if isinstance(loss, nn.Module) else loss
    fit(framework, what, on=[(Event.BATCH_END(once=3), lambda run: run.save_checkpoint(path))], max_epochs=1)
    return torch.load(path, weights_only=True)["unitrain"]["progress"]["loss"]


def holding_the_model():
    what, loss = spec(), Taught(momentum=1.0)
    loss.norm = what.model[1].requires_grad_(False)
    return replace(what, loss=loss)


@each_backend
def test_what_is_unchanged_or_the_models_is_not_kept(framework, tmp_path):
    class Constant(Counted):
        def get_extra_state(self):
            return {"version": 1, "names": ["a"]}

    path = tmp_path / "x.ckpt"
    assert kept_by(framework, Constant(), path) is None
    assert kept_by(framework, Taught(momentum=1.0), path) is None
    assert kept_by(framework, holding_the_model(), path) is None
    assert list(kept_by(framework, Taught(), path)) == ["teacher.weight"]


def test_parameters_of_a_loss_are_not_copied():
    model, loss = nn.Linear(1, 1), nn.Linear(1000, 500, bias=False).requires_grad_(False)
    marks = outside_model.marks_of_loss(loss, model)
    held = [cell.cell_contents for cell in marks["weight"].__closure__]
    assert sum(one.untyped_storage().nbytes() for one in held if type(one) is torch.Tensor) < 50_000
    assert outside_model.changed_in_loss(loss, marks) is None
    loss.weight[3, 7] += 1  # is in no sample
    assert list(outside_model.changed_in_loss(loss, marks)) == ["weight"]
    marks = outside_model.marks_of_loss(loss, model)
    loss.weight.data.mul_(0.999)  # is no new version
    assert list(outside_model.changed_in_loss(loss, marks)) == ["weight"]


def test_a_loss_made_in_inference_mode_counts_nothing():
    with torch.inference_mode():
        loss = nn.Linear(1, 1).requires_grad_(False)
    assert outside_model.changed_in_loss(loss, outside_model.marks_of_loss(loss, nn.Linear(1, 1))) is None


class Unsafe(Counted):
    def get_extra_state(self):
        return {"lock": threading.Lock()}


@each_backend
def test_extra_state_of_a_loss_that_no_file_can_hold_is_refused_before_training(framework, tmp_path):
    what = of_loss(Unsafe())
    with pytest.raises(CheckpointError, match="lock"):
        fit(framework, what, callbacks=[ModelCheckpoint(tmp_path)])
    assert what.loss.seen == {"batches": 0}
    fit(framework, what, max_steps=3)
    assert what.loss.seen == {"batches": 3}
