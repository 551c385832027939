"""One metric protocol for weighted means, torchmetrics, Ignite metrics and plain functions.

The means are float32 sums on the device of the values, the batch size their weight, read once at the end of a stage:
neither backend's own averaging gives that (Lightning's ``self.log`` costs a millisecond per step, Ignite's ``Loss``
sums in double and its ``Average`` is unweighted).
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Mapping
from ctypes import c_float
from functools import reduce
from numbers import Real
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, cast

import torch
from torch import Tensor

from unitrain.compat import torchmetrics as library
from unitrain.compat.torchmetrics import new_name, refuse_old_options, torchmetrics
from unitrain.distributed.collectives import SINGLE_PROCESS
from unitrain.errors import SpecError, did_you_mean
from unitrain.metrics.class_counts import ClassCounts, counts_classes
from unitrain.metrics.class_names import checked_names, per_class, unwrapped
from unitrain.utilities.copies import copied
from unitrain.utilities.plugins import METRICS, entries, loaded, packages_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from unitrain.distributed.collectives import Collectives

MetricLike: TypeAlias = Any
"""A torchmetrics metric, an ``ignite.metrics`` metric, a name, or ``function(output, target) -> value``."""

LOSS = "loss"

_TASKS = {"num_classes": "multiclass", "num_labels": "multilabel"}


def metric(name: str, *, class_names: Sequence[str] | None = None, **options: Any) -> Any:
    """Return a torchmetrics metric by its short name.

    ``num_classes`` makes a classification metric multiclass, ``num_labels`` multilabel; without them it is binary.

    Args:
        name: One of ``accuracy``, ``f1``, ``precision``, ``recall``, ``auroc``, ``mse``, ``mae``, ``r2`` and more;
            tensors (``confusion_matrix``, ``roc``) are in ``FitResult.tensors``, and trackers get figures.
        class_names: Names of the classes, to measure each class separately: ``val/f1_cat``; see ``per_class``.
        **options: Passed to the torchmetrics class.

    Returns:
        The torchmetrics object; with ``class_names``, what ``per_class`` makes of it.

    Raises:
        SpecError: If the name is unknown or torchmetrics refuses the options.

    Example:
        >>> metric("f1", num_classes=10)
        MulticlassF1Score()
    """
    if name not in library.NAMED:
        raise SpecError(
            f"metric() does not know {name!r}.", hint=new_name(name, library.NAMED) or did_you_mean(name, library.NAMED)
        )
    refuse_old_options(name, options)
    if class_names is not None:
        _for_each_class(name, class_names, options)
    if name not in library.REGRESSION and "task" not in options:
        options["task"] = next((task for option, task in _TASKS.items() if option in options), "binary")
    try:
        made = getattr(torchmetrics(), library.NAMED[name])(**options)  # only those who use a metric pay for the import
    except (TypeError, ValueError) as error:
        raise SpecError(
            f"metric({name!r}) could not be created: {error}",
            hint="pass num_classes= or num_labels=, or the torchmetrics object itself.",
        ) from error
    return made if class_names is None else per_class(made, class_names)


def _for_each_class(name: str, class_names: Sequence[str], options: dict[str, Any]) -> None:
    """Set the options that class names imply: the number of classes, and no averaging."""
    if name not in library.CURVES | library.AVERAGED:
        raise SpecError(
            f"metric({name!r}, class_names=) has no effect: the metric is a single number.",
            hint=f"metric({name!r}, ...)",
        )
    if not options.keys() & {*_TASKS, "task"}:
        options["num_classes"] = len(checked_names(class_names))
    if name in library.AVERAGED:
        options.setdefault("average", None)


def float32(value: float) -> float:
    """Return ``value`` rounded to float32.

    A sum, product or quotient of two such numbers, rounded again, is bit-identical to torch's float32 result, because
    double is exact enough. Without tensors it takes a fifth of the time.
    """
    return c_float(value).value


class Mean:
    """A weighted mean: Σ(value·weight) / Σweight, summed in float32 where the values are, with no wait for a device.

    Values in host memory are summed by Python, which takes one microsecond instead of four and is bit-identical,
    because a product or sum of two float32 numbers in double can be rounded to float32 exactly.
    """

    __slots__ = ("_rounded", "_total", "_weight")

    def __init__(self) -> None:
        self._rounded = array("f", [0.0])
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self._total: Tensor | float | None = None
        self._weight = 0

    def add(self, value: Tensor | float, weight: int) -> None:
        """Add a value, usually the mean of a batch, with its weight, usually the batch size."""
        self._weight += weight
        if type(value) is Tensor and value.is_cpu and value.dtype is torch.float32:
            value = (value.detach() if value.requires_grad else value).numpy().item()
        total = self._total
        if isinstance(value, Tensor) or isinstance(total, Tensor):
            term = torch.as_tensor(value, dtype=torch.float32).detach() * weight
            self._total = term if total is None else torch.as_tensor(total, dtype=torch.float32).to(term.device) + term
            return
        rounded = self._rounded
        rounded[0] = value
        rounded[0] *= weight
        if total is not None:
            rounded[0] += total
        self._total = rounded[0]

    def state_dict(self) -> dict[str, Any]:
        """Return the sum and the weight."""
        total = self._total
        return {"total": torch.tensor(total) if isinstance(total, float) else total, "weight": self._weight}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state returned by ``state_dict``."""
        total = state["total"]
        host = isinstance(total, Tensor) and total.is_cpu
        self._total, self._weight = total.item() if host else total, state["weight"]

    @property
    def weighs(self) -> bool | None:
        """Whether any value has weight; None if there are no values. Non-finite values show in the mean."""
        return None if self._total is None else bool(self._weight) or float(self._total) != 0.0

    def compute(self, team: Collectives = SINGLE_PROCESS) -> float | None:
        """Return the mean over the values of all processes, or None if there are none.

        The sums are added in float32 in the order of ranks, so the value is bit-identical on all of them.
        """
        own = None if self._total is None else (float(self._total), self._weight)
        parts = [part for part in team.all_gather_object(own) if part is not None]
        if not parts:
            return None
        total = reduce(lambda one, other: float32(one + other), (part for part, _ in parts))
        weight = float32(sum(weight for _, weight in parts))
        return float32(total / (weight or math.nan))  # of batches without a sample, as torch has it


