"""Programs that the tests compare: one that is right, and others with one fault each."""

from __future__ import annotations

import os
import random
import signal
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from unitrain import Callback, LRSchedule, TrainSpec, metric
from unitrain.testing.models import CLASSES, loader, tensors

OPTIONS = {"max_epochs": 2, "accumulate_grad_batches": 2}
"""Three steps an epoch, of two batches each."""
AT = 3
"""The step before which the faults happen, so that step 4 differs."""


def net():
    return nn.Sequential(nn.Linear(36, 12), nn.BatchNorm1d(12), nn.ReLU(), nn.Dropout(0.25), nn.Linear(12, CLASSES))


def spec(**changes):
    given = {
        "model": changes.get("model") or net(),
        "loss": nn.CrossEntropyLoss(),
        "optimizer": partial(torch.optim.AdamW, lr=1e-2),
        "lr_scheduler": partial(torch.optim.lr_scheduler.StepLR, step_size=1),
        "metrics": {"acc": metric("accuracy", num_classes=CLASSES)},
        **changes,
    }
    return TrainSpec(**given)


def make():
    return spec(), loader(), loader(shuffle=False), OPTIONS


class Fault(Callback):
    """Does something once, in step 4, on the last of the two batches."""

    def __init__(self, act, event="backward_end", step=AT):
        self._act, self._event, self._step = act, event, step
        self._done = False

    def _maybe(self, event, run):
        due = run.state.step == self._step and run.state.batch % 2 == 1
        if event == self._event and due and not self._done:
            self._done = True
            self._act(run)

    def on_batch_start(self, run):
        self._maybe("batch_start", run)

    def on_backward_end(self, run):
        self._maybe("backward_end", run)

    def on_optimizer_step(self, run):
        if run.state.step == self._step + 1 and self._event == "optimizer_step" and not self._done:
            self._done = True
            self._act(run)


def with_fault(*faults):
    made = make()
    return replace(made[0], callbacks=list(faults)), *made[1:]


def one_ulp(tensor, index):
    """Change one element to its neighbour."""
    with torch.no_grad():
        tensor[index] = torch.nextafter(tensor[index], torch.tensor(torch.inf, dtype=tensor.dtype))


def gradient_fault(run):
    one_ulp(run.model[4].weight.grad, (1, 2))


def faulty_gradient():
    return with_fault(Fault(gradient_fault))


def on_one(run, backend):
    """Return whether ``run`` is on the backend, by its native object."""
    return {"NoneType": "reference", "Engine": "ignite", "Trainer": "lightning"}[type(run.native).__name__] == backend


class FaultOn(Fault):
    """The same fault, on one backend only."""

    def __init__(self, backend):
        super().__init__(lambda run: gradient_fault(run) if on_one(run, backend) else None)


def faulty_on_lightning():
    return with_fault(FaultOn("lightning"))


def faulty_on_ignite():
    return with_fault(FaultOn("ignite"))


def faulty_on_reference():
    return with_fault(FaultOn("reference"))


def faulty_weight():
    return with_fault(Fault(lambda run: one_ulp(run.model[0].bias.data, (3,)), "optimizer_step"))


def faulty_buffer():
    return with_fault(Fault(lambda run: one_ulp(run.model[1].running_mean, (5,)), "optimizer_step"))


def faulty_moment():
    def act(run):
        one_ulp(next(iter(run.optimizers.values())).state[run.model[4].bias]["exp_avg"], (0,))

    return with_fault(Fault(act, "optimizer_step"))


def faulty_rate():
    def act(run):
        next(iter(run.optimizers.values())).param_groups[0]["lr"] *= 1.0000000000000002

    return with_fault(Fault(act, "optimizer_step"))


def with_plateau():
    made = make()
    plateau = partial(torch.optim.lr_scheduler.ReduceLROnPlateau, patience=9)
    return replace(made[0], lr_scheduler=LRSchedule(plateau, monitor="val/loss")), *made[1:]


def faulty_plateau():
    def act(run):
        run.schedules[0].scheduler.num_bad_epochs += 1

    made = with_plateau()
    return replace(made[0], callbacks=[Fault(act, "optimizer_step")]), *made[1:]


def half():
    return *make()[:3], {**OPTIONS, "precision": "16-mixed"}


