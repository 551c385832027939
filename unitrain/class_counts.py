"""Metrics of torchmetrics that only count classes, fed once an epoch instead of once a batch.

An update costs torchmetrics 60 microseconds and a wait for the device, for it looks at the labels; a whole step of a
small model costs twice as much. A count does not depend on how its samples are parted into batches: the sums are
integers. So the predicted classes and the labels of many batches are kept, and counted together.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

_LIMIT = 2**20
"""How many labels are kept before they are counted: 16 MB."""


def counts_classes(metric: Any) -> bool:
    """Return whether a torchmetrics metric only counts classes, over all samples alike.

    Multiclass accuracy, F1, precision, recall, the confusion matrix and the like do. Binary and multilabel ones do
    not: whether they take a batch for probabilities or for logits depends on all that is in it.
    """
    from torchmetrics.classification import MulticlassConfusionMatrix, MulticlassStatScores  # noqa: PLC0415 - it is a metric's

    stock = (MulticlassConfusionMatrix.update, MulticlassStatScores.update)
    return (
        getattr(type(metric), "update", None) in stock
        and getattr(metric, "top_k", 1) == 1
        and getattr(metric, "multidim_average", "global") == "global"
    )


class ClassCounts:
    """What waits to be counted.

    Args:
        metric: What counts; one of those of which ``counts_classes`` says so.
    """

    def __init__(self, metric: Any) -> None:
        self._metric = metric
        self._known: tuple[Any, ...] | None = None
        self.clear()

    def clear(self) -> None:
        """Forget what waits."""
        self._classes: list[Tensor] = []
        self._labels: list[Tensor] = []
        self._held = 0

    def add(self, output: Any, target: Any) -> None:
        """Take the scores ``(B, C, ...)`` and the labels ``(B, ...)`` of a batch; anything else is counted at once.

        The first batch of its kind is counted at once too: torchmetrics checks its shapes.
        """
        kind = _kind(output, target)
        if kind is None or kind != self._known:
            self.count()
            self._metric.update(output, target)
            self._known = kind
            return
        self._classes.append(output.argmax(1))
        self._labels.append(target.clone())  # a loader may fill the same memory again
        self._held += target.numel()
        if self._held >= _LIMIT:
            self.count()

    def count(self) -> None:
        """Count what waits."""
        if self._held:
            classes, labels = torch.cat(self._classes), torch.cat(self._labels)
            self.clear()
            self._count(classes, labels)

    def _count(self, classes: Tensor, labels: Tensor) -> None:
        """Count. Where the labels are in range torchmetrics need not sort them to see it: that is most of its time."""
        metric, checks = self._metric, self._metric.validate_args
        low, high = labels.aminmax()
        metric.validate_args = checks and not (low >= 0 and high < (metric.num_classes or 0))
        try:
            metric.update(classes, labels)
        finally:
            metric.validate_args = checks


def _kind(output: Any, target: Any) -> tuple[Any, ...] | None:
    """Return what batches must share to be counted together, or None if these are no scores and labels."""
    if isinstance(output, Tensor) and isinstance(target, Tensor) and output.ndim == target.ndim + 1:
        return output.shape[1:], output.dtype, output.device, target.dtype, target.device
    return None
