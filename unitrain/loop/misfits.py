"""Error notes for models, losses and metrics that do not match a batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import is_dataclass
from typing import Any

from torch import Tensor

from unitrain.data.batch import describe
from unitrain.errors import SpecError, UnitrainError

_STEPS = "give TrainSpec(training_step=, validation_step=)"


def explain_misfit(error: Exception, inputs: Any, output: Any) -> None:
    """Add a note to an error of a default step, if the model's input or output is a structure.

    Args:
        error: The error of the model or the loss.
        inputs: The model's input.
        output: The model's output; ``NotImplemented`` if it raised.
    """
    if output is NotImplemented and isinstance(inputs, Mapping):
        error.add_note(
            f"unitrain: the model was called with the whole input, {describe(inputs)}."
            f"\nHint: to unpack it, {_STEPS}: training_step=lambda model, batch: model(**batch).loss"
        )
    elif isinstance(output, (Mapping, tuple, list)) or is_dataclass(output):
        error.add_note(
            f"unitrain: the loss was called with the model output, {describe(output)}, and the target."
            f"\nHint: {_STEPS}, which return the loss of the relevant part:"
            ' training_step=lambda model, batch: loss(model(batch[0])["out"], batch[1])'
        )


def explain_metric(error: Exception, name: str, metric: Any, pair: tuple[Any, Any]) -> None:
    """Raise a SpecError for a batch that a metric does not support, or add a note to the metric's own error.

    Args:
        error: The error of the metric.
        name: The metric's name in the spec.
        metric: The library object, or the function.
        pair: The output and the target.

    Raises:
        SpecError: If the cause is known.
    """
    if isinstance(error, UnitrainError):
        return
    shown = f"the metric {name!r} was given the output {describe(pair[0])} and the target {describe(pair[1])}"
    for task, wrong, hint in _WRONG:
        if _is(task, metric) and all(isinstance(one, Tensor) for one in pair) and wrong(*pair):
            own = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise SpecError(f"{shown}, which it does not support: {own}", hint=hint(*pair)) from error
    error.add_note(f"unitrain: {shown}")


def check_metric(name: str, metric: Any, pair: tuple[Any, Any]) -> None:
    """Refuse fractional labels, which a torchmetrics metric would silently truncate to other classes.

    Args:
        name: The metric's name in the spec.
        metric: The library object, or the function.
        pair: The output and the target of an epoch's first batch.

    Raises:
        SpecError: If classes are not integers.
    """
    output, target = pair
    if not (isinstance(output, Tensor) and isinstance(target, Tensor)):
        return
    classes = (output, target) if output.ndim == target.ndim else (target,)
    cut = [one for one in classes if one.is_floating_point()]
    if cut and _is("Multiclass", metric) and any(bool((one != one.round()).any()) for one in cut):
        raise SpecError(
            f"the metric {name!r} was given the output {describe(output)} and the target {describe(target)}; class"
            f" labels must be integers.",
            hint=_NOT_CLASSES,
        )


def _is(task: str, metric: Any) -> bool:
    """Return whether a metric of torchmetrics, or one inside it, is for ``task``."""
    modules = getattr(type(metric), "modules", None)
    return modules is not None and any(type(one).__name__.startswith(task) for one in modules(metric))


def _more_classes(output: Tensor, target: Tensor) -> bool:
    return output.ndim == target.ndim + 1 and output.shape[1] > 1


_WHOLE = (
    "the target must be integers; if the loss needs floats:"
    ' torchmetrics.wrappers.LambdaInputTransformer(metric("f1"), transform_target=lambda target: target.long())'
)
_NOT_CLASSES = (
    "num_classes= is for scores (B, C) and classes (B,); omit it for one score per sample, as with"
    " BCEWithLogitsLoss, or pass num_labels= for several labels per sample."
)
_WRONG: tuple[tuple[str, Callable[[Tensor, Tensor], bool], Callable[[Tensor, Tensor], str]], ...] = (
    ("Binary", _more_classes, lambda output, _: f'metric("accuracy", num_classes={output.shape[1]})'),
    ("Binary", lambda _, target: target.is_floating_point(), lambda *_: _WHOLE),
    (
        "Binary",
        lambda output, target: output.shape != target.shape,
        lambda output, _: f"give both the shape {tuple(output.shape)}: return (output, target) from validation_step.",
    ),
    (
        "Multiclass",
        lambda output, target: target.is_floating_point() or output.ndim != target.ndim + 1,
        lambda *_: (
            "num_classes= is for scores (B, C) and classes (B,); omit it for one score per sample, or pass"
            " num_labels= for several labels per sample. " + _WHOLE
        ),
    ),
)
"""By task: when its metric does not support an output and a target, and the hint."""
