"""The cases of events of the user's own, and of metrics whose values are vectors, matrices and curves."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import torch

from unitrain.callbacks import Callback
from unitrain.metrics.metric import metric
from unitrain.run.hub import CustomEvent, Event
from unitrain.testing.cases import DATA, spec
from unitrain.testing.models import CLASSES, loader
from unitrain.testing.trace import Case

if TYPE_CHECKING:
    from unitrain.run.context import RunContext
    from unitrain.spec import TrainSpec
    from unitrain.trainer import UnifiedTrainer

_DRIFTED, _LATE = CustomEvent("drifted"), CustomEvent("late")


class _OwnEvents(Callback):
    """Fires events of its own wherever it can, and hears one of them."""

    def on_backward_end(self, run: RunContext) -> None:
        run.fire(_DRIFTED)

    def on_val_batch_end(self, run: RunContext) -> None:
        run.fire(_DRIFTED)

    def on_epoch_end(self, run: RunContext) -> None:
        run.fire(_LATE)

    def on_drifted(self, run: RunContext) -> None:
        run.log("own/drifts", float(run.hub.occurred(_DRIFTED)))


def _own_handlers(trainer: UnifiedTrainer) -> None:
    trainer.on(_DRIFTED(every=3) | _LATE, lambda run: run.log("own/draw", float(torch.rand(()))))
    trainer.on(_DRIFTED(after=4, before=12) | Event.EPOCH_START, lambda: trainer.fire(_LATE))
    trainer.on(_LATE(once=[2, 5]), lambda run: run.log("own/late", 1.0))


def _measuring_classes() -> TrainSpec:
    metrics = {
        "recall": metric("recall", class_names=["a", "b", "c", "d", "e"]),
        "confusion": metric("confusion_matrix", num_classes=CLASSES),
        "roc": metric("roc", num_classes=CLASSES, thresholds=4),
        "pr": metric("precision_recall_curve", num_classes=CLASSES),
    }
    return spec(metrics=metrics)


def view_cases() -> list[Case]:
    """Return what is fired, counted and measured beyond numbers."""
    return [
        Case(
            name="custom-events",
            spec=partial(spec, callbacks=[_OwnEvents()]),
            train=DATA["noisy"],
            val=partial(loader, samples=10),
            options={"val_check_interval": 2},
            act=_own_handlers,
        ),
        Case(name="vector-metrics", spec=_measuring_classes, train=loader, val=partial(loader, samples=10)),
    ]
