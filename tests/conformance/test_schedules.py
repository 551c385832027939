"""Warm-up and Ignite's parameter schedulers: the rate of each step, by hand and by Ignite, and resumed at each step."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial

import lightning.pytorch as pl
import pytest
import torch
from ignite.engine import Engine, Events
from ignite.handlers import param_scheduler as ignite_schedulers
from torch import nn
from torch.optim import SGD
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, ReduceLROnPlateau, StepLR
from torch.utils.data import DataLoader, TensorDataset

import unitrain.optim.optimizers
from unitrain import Event, LRSchedule, ModelCheckpoint, SpecError, TrainSpec, UnifiedTrainer

BACKENDS = ("lightning", "ignite", "reference")
EPOCHS, BATCHES = 4, 3
STEPS = EPOCHS * BATCHES
LR = 0.1
MOMENTUM = partial(SGD, lr=LR, momentum=0.5)

on_each_backend = pytest.mark.parametrize("framework", BACKENDS)


def loader():
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(12, 4, generator=generator), torch.randn(12, 1, generator=generator)
    return DataLoader(TensorDataset(*rows), 4, shuffle=True)


def spec(schedule, optimizer=MOMENTUM, **changes):
    torch.manual_seed(0)
    return TrainSpec(model=nn.Linear(4, 1), loss=nn.MSELoss(), optimizer=optimizer, lr_scheduler=schedule, **changes)


def trained(framework, what, key="lr", stop_after=None, ckpt_path=None, **options):
    """Return the values of each group at each optimizer step, and the weights."""
    seen = []
    options = {"max_epochs": EPOCHS, **options}
    trainer = UnifiedTrainer(framework, seed=0, enable_progress_bar=False, **options)

    @trainer.on(Event.OPTIMIZER_STEP)
    def note(run):
        seen.append(tuple(float(group[key]) for group in run.optimizers["optimizer"].param_groups))

    if stop_after is not None:
        trainer.on(
            Event.BATCH_END(once=stop_after), lambda run: run.save_checkpoint(run.config.default_root_dir / "at")
        )
    trainer.fit(what, loader(), loader(), ckpt_path=ckpt_path)
    return seen, what.model.weight.detach().clone()


def warm(step, length):
    return min(step + 1, length) / length


BY_HAND = {
    "by itself": (LRSchedule(warmup_steps=5), lambda step: LR),
    "by steps": (
        LRSchedule(partial(StepLR, step_size=2, gamma=0.5), interval="step", warmup_steps=5),
        lambda step: LR * 0.5 ** (step // 2),
    ),
    "by epochs": (
        LRSchedule(partial(StepLR, step_size=1, gamma=0.5), warmup_steps=5),
        lambda step: LR * 0.5 ** (step // BATCHES),
    ),
    "on a plateau": (  # a threshold that no loss beats: halved after each epoch but the first
        LRSchedule(
            partial(ReduceLROnPlateau, patience=0, factor=0.5, threshold=0.999), monitor="train/loss", warmup_steps=5
        ),
        lambda step: LR * 0.5 ** max(0, step // BATCHES - 1),
    ),
    "of one step": (LRSchedule(warmup_steps=1), lambda step: LR),
    "longer than the run": (LRSchedule(warmup_steps=50), lambda step: LR),
}


def expected(name):
    schedule, rate = BY_HAND[name]
    factors = [warm(step, schedule.warmup_steps) for step in range(STEPS)]
    return [(rate(step) * factor if factor < 1 else rate(step),) for step, factor in enumerate(factors)]


@pytest.mark.filterwarnings("ignore:.*never reached the full learning rate")
@on_each_backend
@pytest.mark.parametrize("name", BY_HAND)
def test_each_step_of_a_warm_up_has_the_rate_computed_by_hand(framework, name):
    seen, _ = trained(framework, spec(BY_HAND[name][0]))
    assert seen == expected(name)


@pytest.mark.parametrize("fault", ["not lifted", "one step late"])
def test_a_seeded_fault_in_the_warm_up_is_seen(monkeypatch, fault):
    if fault == "not lifted":
        monkeypatch.setattr("unitrain.optim.warmup.lift", lambda optimizer: None)
    else:
        after_step = unitrain.optim.schedules.Schedule.after_step

        def late(self):
            if self.steps or getattr(self, "begun", False):
                after_step(self)
            self.begun = True

        monkeypatch.setattr(unitrain.optim.schedules.Schedule, "after_step", late)
    assert trained("ignite", spec(BY_HAND["by steps"][0]))[0] != expected("by steps")


def test_where_the_rate_is_constant_warm_up_is_torchs_linear_one():
    optimizer = SGD(nn.Linear(1, 1).parameters(), lr=LR)
    linear = LinearLR(optimizer, start_factor=1 / 5, total_iters=4)
    rates = []
    for _ in range(STEPS):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        linear.step()
    ours = [rate for (rate,) in trained("reference", spec(LRSchedule(warmup_steps=5)))[0]]
    # torch multiplies the rate before by a quotient, so that its last bits are not those of the closed form
    assert ours == pytest.approx(rates, rel=1e-15 * STEPS)


@on_each_backend
def test_warm_up_counts_optimizer_steps_not_batches(framework):
    seen, _ = trained(framework, spec(LRSchedule(warmup_steps=4)), accumulate_grad_batches=2)
    assert seen == [(LR * warm(step, 4) if step < 3 else LR,) for step in range(EPOCHS * 2)]


@on_each_backend
def test_warm_up_scales_each_group_and_all_schedules_of_its_optimizer(framework):
    def groups(parameters):
        return SGD([{"params": parameters[:1]}, {"params": parameters[1:], "lr": 1.0}], lr=LR)

    half = partial(StepLR, step_size=1, gamma=0.5)
    seen, _ = trained(framework, spec([LRSchedule(half, warmup_steps=6), LRSchedule(half)], groups))
    for step, rates in enumerate(seen):
        full = [rate * 0.25 ** (step // BATCHES) for rate in (LR, 1.0)]
        assert rates == tuple(rate * warm(step, 6) if step < 5 else rate for rate in full)


@on_each_backend
def test_a_rate_that_is_a_tensor_stays_the_same_object(framework):
    kept = []

    def made(parameters):
        kept.append(torch.optim.Adam(parameters, lr=torch.tensor(LR)))
        return kept[0]

    rate_of = lambda: kept[0].param_groups[0]["lr"]  # noqa: E731
    trainer = UnifiedTrainer(framework, max_epochs=2, seed=0, enable_progress_bar=False)
    same, seen = [], []
    trainer.on(Event.BATCH_START(once=1), lambda run: same.append(rate_of()))
    trainer.on(Event.OPTIMIZER_STEP, lambda run: seen.append(rate_of().item()))
    trainer.fit(spec(LRSchedule(warmup_steps=4), made), loader())
    assert framework == "reference" or same[0] is rate_of()  # the oracle assigns
    full = torch.tensor(LR)
    assert seen == [(full * warm(step, 4)).item() for step in range(2 * BATCHES)]


def cyclical(optimizer):
    return ignite_schedulers.LinearCyclicalScheduler(optimizer, "lr", 0.2, 0.01, 6)


def momentum(optimizer):
    return ignite_schedulers.CosineAnnealingScheduler(optimizer, "momentum", 0.9, 0.1, 8, start_value_mult=0.5)


def piecewise(optimizer):
    return ignite_schedulers.PiecewiseLinear(optimizer, "weight_decay", [(2, 0.0), (5, 0.1), (9, 0.01)])


def concatenated(optimizer):
    parts = [cyclical(optimizer), ignite_schedulers.CosineAnnealingScheduler(optimizer, "lr", 0.05, 0.001, 4)]
    return ignite_schedulers.ConcatScheduler(parts, durations=[5])


def warmed_up(optimizer):
    return ignite_schedulers.create_lr_scheduler_with_warmup(
        CosineAnnealingLR(optimizer, T_max=8), warmup_start_value=0.0, warmup_end_value=LR, warmup_duration=4
    )


def of_torch(optimizer):
    return ignite_schedulers.LRScheduler(StepLR(optimizer, step_size=2, gamma=0.5))


def grouped(optimizer):
    parts = [
        ignite_schedulers.LinearCyclicalScheduler(optimizer, "lr", 0.2, 0.01, 6, param_group_index=0),
        ignite_schedulers.CosineAnnealingScheduler(optimizer, "lr", 0.1, 0.02, 5, param_group_index=1),
    ]
    return ignite_schedulers.ParamGroupScheduler(parts, ["first", "second"])


def two_groups(parameters):
    return SGD([{"params": parameters[:1]}, {"params": parameters[1:]}], lr=LR, momentum=0.5)


ON_IGNITE = {
    "cyclical": (cyclical, "lr"),
    "momentum": (momentum, "momentum"),
    "piecewise": (piecewise, "weight_decay"),
    "concatenated": (concatenated, "lr"),
    "warmed_up": (warmed_up, "lr"),
    "of_torch": (of_torch, "lr"),
    "grouped": (grouped, "lr"),
}


def on_a_plain_engine(factory, key, event=Events.ITERATION_STARTED):
    """Return what a plain Ignite program trains, with the scheduler attached as Ignite's documentation shows."""
    torch.manual_seed(0)
    model, loss = nn.Linear(4, 1), nn.MSELoss()
    optimizer = two_groups(list(model.parameters()))
    seen = []

    def update(engine, batch):
        optimizer.zero_grad()
        loss(model(batch[0]), batch[1]).backward()
        optimizer.step()
        seen.append(tuple(group[key] for group in optimizer.param_groups))

    engine = Engine(update)
    engine.add_event_handler(event, factory(optimizer))
    torch.manual_seed(0)  # as seed=0 does at the start of a run
    engine.run(loader(), EPOCHS)
    return seen, model.weight.detach().clone()