class StageMetric(Protocol):
    """A metric of one stage, from any library."""

    def reset(self, device: torch.device) -> None:
        """Start a new epoch on ``device``."""

    given: Any
    """The library object, or the function."""

    mean: Mean | None = None
    """What weighs its batches by their samples, if anything does."""

    def update(self, output: Any, target: Any, weight: int) -> None:
        """Add one batch."""

    def compute(self, team: Collectives) -> Any:
        """Return the value over all processes: a scalar, or a mapping of names to scalars."""

    def memory(self) -> dict[str, Any]:
        """Return what it keeps over epochs, for a checkpoint."""
        return {}

    def remember(self, kept: Mapping[str, Any]) -> None:  # noqa: ARG002 - most keep nothing
        """Restore the state returned by ``memory``."""
        return None  # noqa: RET501 - else it would be abstract

    def state_dict(self) -> dict[str, Any]:
        """Return what it has measured, for a checkpoint."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state returned by ``state_dict``."""


class LibraryMetric(StageMetric):
    """The shared part of library metrics, which count samples themselves and have a state.

    A package adds support for its metrics by an entry point in the group ``unitrain.metrics`` that names a subclass.
    Override the methods that its metrics spell differently.

    Args:
        metric: A copy of the user's, for one stage.
    """

    def __init__(self, metric: Any) -> None:
        self._metric = self.given = metric

    def reset(self, device: torch.device) -> None:  # noqa: ARG002 - an Ignite metric is made for its device
        """Begin an epoch."""
        self._metric.reset()

    def update(self, output: Any, target: Any, weight: int) -> None:  # noqa: ARG002 - it counts samples itself
        """Measure a batch."""
        self._metric.update(output, target)

    def compute(self, team: Collectives) -> Any:  # noqa: ARG002 - both libraries gather over torch's process group themselves
        """Return what was measured."""
        return self._metric.compute()

    def state_dict(self) -> dict[str, Any]:
        """Return what it has measured, for a checkpoint."""
        return dict(self._metric.state_dict())

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up what ``state_dict`` returned."""
        self._metric.load_state_dict(state)


class _Torchmetric(LibraryMetric):
    def __init__(self, metric: Any) -> None:
        super().__init__(metric)
        library.make_persistent(metric)
        self._device: torch.device | None = None

    def reset(self, device: torch.device) -> None:
        if device != self._device:  # to move it where it is costs more than to reset it
            self._metric.to(device)
            self._device = device
        self._clear()

    def _clear(self) -> None:
        self._metric.reset()

    def memory(self) -> dict[str, Any]:
        return library.memory(self._metric)

    def remember(self, kept: Mapping[str, Any]) -> None:
        library.remember(self._metric, kept)


class _Counting(_Torchmetric):
    """Counts the classes of many batches at once."""

    def __init__(self, metric: Any) -> None:
        super().__init__(metric)
        self._counts = ClassCounts(metric)

    def _clear(self) -> None:
        self._counts.reset()

    def update(self, output: Any, target: Any, weight: int) -> None:  # noqa: ARG002 - it counts samples itself
        self._counts.add(output, target)

    def compute(self, team: Collectives) -> Any:
        return self._counts.compute(team)

    def state_dict(self) -> dict[str, Any]:
        self._counts.count()
        return super().state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._counts.load_state_dict(state)


class _Function(StageMetric):
    def __init__(self, name: str, function: Callable[[Any, Any], Tensor | float]) -> None:
        self._name = name
        self._function = self.given = function
        self.mean: Mean = Mean()

    def reset(self, device: torch.device) -> None:  # noqa: ARG002 - the mean follows its values
        self.mean.reset()

    def update(self, output: Any, target: Any, weight: int) -> None:
        with torch.no_grad():
            self.mean.add(as_number(self._name, self._function(output, target)), weight)

    def compute(self, team: Collectives) -> float | None:
        return self.mean.compute(team)

    def state_dict(self) -> dict[str, Any]:
        return self.mean.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.mean.load_state_dict(state)


def _torchmetric(metric: Any) -> _Torchmetric:
    library.refuse_tracker(metric)
    return _Counting(metric) if counts_classes(metric) else _Torchmetric(metric)


def library_of(given: Any) -> Callable[[Any], StageMetric] | None:
    """Return the StageMetric factory for ``given``, by the package of its class; None if there is none.

    No library is imported here; note that an Ignite metric has any attribute according to ``hasattr``.
    """
    packages = packages_of(type(given))
    if "torchmetrics" in packages:
        return _torchmetric
    known = entries(METRICS)
    name = next((one for one in packages if one in known), None)
    return None if name is None else cast("Callable[[Any], StageMetric]", loaded(known[name]))


def stage_metric(name: str, given: MetricLike) -> StageMetric:
    """Return a fresh copy of the metric ``given`` under ``name``, for one stage.

    Raises:
        SpecError: If it is not of an accepted kind.
    """
    given = metric(given) if isinstance(given, str) else unwrapped(given)
    wrap = None if isinstance(given, type) else library_of(given)
    if wrap is not None:
        return wrap(copied(f"the metric {name!r}", given, "give it a __deepcopy__; each stage has a copy."))
    if callable(given) and not isinstance(given, type):
        return _Function(name, given)
    own = isinstance(given, type)
    example = f"{given.__name__}(...)" if own else 'metric("accuracy", num_classes=10)'
    got = f"the class {given.__name__} itself" if own else f"{given!r}, a {type(given).__name__}"
    raise SpecError(
        f"the metric {name!r} must be a torchmetrics or ignite.metrics object, a name, or function(output, target);"
        f" got {got}.",
        hint=f'metrics={{"acc": {example}}}; a package adds its own kind with an entry point in {METRICS!r}.',
    )


def full_name(prefix: str, name: str) -> str:
    """Return ``prefix/name``; a name with a slash is unchanged, and an empty one raises a SpecError."""
    if not isinstance(name, str) or not name:
        raise SpecError(f"the name of a logged value must be a string; got {name!r}.", hint='run.log("name", value)')
    return name if "/" in name else f"{prefix}/{name}"


def reserved(prefix: str, metrics: Iterable[str]) -> frozenset[str]:
    """Return the full names that a stage measures itself, under which nothing else may be logged."""
    return frozenset(full_name(prefix, name) for name in (LOSS, *metrics))


def clash(name: str) -> SpecError:
    """Return the error for two values under one name."""
    return SpecError(
        f"{name!r} is a metric of the spec, so it cannot be logged under the same name.", hint="rename one of them."
    )


def is_number(value: Any) -> bool:
    """Return whether ``value`` is one real number."""
    if isinstance(value, Tensor):
        return value.numel() == 1 and not value.is_complex()
    return isinstance(value, Real)


def as_number(name: str, value: Any) -> Any:
    """Return ``value`` if it is one real number, else raise a SpecError."""
    tensor = isinstance(value, Tensor)
    if tensor and value.numel() == 1 and not value.is_complex():  # as in is_number, whose call each batch would cost
        return value.reshape(()) if value.ndim else value
    if isinstance(value, Real):
        try:
            return float(value)
        except OverflowError as error:
            raise SpecError(f"the logged value {name!r} is too large: {error}.", hint="log its logarithm.") from error
    shown = f"a tensor of shape {tuple(value.shape)} and {value.dtype}" if tensor else repr(value)
    hint = "reduce it first, for example with .mean(); of a complex number, take .abs() or .real."
    raise SpecError(f"the logged value {name!r} must be a single number, got {shown}.", hint=hint)


def as_float32(value: Tensor | float) -> float:
    """Return ``value`` as a float32 number, read from its device."""
    return torch.as_tensor(value, dtype=torch.float32).item()


def detached(output: Any) -> Any:
    """Return ``output`` without its graph, through the usual containers."""
    if isinstance(output, Tensor):
        return output.detach() if output.requires_grad else output
    if isinstance(output, Mapping):
        return {key: detached(item) for key, item in output.items()}
    if type(output) in (tuple, list):
        return type(output)(detached(item) for item in output)
    return output
