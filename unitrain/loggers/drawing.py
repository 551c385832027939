"""Figures of metrics that are not scalars: matrices, values per class and curves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from unitrain.utilities.rng import preserved_rng

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from unitrain.metrics.tables import Table

_MOST_PANELS = 16
_MOST_CELLS = 20
"""The maximum number of rows of a matrix with labelled cells."""
_MATRIX, _MATRICES = 2, 3
_AXES = {"fpr": ("tpr", "false positive rate", "true positive rate"), "recall": ("precision", "recall", "precision")}
"""Axis labels of a curve, by its x part."""


def can_draw() -> bool:
    """Return whether matplotlib is available."""
    try:
        with preserved_rng():
            import matplotlib.figure  # noqa: F401, PLC0415 - an extra
    except ModuleNotFoundError:
        return False
    return True


def drawn(name: str, table: Table) -> Any:
    """Return a figure of ``table``; None if it has no shape that can be drawn.

    Args:
        name: The full name, used as title.
        table: The value of a metric.
    """
    with preserved_rng():
        if "" in table.tensors:
            return _matrices(name, table.tensors[""], table.shape.class_names)
        return _curves(name, table)


def _matrices(name: str, values: Tensor, class_names: Sequence[str] | None) -> Any:
    """Return one panel for a matrix; for a multilabel confusion matrix, of shape (labels, 2, 2), one per label."""
    if values.ndim == _MATRIX:
        return _panels(name, [("", values)], class_names)
    if values.ndim != _MATRICES or len(values) > _MOST_PANELS:
        return None
    titles = class_names or [str(index) for index in range(len(values))]
    return _panels(name, list(zip(titles, values, strict=True)), None)


def _panels(name: str, panels: Sequence[tuple[str, Tensor]], class_names: Sequence[str] | None) -> Any:
    from matplotlib.figure import Figure  # noqa: PLC0415 - an extra

    side = 2.5 + 0.35 * min(max(panels[0][1].shape), _MOST_CELLS)
    figure = Figure(figsize=(side * len(panels), side), layout="constrained")
    figure.suptitle(name)
    for axes, (title, values) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        axes.imshow(values.double().numpy(), cmap="Blues")
        axes.set(title=title, xlabel="predicted", ylabel="target")
        if class_names is not None:
            axes.set_xticks(range(len(class_names)), class_names, rotation=90)
            axes.set_yticks(range(len(class_names)), class_names)
        if max(values.shape) <= _MOST_CELLS:
            _write_cells(axes, values)
    return figure


def _write_cells(axes: Any, values: Tensor) -> None:
    middle = (values.double().max() + values.double().min()) / 2
    for row, numbers in enumerate(values.tolist()):
        for column, number in enumerate(numbers):
            colour = "white" if number > middle else "black"
            axes.text(column, row, f"{number:.3g}", ha="center", va="center", color=colour)


def _curves(name: str, table: Table) -> Any:
    from matplotlib.figure import Figure  # noqa: PLC0415 - an extra

    x = next((part for part in _AXES if part in (table.shape.parts or ())), None)
    if x is None:
        return None
    y, xlabel, ylabel = _AXES[x]
    figure = Figure(figsize=(5, 4), layout="constrained")
    axes = figure.subplots()
    lines = list(zip(_lines(table, x), _lines(table, y), strict=True))
    for label, (along, up) in zip(table.shape.class_names or map(str, range(len(lines))), lines, strict=True):
        axes.plot(along, up, label=label)
    axes.set(title=name, xlabel=xlabel, ylabel=ylabel)
    if len(lines) > 1:
        axes.legend()
    return figure


def _lines(table: Table, part: str) -> list[list[float]]:
    """Return the values of a part: one list per class."""
    found = [tensor for ending, tensor in table.tensors.items() if f"{ending}_".startswith(f"_{part}_")]
    return [row.tolist() for tensor in found for row in tensor.view(-1, tensor.shape[-1])]