@on_each_backend
@pytest.mark.parametrize("name", ON_IGNITE)
def test_ignites_schedulers_set_on_each_backend_what_they_set_on_ignite(framework, name):
    factory, key = ON_IGNITE[name]
    wanted, weights = on_a_plain_engine(factory, key)
    seen, ours = trained(framework, spec(LRSchedule(factory, interval="step"), two_groups), key)
    assert seen == wanted
    assert len(set(seen)) > 3
    assert torch.equal(ours, weights)


@on_each_backend
def test_by_epochs_they_are_as_attached_to_ignites_epochs(framework):
    wanted, weights = on_a_plain_engine(cyclical, "lr", Events.EPOCH_STARTED)
    seen, ours = trained(framework, spec(cyclical, two_groups))
    assert seen == wanted
    assert torch.equal(ours, weights)


RESUMED = {name: LRSchedule(factory, interval="step") for name, (factory, _) in ON_IGNITE.items()}
RESUMED |= {name: schedule for name, (schedule, _) in BY_HAND.items() if name != "of one step"}


@pytest.mark.filterwarnings("ignore:.*never reached the full learning rate")
@pytest.mark.parametrize("name", RESUMED)
@pytest.mark.parametrize(
    ("writer", "reader"), [("lightning", "ignite"), ("ignite", "reference"), ("reference", "lightning")]
)
def test_a_resumed_schedule_goes_on_at_the_same_step(writer, reader, name, tmp_path):
    key = ON_IGNITE[name][1] if name in ON_IGNITE else "lr"
    optimizer = two_groups if name in ON_IGNITE else MOMENTUM
    make = partial(spec, RESUMED[name], optimizer)
    whole, weights = trained(writer, make(), key, stop_after=4, default_root_dir=tmp_path)
    rest, resumed = trained(reader, make(), key, ckpt_path=tmp_path / "at")
    assert rest == whole[4:]
    assert torch.equal(resumed, weights)


