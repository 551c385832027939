"""Metrics of torchmetrics that only count classes, fed once per epoch instead of once per batch.

An update costs torchmetrics 60 microseconds and a wait for the device, for it looks at the labels; a whole step of a
small model costs twice as much. A count does not depend on how its samples are parted into batches: the sums are
integers. So the predicted classes and the labels of many batches are kept, and counted together; in the host's memory
as NumPy arrays, for a small tensor costs more than what is done with it.
"""

from __future__ import annotations

import inspect
import re
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, distributed

if TYPE_CHECKING:
    from collections.abc import Callable

    from unitrain.distributed.collectives import Collectives

_WHOLE = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
_REAL = (torch.float32, torch.float64)
_ROWS = 2
"""The dimensions of the scores of a batch, one row per sample; NumPy is slow if the classes are not last."""

_LIMIT = 2**20
"""How many labels are buffered before they are counted: 16 MB."""


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
    """A metric that counts classes, with the batches that wait to be counted.

    Args:
        metric: A metric for which ``counts_classes`` is true.
    """

    def __init__(self, metric: Any) -> None:
        self._metric = metric
        self._function = _function_of(metric)
        self._is_share = self._function is not None and _is_share_of_right(metric)
        self._known: tuple[Any, ...] | None = None
        self._in_arrays = False
        self._fed = True
        self._forget()

    def reset(self) -> None:
        """Forget everything."""
        if self._fed:
            self._metric.reset()
        self._fed = False
        self._forget()

    def _forget(self) -> None:
        self._classes: list[Any] = []
        self._labels: list[Any] = []
        self._held = 0

    def add(self, output: Any, target: Any) -> None:
        """Take the scores ``(B, C, ...)`` and the labels ``(B, ...)`` of a batch; anything else is counted at once.

        The first batch of its kind is counted at once too: torchmetrics checks its shapes.
        """
        kind = _kind(output, target)
        if kind is None or kind != self._known:
            self.count()
            self._fed = True
            self._metric.update(output, target)
            self._known, self._in_arrays = kind, kind is not None and _fit_numpy(output, target)
            return
        # labels are copied: a loader may fill the same memory again
        if self._in_arrays:
            self._classes.append(output.numpy().argmax(1))
            self._labels.append(target.numpy().copy())
        else:
            self._classes.append(output.argmax(1))
            self._labels.append(target.clone())
        self._held += target.numel()
        if self._held >= _LIMIT:
            self.count()

    def count(self) -> None:
        """Count what waits, into the metric's own state."""
        if not self._held:
            return
        classes, labels = _joined(self._classes), _joined(self._labels)
        self._forget()
        metric, checks = self._metric, self._metric.validate_args
        self._fed, metric.validate_args = True, checks and not self._in_range(labels)
        try:
            metric.update(classes, labels)
        finally:
            metric.validate_args = checks

    def compute(self, team: Collectives) -> Any:
        """Return the value over all processes."""
        if self._function is None or self._fed or not self._held or _gathers(team):
            self.count()
            return self._metric.compute()
        if self._is_share and self._in_arrays:
            return self._share_of_right()
        classes, labels = _joined(self._classes), _joined(self._labels)
        checks = self._metric.validate_args and not self._in_range(labels)
        return self._function(classes, labels, validate_args=checks)

    def _share_of_right(self) -> Any:
        """Return the share of right classes as torchmetrics does, a quotient in float32, in a sixth of its time."""
        import numpy as np  # noqa: PLC0415 - torchmetrics', as the metric is

        classes, labels = np.concatenate(self._classes), np.concatenate(self._labels)
        if self._metric.validate_args and (labels.min() < 0 or labels.max() >= self._metric.num_classes):
            return self._function(*map(torch.from_numpy, (classes, labels)))  # type: ignore[misc] # it says what is wrong
        return float(np.float32(np.count_nonzero(classes == labels)) / np.float32(labels.size))

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the metric's own state."""
        self._fed = True
        self._metric.load_state_dict(state)

    def _in_range(self, labels: Tensor) -> bool:
        """Return whether all are classes; then torchmetrics need not sort them to see it, which takes it longest."""
        if labels.dtype not in _WHOLE:
            return False
        low, high = labels.aminmax()
        return bool(low >= 0 and high < (self._metric.num_classes or 0))


def _function_of(metric: Any) -> Callable[..., Any] | None:
    """Return torchmetrics' own function that does at once what ``metric`` does from reset to compute, if it has one.

    It is one of the same name, and its arguments are the metric's attributes. It writes no attribute of the metric,
    which for a torch module takes five calls each: 10% of an epoch of five batches.
    """
    from torchmetrics.functional import classification  # noqa: PLC0415 - it is a metric's

    name = re.sub(r"(?<!^)(?=[A-Z])", "_", type(metric).__name__).lower()
    function = getattr(classification, name, None)
    own = not type(metric).__module__.startswith("torchmetrics.")
    if function is None or own or any(state.is_floating_point() for state in metric.state_dict().values()):
        return None  # set_dtype() makes the state double, and so the value
    wanted = inspect.signature(function).parameters.keys() - {"preds", "target", "validate_args"}
    arguments = {name: getattr(metric, name) for name in wanted if hasattr(metric, name)}
    return partial(function, **arguments) if len(arguments) == len(wanted) else None


def _is_share_of_right(metric: Any) -> bool:
    """Return whether a metric is the number of right classes by the number of samples."""
    from torchmetrics.classification import MulticlassAccuracy  # noqa: PLC0415 - it is a metric's

    return type(metric) is MulticlassAccuracy and (metric.average, metric.ignore_index) == ("micro", None)


def _gathers(team: Collectives) -> bool:
    """Return whether a metric's value is one over several processes; torchmetrics looks for torch's group itself."""
    return team.size > 1 or (distributed.is_available() and distributed.is_initialized())


def _kind(output: Any, target: Any) -> tuple[Any, ...] | None:
    """Return the properties that batches counted together must share, or None if these are not scores and labels."""
    if isinstance(output, Tensor) and isinstance(target, Tensor) and output.ndim == target.ndim + 1:
        return type(output), type(target), output.shape[1:], output.dtype, target.dtype, output.is_cpu, target.is_cpu
    return None


def _fit_numpy(output: Tensor, target: Tensor) -> bool:
    """Return whether NumPy finds the same classes; it takes between a sixth and a half of torch's time."""
    plain = type(output) is type(target) is Tensor and output.is_cpu and target.is_cpu
    return plain and output.ndim == _ROWS and output.dtype in _REAL and target.dtype in _WHOLE


def _joined(kept: list[Any]) -> Tensor:
    if isinstance(kept[0], Tensor):
        return torch.cat(kept)
    import numpy as np  # noqa: PLC0415 - torchmetrics', as the metric is

    return torch.from_numpy(np.concatenate(kept))
