"""A run that is resumed with something changed: it goes on to the same bits, or is refused before a step is made."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler
from torch.utils.data import DataLoader, TensorDataset

from unitrain import (
    CheckpointError,
    CombinedLoader,
    DataError,
    Event,
    GradientAccumulationSchedule,
    TrainSpec,
    UnifiedTrainer,
    metric,
)
from unitrain.checkpoint import restore, resume_checks

BACKENDS = ("lightning", "ignite", "reference")
each_backend = pytest.mark.parametrize("framework", BACKENDS)
BATCHES = 5
MIDDLE = BATCHES + 2
"""After two of the five batches of the second epoch."""


def data():
    generator = torch.Generator().manual_seed(1)
    return torch.randn(20, 4, generator=generator), torch.randn(20, 1, generator=generator)


def model():
    torch.manual_seed(0)
    return nn.Linear(4, 1)


def spec(**changes):
    fields = {"model": model(), "loss": nn.MSELoss(), "optimizer": partial(torch.optim.SGD, lr=0.1, momentum=0.9)}
    return TrainSpec(**{**fields, **changes})


def every_third(lr=0.1):
    """Return a spec whose steps do not care where an epoch ends."""

    def step(run, batch):
        loss = nn.functional.mse_loss(run.model(batch[0]), batch[1])
        run.backward(loss)
        if (run.state.batch + 1) % 3 == 0:
            run.step()
        return loss

    sgd = partial(torch.optim.SGD, lr=lr)
    return spec(loss=None, optimizer=sgd, training_step=step, automatic_optimization=False)


def fit(framework, what=None, loader=None, *, at=0, path=None, ckpt_path=None, on=(), **options):
    """Train three epochs; write ``path`` after ``at`` batches, or as their epoch ends."""
    trainer = UnifiedTrainer(framework, seed=0, enable_progress_bar=False, **{"max_epochs": 3, **options})
    for event, handler in on:
        trainer.on(event, handler)

    def save(run):
        if run.state.batch == at:
            run.save_checkpoint(path)

    trainer.on(Event.BATCH_END if at % BATCHES else Event.EPOCH_END, save)
    what = what or spec()
    result = trainer.fit(what, loader or DataLoader(TensorDataset(*data()), 4, shuffle=True), ckpt_path=ckpt_path)
    return [one.detach().clone() for one in what.model.parameters()], result


def same(one, other):
    return all(map(torch.equal, one[0], other[0])) and one[1].metrics == other[1].metrics


def by_hand():
    net, (x, y) = model(), data()
    sgd = torch.optim.SGD(net.parameters(), lr=0.1)
    for number in range(15):
        rows = slice(number % 5 * 4, number % 5 * 4 + 4)
        nn.functional.mse_loss(net(x[rows]), y[rows]).backward()
        if (number + 1) % 3 == 0:
            sgd.step()
            sgd.zero_grad()
    return list(net.parameters())


@each_backend
@pytest.mark.parametrize("at", [BATCHES, MIDDLE, 2 * BATCHES])
def test_gradients_of_manual_optimization_are_kept_over_the_end_of_an_epoch(framework, at, tmp_path):
    path, other = tmp_path / "x.ckpt", BACKENDS[BACKENDS.index(framework) - 1]
    in_order = DataLoader(TensorDataset(*data()), 4)
    whole = fit(framework, every_third(), in_order, at=at, path=path)
    assert all(map(torch.equal, whole[0], by_hand()))
    assert same(fit(other, every_third(), in_order, ckpt_path=path), whole)


def test_a_file_without_these_gradients_is_noticed(tmp_path, monkeypatch):
    path, in_order = tmp_path / "x.ckpt", DataLoader(TensorDataset(*data()), 4)
    whole = fit("ignite", every_third(), in_order, at=BATCHES, path=path)
    read = restore.parts.read_any

    def forgetful(path):
        content = read(path)
        content["unitrain"]["progress"]["gradients"] = None
        return content

    monkeypatch.setattr(restore.parts, "read_any", forgetful)
    assert not same(fit("ignite", every_third(), in_order, ckpt_path=path), whole)


@each_backend
def test_what_a_handler_accumulates_holds_in_an_epoch_that_is_resumed(framework, tmp_path):
    def raise_it(run):
        run.accumulate_grad_batches = 1 + 2 * run.state.epoch

    path, on = tmp_path / "x.ckpt", [(Event.EPOCH_START, raise_it)]
    whole = fit(framework, at=MIDDLE, path=path, on=on)
    assert whole[1].step == 5 + 2 + 1
    other = BACKENDS[BACKENDS.index(framework) - 1]
    assert same(fit(other, ckpt_path=path, on=on), whole)


@each_backend
def test_a_schedule_that_is_gone_accumulates_no_more(framework, tmp_path):
    path = tmp_path / "x.ckpt"
    fit(framework, at=MIDDLE + 1, path=path, callbacks=[GradientAccumulationSchedule({0: 3})])
    _, result = fit(framework, ckpt_path=path)
    assert result.step == 2 + 1 + 2 + 5


@each_backend
@pytest.mark.parametrize("number", [1, 2, 5])
def test_gradients_of_a_part_of_a_window_need_the_same_window(framework, number, tmp_path):
    path = tmp_path / "x.ckpt"
    whole = fit("reference", at=MIDDLE, path=path, accumulate_grad_batches=4)
    with pytest.raises(
        CheckpointError, match=f"while accumulating 4 batches, and this run accumulates {number}"
    ) as raised:
        fit(framework, ckpt_path=path, accumulate_grad_batches=number)
    assert "accumulate_grad_batches=4" in raised.value.hint
    assert same(fit(framework, ckpt_path=path, callbacks=[GradientAccumulationSchedule({0: 4})]), whole)


@each_backend
@pytest.mark.parametrize(("written", "read"), [("16-mixed", "32-true"), ("32-true", "16-mixed")])
def test_scaled_gradients_need_the_same_scale(framework, written, read, tmp_path):
    path, accumulate = tmp_path / "x.ckpt", {"accumulate_grad_batches": 4}
    whole = fit("reference", at=MIDDLE, path=path, precision=written, **accumulate)
    with pytest.raises(CheckpointError, match=r"scaled as with precision='16-mixed', and this run has precision"):
        fit(framework, ckpt_path=path, precision=read, **accumulate)
    assert same(fit(framework, ckpt_path=path, precision=written, **accumulate), whole)


@each_backend
def test_gradients_take_the_type_of_their_parameters(framework, tmp_path):
    path, accumulate = tmp_path / "x.ckpt", {"accumulate_grad_batches": 4}
    fit("reference", at=MIDDLE, path=path, precision="bf16-true", **accumulate)
    weights, _ = fit(framework, ckpt_path=path, **accumulate)
    assert same((weights, _), fit("reference", ckpt_path=path, **accumulate))
    assert weights[0].dtype is torch.float32


@each_backend
def test_a_model_that_was_trained_before_brings_no_gradients(framework, tmp_path):
    path, used = tmp_path / "x.ckpt", spec()
    fit(framework, used, at=BATCHES + 3, path=path)
    again = fit(framework, used, ckpt_path=path, accumulate_grad_batches=2)
    assert same(again, fit(framework, ckpt_path=path, accumulate_grad_batches=2))


@each_backend
@pytest.mark.parametrize("batches", [1, 2])
def test_an_epoch_without_a_batch_left_is_refused(framework, batches, tmp_path):
    path = tmp_path / "x.ckpt"
    fit("reference", at=MIDDLE, path=path)
    x, y = data()
    short = list(zip(x.split(4), y.split(4), strict=True))[:batches]
    with pytest.raises(CheckpointError, match=f"after 2 batches of an epoch, and an epoch now has {batches}"):
        fit(framework, None, short, ckpt_path=path)
    with pytest.raises(CheckpointError, match=f"after 2 batches of an epoch, and an epoch now has {batches}"):
        fit(framework, None, Unsized(5), ckpt_path=path, limit_train_batches=batches)
    with pytest.raises(DataError, match=r"now has no more|no batch after 2"):
        fit(framework, None, Unsized(batches), ckpt_path=path)


class Unsized:
    def __init__(self, batches):
        self.batches = batches

    def __iter__(self):
        x, y = data()
        return iter(list(zip(x.split(4), y.split(4), strict=True))[: self.batches])


@each_backend
def test_another_length_of_the_epoch_is_told(framework, tmp_path):
    path = tmp_path / "x.ckpt"
    fit("reference", at=MIDDLE, path=path)
    with pytest.warns(UserWarning, match=r"after 2 of 5 batches of an epoch, and an epoch now has 3; the first 2 are"):
        _, result = fit(framework, None, DataLoader(TensorDataset(*data()), 7), ckpt_path=path)
    assert result.step == 7 + 1 + 3


@each_backend
def test_a_metric_that_is_new_within_an_epoch_is_refused(framework, tmp_path):
    middle, end = tmp_path / "middle.ckpt", tmp_path / "end.ckpt"
    fit("reference", at=MIDDLE, path=middle)
    fit("reference", at=BATCHES, path=end)
    with pytest.raises(CheckpointError, match="did not measure the metric 'mae'"):
        fit(framework, spec(metrics={"mae": metric("mae")}), ckpt_path=middle)
    _, result = fit(framework, spec(metrics={"mae": metric("mae")}), ckpt_path=end)
    assert "train/mae" in result.metrics


@each_backend
def test_the_momentum_of_sgd_is_no_state_of_adam(framework, tmp_path):
    path = tmp_path / "x.ckpt"
    fit("reference", at=BATCHES, path=path)
    with pytest.raises(CheckpointError, match="does not fit Adam: it lacks 'step'"):
        fit(framework, spec(optimizer=partial(torch.optim.Adam, lr=0.1)), ckpt_path=path)


SCHEDULES = {
    "step": partial(lr_scheduler.StepLR, step_size=1),
    "cosine": partial(lr_scheduler.CosineAnnealingLR, T_max=10),
    "lambda": partial(lr_scheduler.LambdaLR, lr_lambda=lambda epoch: 0.5**epoch),
    "multiplicative": partial(lr_scheduler.MultiplicativeLR, lr_lambda=lambda epoch: 0.5),
    "in turn": lambda optimizer: lr_scheduler.SequentialLR(
        optimizer, [lr_scheduler.LinearLR(optimizer), lr_scheduler.ConstantLR(optimizer)], milestones=[1]
    ),
    "in another turn": lambda optimizer: lr_scheduler.SequentialLR(
        optimizer, [lr_scheduler.ConstantLR(optimizer), lr_scheduler.LinearLR(optimizer)], milestones=[1]
    ),
}


class Renamed(lr_scheduler.StepLR):
    """Has the same fields under another name."""


class Own(lr_scheduler.StepLR):
    def __init__(self, optimizer):
        super().__init__(optimizer, 1)
        self.more = 1


@each_backend
@pytest.mark.parametrize(
    ("written", "read"), [("step", "cosine"), ("lambda", "multiplicative"), ("in turn", "in another turn")]
)
def test_the_state_of_another_schedule_is_refused(framework, written, read, tmp_path):
    path = tmp_path / "x.ckpt"
    fit("reference", spec(lr_scheduler=SCHEDULES[written]), at=BATCHES, path=path)
    what = spec(lr_scheduler=SCHEDULES[read])
    before = [one.detach().clone() for one in what.model.parameters()]
    with pytest.raises(CheckpointError, match=r"has the state of torch\.optim\.lr_scheduler.*, and the spec has"):
        fit(framework, what, ckpt_path=path)
    assert all(map(torch.equal, what.model.parameters(), before))


@each_backend
@pytest.mark.parametrize(("written", "read"), [("Adam", "AdamW"), ("AdamW", "Adam")])
def test_the_state_of_an_optimizer_with_the_same_fields_is_refused(framework, written, read, tmp_path):
    path = tmp_path / "x.ckpt"
    of = {name: partial(getattr(torch.optim, name), lr=0.1, weight_decay=0.1) for name in (written, read)}
    fit("reference", spec(optimizer=of[written]), at=BATCHES, path=path)
    with pytest.raises(CheckpointError, match=rf"has the state of .*\.{written}, and the spec has .*\.{read}\."):
        fit(framework, spec(optimizer=of[read]), ckpt_path=path)


@each_backend
def test_a_class_of_ones_own_may_have_another_name_now(framework, tmp_path):
    path = tmp_path / "x.ckpt"
    whole = fit("reference", spec(lr_scheduler=SCHEDULES["step"]), at=BATCHES, path=path)
    assert same(fit(framework, spec(lr_scheduler=partial(Renamed, step_size=1)), ckpt_path=path), whole)
    with pytest.raises(CheckpointError, match=r"and the spec has .*\.Own"):
        fit(framework, spec(lr_scheduler=Own), ckpt_path=path)


def test_without_the_names_a_mixture_would_be_trained(tmp_path, monkeypatch):
    path = tmp_path / "x.ckpt"
    of = {name: partial(getattr(torch.optim, name), lr=0.1, weight_decay=0.1) for name in ("Adam", "AdamW")}
    fit("reference", spec(optimizer=of["Adam"]), at=BATCHES, path=path)
    monkeypatch.setattr(restore, "require_same_kinds", lambda *_: None)
    fit("ignite", spec(optimizer=of["AdamW"]), ckpt_path=path)


def test_with_the_modules_of_torch_the_same_class_would_be_refused(tmp_path, monkeypatch):
    path, sgd = tmp_path / "x.ckpt", partial(torch.optim.SGD, lr=0.1)
    fit("reference", spec(optimizer=sgd), at=BATCHES, path=path)
    monkeypatch.setattr(torch.optim.SGD, "__module__", "torch.optim._private.moved")
    monkeypatch.setattr(resume_checks, "_public", lambda kind: kind)
    with pytest.raises(CheckpointError, match=r"has the state of torch\.optim\.sgd\.SGD"):
        fit("ignite", spec(optimizer=sgd), ckpt_path=path)


@each_backend
@pytest.mark.parametrize("at", [BATCHES, MIDDLE])
@pytest.mark.parametrize(("before", "now"), [(1, 0), (0, 1)])
def test_generators_of_the_loader_that_are_new_or_gone_are_told(framework, at, before, now, tmp_path):
    def loader(number):
        generator = torch.Generator().manual_seed(3) if number else None
        return DataLoader(TensorDataset(*data()), 4, shuffle=True, generator=generator)

    path = tmp_path / "x.ckpt"
    fit("reference", None, loader(before), at=at, path=path)
    with pytest.warns(UserWarning, match=r"generators of the training loader and its samplers, and there are \d now"):
        _, result = fit(framework, None, loader(now), ckpt_path=path)
    assert result.step == 3 * BATCHES


def test_without_the_count_of_generators_nothing_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(resume_checks, "_warn_of_generators", lambda *_: None)
    with pytest.raises(pytest.fail.Exception, match="DID NOT WARN"):
        test_generators_of_the_loader_that_are_new_or_gone_are_told("ignite", BATCHES, 1, 0, tmp_path)


@each_backend
@pytest.mark.parametrize("schedule", ["step", "in turn"])
def test_torch_may_move_a_class_to_another_module(framework, schedule, tmp_path, monkeypatch):
    path, sgd = tmp_path / "x.ckpt", partial(torch.optim.SGD, lr=0.1)
    whole = fit("reference", spec(optimizer=sgd, lr_scheduler=SCHEDULES[schedule]), at=BATCHES, path=path)
    for one in (torch.optim.SGD, lr_scheduler.StepLR, lr_scheduler.SequentialLR, lr_scheduler.LinearLR):
        monkeypatch.setattr(one, "__module__", "torch.optim._private.moved")
    assert same(fit(framework, spec(optimizer=sgd, lr_scheduler=SCHEDULES[schedule]), ckpt_path=path), whole)


@each_backend
def test_a_combination_of_another_number_of_loaders_is_refused(framework, tmp_path):
    def step(model, batch):
        return sum(nn.functional.mse_loss(model(x), y) for x, y in batch)

    def loader(number):
        x, y = data()
        return CombinedLoader([list(zip(x.split(4), y.split(4), strict=True))] * number)

    path, of_two = tmp_path / "x.ckpt", spec(loss=None, training_step=step)
    fit("reference", of_two, loader(2), at=MIDDLE, path=path)
    with pytest.raises(DataError, match="the position of 2 combined loaders is not one of 3"):
        fit(framework, spec(loss=None, training_step=step), loader(3), ckpt_path=path)