@pytest.mark.parametrize(
    ("writer", "reader"),
    [("ignite", "ignite"), ("ignite", "lightning"), ("reference", "ignite"), ("lightning", "reference")],
)
def test_a_scheduler_given_as_a_handler_is_resumed_too(writer, reader, tmp_path):
    """On its own framework, which calls it, a handler's state is kept as well."""

    def make():
        what = spec(None)
        optimizer = SGD(what.model.parameters(), lr=LR)
        return replace(what, optimizer=optimizer, callbacks=[cyclical(optimizer)])

    whole, weights = trained(writer, make(), stop_after=4, default_root_dir=tmp_path)
    rest, resumed = trained(reader, make(), ckpt_path=tmp_path / "at")
    assert rest == whole[4:]
    assert torch.equal(resumed, weights)


class Counting(pl.Callback):
    """Counts batches over resumed runs."""

    seen = 0

    def on_train_batch_end(self, *_):
        self.seen += 1

    def state_dict(self):
        return {"seen": self.seen}

    def load_state_dict(self, state_dict):
        self.seen = state_dict["seen"]


@pytest.mark.parametrize(
    ("writer", "reader"), [("lightning", "lightning"), ("lightning", "ignite"), ("ignite", "lightning")]
)
def test_a_callback_of_lightning_keeps_its_state_on_its_own_framework_too(writer, reader, tmp_path):
    trained(writer, spec(None, callbacks=[Counting()]), stop_after=4, default_root_dir=tmp_path)
    resumed = Counting()
    trained(reader, spec(None, callbacks=[resumed]), ckpt_path=tmp_path / "at")
    assert resumed.seen == STEPS


