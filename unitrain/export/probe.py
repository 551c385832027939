"""Runs the model on the example: named inputs and outputs at several sizes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from unitrain.data.batch import describe, to_device
from unitrain.data.structure import tensors
from unitrain.errors import ExportError
from unitrain.export.axes import Axes, output_shape
from unitrain.export.example import example_row
from unitrain.export.failures import line_of
from unitrain.export.request import EXAMPLE, Check, Request
from unitrain.export.tree import named, names_of_inputs
from unitrain.export.verify import apart, shown
from unitrain.export.wrap import Prepared

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor, nn

_CPU = torch.device("cpu")


class ModelProbe:
    """The inputs and outputs of a model, found by calling it.

    Args:
        model: The model, in eval mode and on the CPU.
        asked: The given export options.
        publish: Whether the file may contain a row of the example.

    Raises:
        ExportError: If it cannot be called with the example, or gives something else than tensors.
    """

    def __init__(self, model: nn.Module, asked: Mapping[str, Any], *, publish: bool = False) -> None:
        self._model, self._asked, self._publish = model, asked, publish
        self._example = to_device(asked[EXAMPLE], _CPU)
        found = names_of_inputs(asked.get("preprocess") or model, self._example)
        if not found:
            raise ExportError("example_input= contains no tensor.", hint="pass a batch of inputs, as in training.")
        self._inputs = _named_as("input_names", asked, found)
        self._module = self._prepared(half=False)
        self._axes = Axes(self._inputs, tuple(tensors(self._example)), asked.get("dynamic_axes"))
        output = self._first()
        given = [name for name, _ in named(output, "output")]
        if not given:
            raise ExportError(f"{type(model).__name__} returns no tensor.", hint="return a tensor from forward.")
        _require_here(model, output)
        self._outputs = _named_as("output_names", asked, given)

    def request(self, facts: Mapping[str, Any], *, half: bool = False, **plain: Any) -> Request:
        """Return the request for a format.

        Args:
            facts: Facts for the metadata.
            half: Whether to compute in float16.
            **plain: Further fields of the request.
        """
        checks = tuple(self._check(sizes) for sizes in self._axes.checked_sizes())
        signature = {
            "inputs": self._axes.signature(self._inputs),
            "outputs": _outputs(self._outputs, checks),
            "example": example_row(self._axes, self._inputs, self._row, own=self._publish),
        }
        return Request(
            module=self._prepared(half=half),
            source=self._model,
            inputs=self._axes.example(),
            input_names=tuple(self._inputs),
            output_names=tuple(self._outputs),
            dynamic=tuple(self._axes.dynamic),
            checks=checks,
            half=half,
            metadata={**facts, **signature},
            **plain,
        )

    def _prepared(self, *, half: bool) -> Prepared:
        around = {key: self._asked.get(key) for key in ("preprocess", "postprocess")}
        return Prepared(self._model, self._example, self._inputs, half=half, **around)

    def _first(self) -> Any:
        """Return what the model gives for the example itself."""
        try:
            return self._module.nested(*(one.clone() for one in tensors(self._example)))
        except Exception as error:
            raise ExportError(
                f"the model cannot be called with the example, {describe(self._example)}, on the CPU: {_told(error)}",
                hint="example_input= must be what the model is called with in training: for batches (inputs,"
                " targets), only the inputs.",
            ) from error

    def _check(self, sizes: Mapping[str, int]) -> Check:
        """Return what the model gives at ``sizes``.

        Raises:
            ExportError: If it gives something else each time.
        """
        inputs, outputs = self._answer(sizes)
        again = self._row(inputs)
        if any(apart(one, two) != (0.0, 0.0) for one, two in zip(outputs, again, strict=True)):
            raise ExportError(
                f"{type(self._model).__name__} returns different outputs for the same input in eval mode, so no file"
                f" can be compared with it.",
                hint="draw random numbers only if self.training, or pass them as an input.",
            )
        return Check(dict(sizes), inputs, outputs)

    def _answer(self, sizes: Mapping[str, int]) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """Return inputs of ``sizes`` and what the model gives; with noise in them, if it can take that.

        Raises:
            ExportError: If the model itself fails there.
        """
        varied = self._axes.resized(sizes, varied=True)
        try:
            outputs = self._row(varied)
            if all(bool(one.isfinite().all()) for one in outputs):
                return varied, outputs
        except Exception:  # noqa: BLE001, S110 - noise may be nothing that it takes: the example's own values follow
            pass
        inputs = self._axes.resized(sizes)
        try:
            return inputs, self._row(inputs)
        except Exception as error:
            raise ExportError(
                f"the model itself fails at {shown(sizes)}: {_told(error)}",
                hint="axis 0 of the example is the batch unless dynamic_axes= is given. If the code fixes the size"
                " of an axis, use x.shape[0] or -1, or remove the axis from dynamic_axes ({}: none); if the size is"
                " bounded, use torch.export.Dim(name, min=, max=) instead of a name.",
            ) from error

    def _row(self, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Return copies of the outputs: a model may write into its inputs, and return a buffer of its own."""
        return tuple(one.clone() for one in tensors(self._module.nested(*(one.clone() for one in inputs))))


def _outputs(names: Sequence[str], checks: Sequence[Check]) -> list[dict[str, Any]]:
    """Return names, dtypes and shapes of the outputs."""
    sizes = [one.sizes for one in checks]
    columns = zip(*(one.outputs for one in checks), strict=True)
    return [
        {
            "name": name,
            "dtype": str(column[0].dtype).removeprefix("torch."),
            "shape": output_shape(name, [one.shape for one in column], sizes),
        }
        for name, column in zip(names, columns, strict=True)
    ]


def _require_here(model: nn.Module, output: Any) -> None:
    """Refuse a model that moves what it computes: a file has no devices."""
    away = [one.device for one in tensors(output) if one.device != _CPU]
    if away:
        raise ExportError(
            f"{type(model).__name__} was called on the CPU for export, but returned tensors on {away[0]}.",
            hint="do not set devices in forward; the trainer and the exporter move the model.",
        )


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip()[:500]}\n{line_of(error)}".rstrip()


def _named_as(option: str, asked: Mapping[str, Any], found: Sequence[str]) -> list[str]:
    """Return the names that were given, or those that were found.

    Raises:
        ExportError: If they are not as many, not different, or no names.
    """
    given = asked.get(option, found)
    names = [given] if isinstance(given, str) else list(given)
    if len(names) != len(found):
        raise ExportError(
            f"{option}= has {len(names)} names ({', '.join(map(repr, names))}), but there are {len(found)} tensors:"
            f" {', '.join(found)}.",
            hint="pass one name per tensor.",
        )
    bad = [one for number, one in enumerate(names) if not str(one).isidentifier() or one in names[:number]]
    if bad:
        raise ExportError(
            f"{option}= must be different Python identifiers; got {bad[0]!r}.",
            hint=f"{option}={[f'tensor_{number}' for number in range(len(names))]}",
        )
    return names
