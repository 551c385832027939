"""Metrics that are no objects, or cannot be copied: each stage measures with a copy of its own."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import nn
from torchmetrics import MeanMetric
from torchmetrics.classification import BinaryAccuracy

from unitrain import ConfigError, SpecError, TrainSpec, UnifiedTrainer

BACKENDS = ("lightning", "ignite", "reference")
BATCHES = [(torch.ones(2, 2), torch.ones(2, 1))] * 2


def spec(**changes):
    fields = {"model": nn.Linear(2, 1), "loss": nn.MSELoss(), "optimizer": partial(torch.optim.SGD, lr=0.1)}
    return TrainSpec(**{**fields, **changes})


def trainer(framework):
    return UnifiedTrainer(framework, max_epochs=1, enable_progress_bar=False)


@pytest.mark.parametrize("framework", BACKENDS)
def test_the_class_of_a_metric_is_named(framework):
    with pytest.raises(SpecError, match="got the class BinaryAccuracy itself") as raised:
        trainer(framework).validate(spec(metrics={"acc": BinaryAccuracy}), BATCHES)
    assert raised.value.hint.startswith('metrics={"acc": BinaryAccuracy(...)}; ')


class Held(MeanMetric):
    def __init__(self):
        super().__init__()
        self.generator = (one for one in ())

    def update(self, output, target):
        super().update(output)


@pytest.mark.parametrize("framework", BACKENDS)
def test_a_metric_that_cannot_be_copied_is_refused(framework):
    for method in ("fit", "validate"):
        with pytest.raises(
            ConfigError, match=r"metric.* cannot be copied by copy.deepcopy: TypeError: cannot"
        ) as raised:
            getattr(trainer(framework), method)(spec(metrics={"held": Held()}), BATCHES)
        assert "__deepcopy__" in raised.value.hint
    if framework != "reference":
        assert "the metric 'held'" in str(raised.value)
