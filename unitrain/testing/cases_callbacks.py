"""The cases of the built-in callbacks."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from unitrain.callbacks import (
    EMA,
    Callback,
    DeviceStats,
    EarlyStopping,
    EmptyCache,
    Freeze,
    GradientAccumulationSchedule,
    LRMonitor,
    StochasticWeightAveraging,
    TerminateOnNaN,
    Timer,
    Unfreeze,
)
from unitrain.run.hub import Event
from unitrain.testing import cases
from unitrain.testing.models import loader
from unitrain.testing.trace import Case

if TYPE_CHECKING:
    from collections.abc import Callable

    from unitrain.run.context import RunContext
    from unitrain.spec import TrainSpec


class _Scores(Callback):
    """Logs a score in each epoch, from a table."""

    def __init__(self, *scores: float) -> None:
        self._scores = scores

    def on_epoch_end(self, run: RunContext) -> None:
        run.log("score", self._scores[min(run.state.epoch, len(self._scores) - 1)])


class _Poison(Callback):
    """Makes a weight infinite in the midst of the second epoch."""

    def on_batch_end(self, run: RunContext) -> None:
        if run.state.batch == 8:  # noqa: PLR2004 - of six batches an epoch
            with torch.no_grad():
                next(run.model.parameters()).view(-1)[0] = torch.inf


class _Counting(DeviceStats):
    """Logs the batches so far, since the memory of two processes is not the same."""

    def on_batch_end(self, run: RunContext) -> None:
        self.batches = run.state.batch

    def read(self, device: torch.device) -> dict[str, float]:
        return {f"device/{device.type}": float(getattr(self, "batches", 0))}


CALLBACKS: dict[str, tuple[Callable[[], list[Any]], dict[str, Any]]] = {
    "early-stopping": (lambda: [EarlyStopping("val/loss", patience=1, min_delta=0.1)], {"max_epochs": 6}),
    "early-stopping-max": (lambda: [EarlyStopping("val/acc", mode="max", patience=2)], {"max_epochs": 9}),
    "early-stopping-tie": (
        lambda: [_Scores(1.0, 0.9, 0.9, 0.5), EarlyStopping("train/score", patience=1)],
        {"max_epochs": 6},
    ),
    "early-stopping-nan": (
        lambda: [_Scores(1.0, float("nan")), EarlyStopping("train/score", patience=5)],
        {"max_epochs": 6},
    ),
    "early-stopping-min-epochs": (
        lambda: [_Scores(1.0), EarlyStopping("train/score", patience=0)],
        {"max_epochs": 6, "min_epochs": 4},
    ),
    "early-stopping-val-every-2": (
        lambda: [EarlyStopping("val/loss", patience=1, min_delta=0.5)],
        {"max_epochs": 8, "check_val_every_n_epoch": 2},
    ),
    "freeze": (lambda: [Freeze(["1", "2"], 2, train_bn=False)], {"val_check_interval": 2}),
    "freeze-for-good": (lambda: [Freeze("5.bias")], {"accumulate_grad_batches": 4}),
    "unfreeze": (lambda: [Unfreeze({1: "5.bias", 2: "1"}, lr_factor={2: 0.1})], {}),
    "lr-monitor": (lambda: [LRMonitor()], {}),
    "ema": (lambda: [EMA(0.9)], {}),
    "ema-every-2-midway": (lambda: [EMA(0.5, every_n_steps=2)], {"val_check_interval": 2}),
    "ema-midway-accumulating": (lambda: [EMA(0.5)], {"val_check_interval": 2, "accumulate_grad_batches": 4}),
    "swa": (lambda: [StochasticWeightAveraging(0.02, 2, annealing_epochs=1)], {"max_epochs": 4}),
    "swa-linear-accumulating": (
        lambda: [StochasticWeightAveraging(0.02, 0.5, annealing_strategy="linear")],
        {"max_epochs": 4, "accumulate_grad_batches": 4},
    ),
    "swa-cut-short": (lambda: [StochasticWeightAveraging(0.02, 1)], {"max_steps": 8, "val_check_interval": 2}),
    "timer": (lambda: [Timer({"microseconds": 1})], {}),
    "timer-min-steps": (lambda: [Timer({"microseconds": 1})], {"min_steps": 8}),
    "terminate-on-nan": (lambda: [_Poison(), TerminateOnNaN()], {}),
    "accumulation-schedule": (lambda: [GradientAccumulationSchedule({0: 4, 1: 1, 2: 3})], {}),
    "accumulation-schedule-later": (lambda: [GradientAccumulationSchedule({1: 2})], {"val_check_interval": 2}),
    "empty-cache": (lambda: [EmptyCache(Event.EPOCH_END | Event.BATCH_END(every=4))], {}),
    "device-stats": (lambda: [_Counting()], {}),
}


def _spec(name: str, optimizer: str, schedule: str) -> TrainSpec:
    return cases.spec("cnn", optimizer, schedule, callbacks=CALLBACKS[name][0]())


def _adversarial() -> TrainSpec:
    spec = cases.adversarial()
    object.__setattr__(spec, "callbacks", (EMA(0.8), LRMonitor()))
    return spec


def callback_cases() -> list[Case]:
    """Return each built-in callback at work."""
    validated = partial(loader, samples=10)
    several = Case(name="ema-adversarial", spec=_adversarial, train=loader)
    return [
        Case(
            name=name,
            spec=partial(_spec, name, "groups" if name == "lr-monitor" else "sgd", "step"),
            train=loader,
            val=validated,
            options=options,
        )
        for name, (_, options) in CALLBACKS.items()
    ] + [several]
