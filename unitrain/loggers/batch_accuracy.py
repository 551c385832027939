"""The accuracy of one training batch, by the metric that a spec measures over the epoch."""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING, Any

import torch

from unitrain.metrics.metric import is_number, stage_metric

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from unitrain.distributed.collectives import Collectives
    from unitrain.metrics.metric import MetricLike

_WORDS = frozenset({"acc", "accuracy"})


@cache
def means_accuracy(name: str) -> bool:
    """Return whether a name says that its value is an accuracy: ``acc``, ``train/accuracy``, ``top1_acc``."""
    return not _WORDS.isdisjoint(re.split(r"[^a-z]+", name.lower()))


def accuracy_in(values: Mapping[str, Any]) -> float | None:
    """Return the first number among named values of a batch whose name says accuracy."""
    return next((float(value) for name, value in values.items() if means_accuracy(name) and is_number(value)), None)


class BatchAccuracy:
    """Measures single batches with a copy of the first of the spec's metrics that has a single number for them.

    Args:
        metrics: The metrics that may be an accuracy, by name.
    """

    def __init__(self, metrics: Iterable[tuple[str, MetricLike]]) -> None:
        self._metrics = [stage_metric(name, given) for name, given in metrics]
        for one in self._metrics:
            _stay_alone(one.given)

    def __call__(self, output: Any, target: Any) -> float | None:
        """Return the accuracy of a batch; None if no metric has a single number for it."""
        from unitrain.distributed.collectives import SINGLE_PROCESS  # noqa: PLC0415 - beside its only use

        device = output.device if isinstance(output, torch.Tensor) else torch.device("cpu")
        while self._metrics:
            first = self._metrics[0]
            with torch.no_grad():
                first.reset(device)
                first.update(output, target, 1)
                value = first.compute(SINGLE_PROCESS)
            if is_number(value):
                return float(value)
            del self._metrics[0]  # such as one number for each class
        return None


def _stay_alone(given: Any) -> None:
    """Keep a torchmetrics metric, and those within it, from gathering: only rank 0 reports, so it would wait for ever.

    The constructor has copied ``sync_on_compute`` to ``_to_sync``, which ``compute`` reads.
    """
    one: Any  # the options of a metric are no attributes of a module to type checkers
    for one in given.modules() if isinstance(given, torch.nn.Module) else ():
        if hasattr(one, "sync_on_compute"):
            one.sync_on_compute = one._to_sync = False  # noqa: SLF001 - no public way once it is made
            one.distributed_available_fn = _nowhere


def _nowhere() -> bool:
    return False


def accuracy_of(metrics: Mapping[str, MetricLike], team: Collectives) -> BatchAccuracy | None:
    """Return what measures the accuracy of a batch: the metrics that are one by their name or class; None without any.

    Args:
        metrics: The spec's metrics.
        team: The processes of the run. Ignite's metrics always reduce over all processes, so with several they are not
            asked for single batches.
    """
    found = [(name, one) for name, one in _candidates(metrics) if _alone(one, team)]
    return BatchAccuracy(found) if found else None


def _candidates(metrics: Mapping[str, MetricLike]) -> Iterable[tuple[str, MetricLike]]:
    for name, given in metrics.items():
        kind = given if isinstance(given, str) else type(given).__name__
        if means_accuracy(name) or "accuracy" in kind.lower():
            yield name, given


def _alone(given: MetricLike, team: Collectives) -> bool:
    """Return whether a metric can measure on one process; one of Ignite has any attribute, says ``hasattr``."""
    return team.size == 1 or isinstance(given, torch.nn.Module) or not hasattr(given, "compute")
