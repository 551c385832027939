"""What a run measures: one weighted mean, and torchmetrics, Ignite metrics and plain functions behind one protocol.

The means are float32 sums on the device of the values, the batch size their weight, read once at the end of a stage:
neither backend's own averaging gives that (Lightning's ``self.log`` costs a millisecond a step, Ignite's ``Loss`` sums
in double and its ``Average`` is unweighted).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from numbers import Real
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import torch
from torch import Tensor

from unitrain.errors import SpecError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

MetricLike: TypeAlias = Any
"""A torchmetrics metric, an ``ignite.metrics`` metric, a name, or ``function(output, target) -> value``."""

LOSS = "loss"

_NAMED: dict[str, str] = {
    "accuracy": "Accuracy",
    "auroc": "AUROC",
    "average_precision": "AveragePrecision",
    "cohen_kappa": "CohenKappa",
    "f1": "F1Score",
    "jaccard": "JaccardIndex",
    "precision": "Precision",
    "recall": "Recall",
    "specificity": "Specificity",
    "explained_variance": "ExplainedVariance",
    "mae": "MeanAbsoluteError",
    "mse": "MeanSquaredError",
    "pearson": "PearsonCorrCoef",
    "r2": "R2Score",
    "spearman": "SpearmanCorrCoef",
}
_REGRESSION = frozenset({"explained_variance", "mae", "mse", "pearson", "r2", "spearman"})
_TASKS = {"num_classes": "multiclass", "num_labels": "multilabel"}


def metric(name: str, **options: Any) -> Any:
    """Return a torchmetrics metric by its short name.

    The task of a classification metric follows from its options: ``num_classes`` means multiclass, ``num_labels``
    multilabel, neither binary. All further options are torchmetrics' own.

    Args:
        name: One of ``accuracy``, ``f1``, ``precision``, ``recall``, ``auroc``, ``mse``, ``mae``, ``r2`` and more.
        **options: Passed to the torchmetrics class.

    Raises:
        SpecError: If the name is unknown or torchmetrics refuses the options.

    Example:
        >>> metric("f1", num_classes=10)
        MulticlassF1Score()
    """
    import torchmetrics  # noqa: PLC0415 - only those who use a metric pay for the import

    if name not in _NAMED:
        raise SpecError(f"metric() does not know {name!r}.", hint=did_you_mean(name, _NAMED))
    if name not in _REGRESSION and "task" not in options:
        options["task"] = next((task for option, task in _TASKS.items() if option in options), "binary")
    try:
        return getattr(torchmetrics, _NAMED[name])(**options)
    except (TypeError, ValueError) as error:
        raise SpecError(
            f"metric({name!r}) could not be made: {error}",
            hint="pass num_classes= or num_labels=, or give the torchmetrics object itself.",
        ) from error


class Mean:
    """A weighted mean: Σ(value·weight) / Σweight, summed in float32 on the values' device, with no host sync."""

    __slots__ = ("_total", "_weight")

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self._total: Tensor | None = None
        self._weight = 0

    def add(self, value: Tensor | float, weight: int) -> None:
        """Add a value, usually the mean of a batch, with its weight, usually the batch size."""
        value = value.detach() if isinstance(value, Tensor) else torch.tensor(value, dtype=torch.float32)
        term = value.float() * weight
        self._total = term if self._total is None else self._total.to(term.device) + term
        self._weight += weight

    def compute(self) -> float | None:
        """Return the mean, or None if nothing was added."""
        return None if self._total is None else (self._total / self._weight).item()


class StageMetric(Protocol):
    """A metric of one stage, whatever library it came from."""

    def reset(self, device: torch.device) -> None:
        """Start a new epoch on ``device``."""

    def update(self, output: Any, target: Any, weight: int) -> None:
        """Take one batch."""

    def compute(self) -> Any:
        """Return the value: a scalar, or a mapping of names to scalars."""


class _Torchmetric:
    def __init__(self, metric: Any) -> None:
        self._metric = metric

    def reset(self, device: torch.device) -> None:
        self._metric.to(device)
        self._metric.reset()

    def update(self, output: Any, target: Any, weight: int) -> None:  # noqa: ARG002 - it counts samples by itself
        self._metric.update(output, target)

    def compute(self) -> Any:
        return self._metric.compute()


class _IgniteMetric:
    """Calls what Ignite's engine would call, so that ``output_transform`` and the like keep their meaning."""

    def __init__(self, metric: Any) -> None:
        self._metric = metric
        self._engine = SimpleNamespace(state=SimpleNamespace(output=None))

    def reset(self, device: torch.device) -> None:  # noqa: ARG002 - an Ignite metric is made for its device
        self._metric.reset()

    def update(self, output: Any, target: Any, weight: int) -> None:  # noqa: ARG002 - it counts samples by itself
        self._engine.state.output = (output, target)
        self._metric.iteration_completed(self._engine)
        self._engine.state.output = None

    def compute(self) -> Any:
        return self._metric.compute()


class _Function:
    def __init__(self, name: str, function: Callable[[Any, Any], Tensor | float]) -> None:
        self._name = name
        self._function = function
        self._mean = Mean()

    def reset(self, device: torch.device) -> None:  # noqa: ARG002 - the mean follows its values
        self._mean.reset()

    def update(self, output: Any, target: Any, weight: int) -> None:
        with torch.no_grad():
            self._mean.add(as_number(self._name, self._function(output, target)), weight)

    def compute(self) -> float | None:
        return self._mean.compute()