def faulty_scale():
    def act(run):
        run.scaler.load_state_dict({**run.scaler.state_dict(), "_growth_tracker": 7})

    made = half()
    return replace(made[0], callbacks=[Fault(act, "optimizer_step")]), *made[1:]


def draws_once_more():
    return with_fault(Fault(lambda _: torch.rand(1), "batch_start"))


def draws_in_python():
    return with_fault(Fault(lambda _: random.random(), "batch_start"))


class Twice(nn.Module):
    """Draws its dropout twice in one batch, and uses the second."""

    def __init__(self):
        super().__init__()
        self.inner, self.calls = net(), 0

    def forward(self, inputs):
        if self.training and torch.is_grad_enabled():
            self.calls += 1
            if self.calls == 2 * AT + 1:
                self.inner[3](inputs)
        return self.inner(inputs)


class Once(Twice):
    def forward(self, inputs):
        return self.inner(inputs)


def drops_once():
    return spec(model=Once()), loader(), None, OPTIONS


def drops_twice():
    return spec(model=Twice()), loader(), None, OPTIONS


def two_calls():
    def step(model, batch):
        step.calls += 1
        if step.calls == 3:
            state = torch.get_rng_state()
            with torch.random.fork_rng():
                model(batch[0])
            torch.set_rng_state(state)
        return nn.functional.cross_entropy(model(batch[0]), batch[1])

    step.calls = 0
    return spec(loss=None, training_step=step, metrics=None, model=nn.Linear(36, CLASSES)), loader(), None, OPTIONS


def one_call():
    def step(model, batch):
        return nn.functional.cross_entropy(model(batch[0]), batch[1])

    return spec(loss=None, training_step=step, metrics=None, model=nn.Linear(36, CLASSES)), loader(), None, OPTIONS


class Scaled(nn.CrossEntropyLoss):
    def forward(self, output, target):
        return super().forward(output, target) * (1 + 2**-23)


def other_loss():
    return spec(loss=Scaled()), loader(), loader(shuffle=False), OPTIONS


def seeded_elsewhere():
    torch.manual_seed(7)
    model = net()
    torch.manual_seed(0)
    net()  # so that the random state is the same
    return spec(model=model), loader(), loader(shuffle=False), OPTIONS


class Noisy(Dataset):
    """Draws from a generator of its own, as MONAI's transforms do."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.inputs, self.classes = tensors()

    def __len__(self):
        return len(self.classes)

    def __getitem__(self, index):
        return self.inputs[index] + self.random.random(), self.classes[index]


def noisy(seed=None):
    return spec(), DataLoader(Noisy(seed), batch_size=4), None, OPTIONS


def quietly_noisy():
    return noisy(3)


def infinite_weights():
    """Return a program that has NaN in its weights after the first step."""
    made = make()
    return replace(made[0], optimizer=partial(torch.optim.SGD, lr=3e38)), *made[1:]


def shorter():
    return spec(), loader(), loader(shuffle=False), {**OPTIONS, "max_epochs": 1}


def logs_more():
    def act(run):
        run.log("more", 1.0)

    return with_fault(Fault(act, "backward_end"))


def without_validation():
    made = make()
    return made[0], made[1], None, made[3]


def crashes():
    return with_fault(Fault(_crash))


def _crash(run):
    raise RuntimeError("no such luck")


def killed():
    """Return a program that the system kills in step 4, as one without memory."""
    return with_fault(Fault(lambda _: os.kill(os.getpid(), signal.SIGKILL)))


def hanging():
    """Return a program that hangs in step 4."""
    return with_fault(Fault(lambda _: time.sleep(3600)))


def never_stepping():
    def step(run, batch):
        run.model(batch[0])

    given = {"loss": None, "metrics": None, "lr_scheduler": None, "training_step": step}
    return spec(**given, automatic_optimization=False), loader(), None, {"max_epochs": 1}


class Marking(Callback):
    """Writes a file where a run writes by default, and nowhere else."""

    def on_fit_start(self, run):
        (Path(run.config.default_root_dir) / "mine").open("x").close()


def marking():
    return with_fault(Marking())


def marking_faulty():
    return with_fault(Marking(), Fault(gradient_fault))


def crash_on_ignite():
    return with_fault(Fault(lambda run: _crash(run) if on_one(run, "ignite") else None))


def crashes_later():
    return with_fault(Fault(_crash, step=AT + 1))


def not_a_program():
    return 3


def a_pair_of_numbers():
    return 3, 4
