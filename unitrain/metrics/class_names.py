"""Class names of metrics with vector or matrix values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from unitrain.errors import SpecError

if TYPE_CHECKING:
    from collections.abc import Sequence

_FEWEST = 2
_HINT = 'metric("f1", class_names=["cat", "dog", "owl"])'
_PARTS: Final = {
    "PrecisionRecallCurve": ("precision", "recall", "thresholds"),
    "ROC": ("fpr", "tpr", "thresholds"),
}
"""The parts of a curve, by the suffix of its class name."""


@dataclass(frozen=True)
class PerClass:
    """A metric and the names of its classes; created by ``per_class`` and ``metric(..., class_names=)``.

    Attributes:
        metric: The metric.
        class_names: The names, in the order of the values.
    """

    metric: Any
    class_names: tuple[str, ...]


class Shape(NamedTuple):
    """The names of a metric's values.

    Attributes:
        class_names: Names of the classes, if they have any.
        parts: Names of the tensors, if it is a curve.
    """

    class_names: tuple[str, ...] | None = None
    parts: tuple[str, ...] | None = None


def per_class(metric: Any, class_names: Sequence[str]) -> PerClass:
    """Return a metric whose values are named after its classes: ``val/f1_cat`` instead of ``val/f1_0``.

    The figure of a confusion matrix also shows the names at its axes.

    Args:
        metric: A torchmetrics or Ignite metric with one value per class, as with ``average=None``, or a matrix.
        class_names: One name per class, in order.

    Returns:
        The metric, for ``TrainSpec(metrics=...)``.

    Raises:
        SpecError: If the names are not distinct strings, or the metric has another number of classes or averages over
            them.

    Example:
        >>> from torchmetrics.classification import MulticlassRecall
        >>> per_class(MulticlassRecall(2, average=None), ["cat", "dog"]).class_names
        ('cat', 'dog')
    """
    names = checked_names(class_names)
    held = vars(metric) if hasattr(metric, "__dict__") else {}
    count = held.get("num_classes") or held.get("num_labels")
    if isinstance(count, int) and count != len(names):
        raise SpecError(
            f"class_names= has {len(names)} names, but {type(metric).__name__} has {count} classes.",
            hint=f"pass {count} names.",
        )
    if isinstance(held.get("average"), str) and held["average"] != "none":
        raise SpecError(
            f"class_names= has no effect: {type(metric).__name__}(average={held['average']!r}) returns a single"
            f" number.",
            hint="average=None",
        )
    return PerClass(metric, names)


def checked_names(class_names: Sequence[str]) -> tuple[str, ...]:
    """Return names of classes.

    Raises:
        SpecError: If they are not at least two distinct strings.
    """
    names = () if isinstance(class_names, str) else tuple(class_names)
    if len(names) < _FEWEST or not all(map(_is_name, names)) or len({*names}) < len(names):
        raise SpecError(
            f"class_names= must be at least two different strings without a slash; got {class_names!r}.", hint=_HINT
        )
    return names


def _is_name(name: object) -> bool:
    return isinstance(name, str) and bool(name) and "/" not in name


def unwrapped(given: Any) -> Any:
    """Return the metric itself."""
    return given.metric if isinstance(given, PerClass) else given


def logged_names(name: str, given: Any) -> tuple[str, ...]:
    """Return the prefixes of a metric's scalar names; none if it only returns tensors."""
    kind = type(unwrapped(given)).__name__
    if kind.endswith(("ConfusionMatrix", *_PARTS)):
        return ()
    return tuple(f"{name}_{one}" for one in given.class_names) if isinstance(given, PerClass) else (name,)


def shape_of(given: Any) -> Shape:
    """Return the names of a metric's values."""
    names = given.class_names if isinstance(given, PerClass) else None
    kind = type(unwrapped(given)).__name__
    return Shape(names, next((parts for ending, parts in _PARTS.items() if kind.endswith(ending)), None))
