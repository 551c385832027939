"""Old and current torchmetrics and Ignite names for the short names of ``metric()``."""

from __future__ import annotations

import copy
import re
import sys
from contextlib import nullcontext
from importlib import import_module
from typing import TYPE_CHECKING, Any

from packaging.version import Version

from unitrain.compat.blocked import installed
from unitrain.compat.differences import difference
from unitrain.compat.setuptools import pkg_resources_there
from unitrain.errors import SpecError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

NAMED: dict[str, str] = {
    "accuracy": "Accuracy",
    "auroc": "AUROC",
    "average_precision": "AveragePrecision",
    "cohen_kappa": "CohenKappa",
    "confusion_matrix": "ConfusionMatrix",
    "f1": "F1Score",
    "jaccard": "JaccardIndex",
    "precision": "Precision",
    "precision_recall_curve": "PrecisionRecallCurve",
    "recall": "Recall",
    "roc": "ROC",
    "specificity": "Specificity",
    "explained_variance": "ExplainedVariance",
    "mae": "MeanAbsoluteError",
    "mse": "MeanSquaredError",
    "pearson": "PearsonCorrCoef",
    "r2": "R2Score",
    "spearman": "SpearmanCorrCoef",
}
REGRESSION = frozenset({"explained_variance", "mae", "mse", "pearson", "r2", "spearman"})
CURVES = frozenset({"confusion_matrix", "precision_recall_curve", "roc"})
AVERAGED = frozenset(NAMED) - REGRESSION - CURVES - {"cohen_kappa"}
"""Classes by short name, and which are for regression, return more than numbers or average over classes."""

_REMEMBERED = ("min_val", "max_val", "_num_vals_seen")
"""State of MinMaxMetric and Running that their ``state_dict`` lacks."""

_0_11 = "https://github.com/Lightning-AI/torchmetrics/releases/tag/v0.11.0"
_TASK = re.compile(r"(binary|multiclass|multilabel)(?=[A-Za-z])", re.IGNORECASE)
_TASKS = {"multiclass": ", num_classes=", "multilabel": ", num_labels=", "binary": ""}

_OTHERS = {
    "acc": 'metric("accuracy", num_classes=)',
    "prec": 'metric("precision", num_classes=)',
    "rec": 'metric("recall", num_classes=)',
    "cm": 'metric("confusion_matrix", num_classes=)',
    "ap": 'metric("average_precision", num_classes=)',
    "map": 'metric("average_precision", num_classes=)',
    "kappa": 'metric("cohen_kappa", num_classes=)',
    "l1": 'metric("mae")',
    "l2": 'metric("mse")',
    "fbeta": 'metric("f1"); for another beta, pass torchmetrics.FBetaScore(task=..., beta=...).',
    "fbetascore": 'metric("f1"); for another beta, pass torchmetrics.FBetaScore(task=..., beta=...).',
    "iou": 'metric("jaccard")',
    "miou": 'metric("jaccard")',
    "pearsoncorrcoef": 'metric("pearson")',
    "pearsoncorrcoeff": 'metric("pearson")',
    "spearmancorrcoef": 'metric("spearman")',
    "r2score": 'metric("r2")',
    "rocauc": 'metric("auroc")',
    "auc": 'metric("auroc")',
    "rootmeansquarederror": 'metric("mse", squared=False)',
    "rmse": 'metric("mse", squared=False)',
    "topkcategoricalaccuracy": 'metric("accuracy", num_classes=, top_k=)',
    "hammingdistance": "pass torchmetrics.HammingDistance(task=...).",
}
"""Keyed by lower-case name without separators."""

_OPTIONS = {
    "compute_on_step": "remove it: metrics are computed at the end of an epoch.",
    "mdmc_average": "multidim_average=",
    "mdmc_reduce": "multidim_average=",
    "multiclass": 'task="binary" or task="multiclass"',
    "is_multilabel": "num_labels=, or task=",
    "device": "remove it: the metric follows the device of its batches.",
    "output_transform": "pass the ignite.metrics object itself.",
}
"""Options that torchmetrics and Ignite removed, or that only Ignite has."""


@difference(
    "torchmetrics", since="1.0", drop="1.0", link="https://github.com/Lightning-AI/torchmetrics/releases/tag/v1.0.0"
)
def torchmetrics() -> Any:
    """Import torchmetrics; before 1.0 it requires ``pkg_resources``, which was removed."""
    if "torchmetrics" in sys.modules:  # to look for its release takes milliseconds
        return sys.modules["torchmetrics"]
    old = any(Version(one) < Version("1.0") for one in installed("torchmetrics"))
    with pkg_resources_there() if old else nullcontext():
        return import_module("torchmetrics")


@difference("torchmetrics", since="0.11", drop="1.0", link=_0_11)
def new_name(given: str, known: Mapping[str, str]) -> str | None:
    """Return the ``metric()`` spelling for a current or old class name of torchmetrics or Ignite, or None.

    Since 0.11 the task is an option, not part of the name; ``F1`` is ``F1Score``, ``IoU`` is ``JaccardIndex``.

    Args:
        given: The requested name.
        known: The torchmetrics class by short name.
    """
    task = _TASK.match(given)
    plain = _plain(given[task.end() :] if task else given)
    options = _TASKS[task.group().lower()] if task else ""
    short = next((name for name, cls in known.items() if plain in (_plain(name), _plain(cls))), None)
    return _OTHERS.get(plain) if short is None else f'metric("{short}"{options})'


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


@difference("torchmetrics", since="0.11", drop="1.0", link=_0_11)
def refuse_old_options(name: str, options: Iterable[str]) -> None:
    """Refuse an option that metrics took in older releases, and name its replacement.

    Raises:
        SpecError: If there is one; the message names the first.
    """
    for option in options:
        if option in _OPTIONS:
            raise SpecError(f"metric({name!r}) no longer takes {option}=.", hint=_OPTIONS[option])


def refuse_tracker(metric: Any) -> None:
    """Refuse a MetricTracker, which requires a call per epoch.

    Raises:
        SpecError: If ``metric`` is one.
    """
    if type(metric).__name__ == "MetricTracker":
        raise SpecError(
            "a MetricTracker stores the values of all epochs itself.",
            hint="pass its inner metric; FitResult.history and trackers have the values of all epochs.",
        )


def make_persistent(metric: Any) -> None:
    """Include a metric's state in its ``state_dict``; wrappers do not do so for their inner metrics."""
    for one in metric.modules():
        if hasattr(one, "persistent"):
            one.persistent(mode=True)


def memory(metric: Any) -> dict[str, Any]:
    """Return a metric's data outside of its states, by name."""
    return {
        f"{path}:{name}": copy.deepcopy(vars(one)[name])
        for path, one in metric.named_modules()
        for name in _REMEMBERED
        if name in vars(one)
    }


def remember(metric: Any, kept: Mapping[str, Any]) -> None:
    """Restore the state returned by ``memory``."""
    modules = dict(metric.named_modules())
    for full, value in kept.items():
        path, _, name = full.partition(":")
        if name in vars(modules.get(path, metric)):  # else another metric bears the name now
            setattr(modules.get(path, metric), name, value)
