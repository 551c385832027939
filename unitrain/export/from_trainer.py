"""Exports the model of a trainer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from unitrain.errors import ExportError
from unitrain.export.pipeline import export_module
from unitrain.export.sources import from_checkpoint, from_run
from unitrain.export.wrap import unwrapped

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from unitrain.export.sources import Weights
    from unitrain.export.verify import ExportReport
    from unitrain.spec import TrainSpec


def export_model(
    model: Any,
    spec: TrainSpec | None,
    path: str | Path,
    format: str | None,  # noqa: A002 - as everyone calls it
    options: Mapping[str, Any],
    *,
    callbacks: Iterable[Any],
    ckpt_path: Path | None,
    weights: Weights,
) -> ExportReport:
    """Write the model of a run.

    Args:
        model: The model; a framework's own module is exported by its ``forward``.
        spec: The spec of the run, or None for a framework's own code.
        path: The file.
        format: Format of the file; None infers it from the suffix.
        options: The options of ``export_module``.
        callbacks: The callbacks of the run.
        ckpt_path: Checkpoint to load weights from; None uses the model's own.
        weights: ``"model"`` or ``"ema"``.

    Raises:
        ExportError: If there is no model, or it cannot be exported.
    """
    if model is None:
        raise ExportError(
            "this trainer has no model: nothing has run yet, or an Ignite program ran, which does not declare its"
            " model.",
            hint="unitrain.export_module(model, path, example_input=...)",
        )
    model = unwrapped(model)
    source = from_run(callbacks, weights) if ckpt_path is None else from_checkpoint(ckpt_path, model, weights)
    example = getattr(model, "example_input_array", None) if spec is None else spec.example_input
    return export_module(
        model, path, format=format, weights=source.tensors, source=source.facts, default_example=example, **options
    )