@pytest.mark.filterwarnings("ignore:.*never reached the full learning rate")
@on_each_backend
def test_an_optimizer_of_a_run_stopped_in_its_warm_up_starts_the_next_at_its_own_rate(framework):
    what = spec(LRSchedule(warmup_steps=50))
    optimizer = SGD(what.model.parameters(), lr=LR)
    given = replace(what, optimizer=optimizer)
    first, _ = trained(framework, given)
    second, _ = trained(framework, given)
    assert second == first
    assert optimizer.param_groups[0]["warmup_lr"] == LR


@pytest.mark.parametrize("steps", [-1, 1.0, True, "5", None])
def test_a_wrong_number_of_warm_up_steps_is_refused(steps):
    with pytest.raises(SpecError, match=r"warmup_steps=\) must be a number of optimizer steps, 0 or more; got"):
        LRSchedule(warmup_steps=steps)


def test_a_schedule_of_nothing_is_refused():
    with pytest.raises(SpecError, match="factory"):
        LRSchedule()


def plateau_of_ignite(optimizer):
    return ignite_schedulers.ReduceLROnPlateauScheduler(optimizer, "loss")


REFUSED = {
    "two warm-ups": ([LRSchedule(warmup_steps=2), LRSchedule(warmup_steps=3)], "2 schedules .* set warmup_steps"),
    "no scheduler": (lambda optimizer: "x", "must return a torch scheduler or an Ignite parameter scheduler"),
    "history": (
        lambda optimizer: ignite_schedulers.LinearCyclicalScheduler(optimizer, "lr", 0.2, 0.01, 6, save_history=True),
        "save_history=True",
    ),
    "a metric of Ignite": (plateau_of_ignite, "without an Ignite engine"),
    "a monitor": (LRSchedule(cyclical, monitor="val/loss"), "has no effect on LinearCyclicalScheduler"),
}


@on_each_backend
@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_work_is_refused_before_training(framework, name):
    schedule, message = REFUSED[name]
    what = spec(schedule)
    before = what.model.weight.detach().clone()
    with pytest.raises(SpecError, match=message):
        UnifiedTrainer(framework, max_epochs=1, enable_progress_bar=False).fit(what, loader())
    assert torch.equal(what.model.weight, before)


@pytest.mark.filterwarnings("ignore:.*never reached the full learning rate")
def test_plain_torch_reads_the_optimizer_of_a_checkpoint_written_in_a_warm_up(tmp_path):
    what = spec(LRSchedule(warmup_steps=50))
    keep = ModelCheckpoint(tmp_path, save_last=True)
    UnifiedTrainer("ignite", max_epochs=1, enable_progress_bar=False, callbacks=[keep]).fit(what, loader())
    content = torch.load(keep.last_model_path, weights_only=True)
    optimizer = SGD(what.model.parameters(), lr=1.0, momentum=0.5)
    optimizer.load_state_dict(content["optimizer_states"][0])
    assert math.isclose(optimizer.param_groups[0]["lr"], LR * 4 / 50)