_LIBRARIES: dict[str, type[_Torchmetric | _IgniteMetric]] = {
    "torchmetrics": _Torchmetric,
    "ignite": _IgniteMetric,
}


def stage_metric(name: str, given: MetricLike) -> StageMetric:
    """Return a fresh copy of the metric ``given`` under ``name``, for one stage.

    Raises:
        SpecError: If it is none of the accepted kinds.
    """
    if isinstance(given, str):
        given = metric(given)
    # By the package of its class: neither library is imported here, and an Ignite metric answers any hasattr with yes.
    if not isinstance(given, type):
        for cls in type(given).__mro__:
            wrap = _LIBRARIES.get(cls.__module__.partition(".")[0])
            if wrap is not None:
                return wrap(copy.deepcopy(given))
    if callable(given) and not isinstance(given, type):
        return _Function(name, given)
    raise SpecError(
        f"the metric {name!r} must be a torchmetrics or ignite.metrics object, a name, or function(output, target);"
        f" got {given!r}, a {type(given).__name__}.",
        hint='metrics={"acc": metric("accuracy", num_classes=10)}',
    )


class StageMeter:
    """Everything one stage measures in an epoch, under its prefix: the loss, the logged values, the metrics.

    Args:
        prefix: ``"train"``, ``"val"`` or ``"test"``.
        metrics: The spec's metrics by name; the meter works on copies.
    """

    def __init__(self, prefix: str, metrics: Mapping[str, MetricLike]) -> None:
        self.prefix = prefix
        self._metrics = {name: stage_metric(name, given) for name, given in metrics.items()}
        self._measured = list(self._metrics.values())
        self._reserved = reserved(prefix, metrics)
        self._loss = Mean()
        self._logged: dict[str, Mean] = {}
        self._updated = False

    def reset(self, device: torch.device) -> None:
        """Start an epoch."""
        self._loss.reset()
        self._logged.clear()
        self._updated = False
        for measured in self._measured:
            measured.reset(device)

    def add_loss(self, loss: Tensor, weight: int) -> None:
        """Take the loss of a batch of ``weight`` samples."""
        self._loss.add(loss, weight)

    def add_output(self, output: Any, target: Any, weight: int) -> None:
        """Take what the model gave and what it should have given for a batch, ``weight`` samples."""
        if self._measured:
            self._updated = True
            output = detached(output)
            for measured in self._measured:
                measured.update(output, target, weight)

    def add_values(self, values: Mapping[str, Tensor | float], weight: int) -> None:
        """Take further values of a batch, each under its name.

        Raises:
            SpecError: If a value has the name of a metric or is not a number.
        """
        for name, value in values.items():
            self.log(name, value, weight)

    def log(self, name: str, value: Tensor | float, weight: int) -> None:
        """Take one value of a batch under ``name``."""
        mean = self._logged.get(name)
        if mean is None:
            if full_name(self.prefix, name) in self._reserved:
                raise clash(full_name(self.prefix, name))
            mean = self._logged[name] = Mean()
        mean.add(as_number(name, value), weight)

    def compute(self) -> dict[str, float]:
        """Return all values of the epoch under their full names; what was never fed is left out."""
        found: dict[str, float] = {}
        for name, value in self._computed():
            full = full_name(self.prefix, name)
            if full in found:
                raise clash(full)
            if value is not None:
                found[full] = float(value)
        return found

    def _computed(self) -> Iterator[tuple[str, Any]]:
        yield LOSS, self._loss.compute()
        for name, mean in self._logged.items():
            yield name, mean.compute()
        for name, measured in self._metrics.items() if self._updated else ():
            yield from _scalars(name, measured.compute())


def full_name(prefix: str, name: str) -> str:
    """Return ``prefix/name``; a name that has a slash stays as it is."""
    return name if "/" in name else f"{prefix}/{name}"


def reserved(prefix: str, metrics: Iterable[str]) -> frozenset[str]:
    """Return the full names that a stage measures by itself, so that nothing else may be logged under them."""
    return frozenset(full_name(prefix, name) for name in (LOSS, *metrics))


def clash(name: str) -> SpecError:
    """Return the error for two values under one name."""
    return SpecError(
        f"{name!r} is measured by the spec, and something else has the same name.", hint="rename one of them."
    )


def as_number(name: str, value: Any) -> Any:
    """Return ``value`` if it is one number.

    Raises:
        SpecError: If it is not.
    """
    if isinstance(value, Tensor) and value.numel() == 1:
        return value.reshape(())
    if isinstance(value, Real):
        return float(value)
    shown = f"a tensor of shape {tuple(value.shape)}" if isinstance(value, Tensor) else repr(value)
    raise SpecError(
        f"the logged value {name!r} must be one number, got {shown}.", hint="reduce it first, as by .mean()."
    )


def detached(output: Any) -> Any:
    """Return ``output`` without its graph, through the usual containers."""
    if isinstance(output, Tensor):
        return output.detach()
    if isinstance(output, Mapping):
        return {key: detached(item) for key, item in output.items()}
    if type(output) in (tuple, list):
        return type(output)(detached(item) for item in output)
    return output


def _scalars(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Yield the scalars of a metric's value; a vector becomes ``name_0``, ``name_1`` and so on."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _scalars(f"{name}_{key}", item)
    elif isinstance(value, Tensor) and value.ndim == 1 and value.numel() > 1:
        for index, item in enumerate(value.tolist()):
            yield f"{name}_{index}", item
    else:
        yield name, as_number(name, value)
