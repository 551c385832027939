"""The layers of a model as a table: types, parameters and, with an example, input and output sizes."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from unitrain.data.batch import to_device
from unitrain.errors import SpecError
from unitrain.spec import TrainSpec
from unitrain.utilities.rng import preserved_rng

if TYPE_CHECKING:
    from collections.abc import Iterator

WIDTH = 100
"""The maximum width of the table."""

ALL = -1
_MEGABYTE = 1e6
_GAP = "  "
_HEADER = ("name", "type", "parameters", "trainable", "in", "out")
_NUMBERS = ("parameters", "trainable")


@dataclass(frozen=True)
class LayerSummary:
    """One layer of a ``Summary``.

    Attributes:
        name: Name of the layer in the model, such as ``"encoder.0"``; empty for the model itself.
        type: Name of its class.
        parameters: Number of elements of its parameters, including its sublayers'. A parameter shared with an earlier
            layer is counted only there.
        trainable: Number of these that require a gradient.
        shared: Whether it has parameters that are counted at an earlier layer.
        lazy: Whether it has parameters of unknown shape.
        in_size: Input shape, such as ``"[4, 36]"``; empty if the layer was not called.
        out_size: Output shape.
    """

    name: str
    type: str
    parameters: int
    trainable: int
    shared: bool = False
    lazy: bool = False
    in_size: str = ""
    out_size: str = ""


@dataclass(frozen=True)
class Summary:
    """The layers of a model; ``str()`` is a table of at most 100 columns.

    Attributes:
        model: Name of the model's class.
        layers: The layers, in the model's order.
        parameters: Number of elements of all parameters; shared ones count once.
        trainable: Number of these that require a gradient.
        parameter_bytes: Memory of the parameters, in bytes.
        buffer_bytes: Memory of the buffers, in bytes.
        lazy: Whether there are parameters of unknown shape, which are not counted.

    Example:
        >>> summarize(torch.nn.Linear(4, 1)).parameters
        5
    """

    model: str
    layers: tuple[LayerSummary, ...]
    parameters: int
    trainable: int
    parameter_bytes: int
    buffer_bytes: int
    lazy: bool = False

    @property
    def frozen(self) -> int:
        """Number of elements of parameters that do not require a gradient."""
        return self.parameters - self.trainable

    @property
    def megabytes(self) -> float:
        """The size of parameters and buffers in units of 10**6 bytes."""
        return (self.parameter_bytes + self.buffer_bytes) / _MEGABYTE

    def __str__(self) -> str:
        """Return the table."""
        rows = [_cells(layer) for layer in self.layers]
        sized = any(layer.in_size or layer.out_size for layer in self.layers)
        table = [row if sized else row[:4] for row in (_HEADER, *rows)]
        widths = _widths(table)
        lines = [_GAP.join(_placed(row, widths)).rstrip() for row in table]
        lines.insert(1, "-" * (sum(widths) + len(_GAP) * (len(widths) - 1)))
        return "\n".join([_shortened(self.model, WIDTH), *lines, *self._totals()])

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:  # noqa: ARG002 - IPython's
        printer.text(str(self))

    def _totals(self) -> Iterator[str]:
        unknown = ", excluding uninitialized lazy layers" if self.lazy else ""
        yield f"{self.parameters:,} parameters: {self.trainable:,} trainable, {self.frozen:,} frozen{unknown}"
        kinds = (
            f"{self.parameter_bytes / _MEGABYTE:,.3f} MB parameters, {self.buffer_bytes / _MEGABYTE:,.3f} MB buffers"
        )
        yield f"{self.megabytes:,.3f} MB: {kinds}"
        if any(layer.shared for layer in self.layers):
            yield "* shares parameters with a layer above, which counts them"


def _cells(layer: LayerSummary) -> tuple[str, ...]:
    count = f"{layer.parameters:,}" if layer.parameters or not layer.lazy else ""
    counted = " + ".join(part for part in (count, "lazy" if layer.lazy else "") if part) + "*" * layer.shared
    name = layer.name or "(the model itself)"
    return name, layer.type, counted, _trainable(layer), layer.in_size, layer.out_size


def _trainable(layer: LayerSummary) -> str:
    if not layer.parameters:
        return ""
    return {0: "no", layer.parameters: "yes"}.get(layer.trainable, f"{layer.trainable:,}")


def _widths(table: list[tuple[str, ...]]) -> list[int]:
    """Return the widths of the columns; the widest texts are shortened until all fit."""
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    texts = [index for index in range(len(widths)) if _HEADER[index] not in _NUMBERS]
    while sum(widths) + len(_GAP) * (len(widths) - 1) > WIDTH:
        widths[max(texts, key=widths.__getitem__)] -= 1
    return widths


def _placed(row: tuple[str, ...], widths: list[int]) -> Iterator[str]:
    for name, cell, width in zip(_HEADER, row, widths, strict=False):
        yield cell.rjust(width) if name == "parameters" else _shortened(cell, width).ljust(width)


def _shortened(text: str, width: int) -> str:
    """Return ``text`` with its middle left out if it is too long: the ends of names tell them apart."""
    if len(text) <= width:
        return text
    tail = (width - 1) // 2
    return f"{text[: width - 1 - tail]}…{text[-tail:]}"


def summarize(model: nn.Module | TrainSpec, depth: int = 1, example_input: Any = None) -> Summary:
    """Return the layers of a model, their parameters and sizes.

    The model, its modes and the random numbers are unchanged.

    Args:
        model: A module, or a TrainSpec with one.
        depth: Number of levels of layers to show: 1 for the model's own layers, 0 for the model as a whole, -1 for all.
        example_input: Input of the model, as in training, which determines the sizes; by default the spec's. A copy of
            the model is called once, in eval mode and without gradients.

    Returns:
        The layers; ``str()`` is a table of them.

    Raises:
        SpecError: If ``model`` is neither, ``depth`` is below -1, or the model cannot be copied or called.

    Example:
        >>> print(summarize(nn.Sequential(nn.Linear(4, 8), nn.ReLU()), example_input=torch.zeros(2, 4)))
        Sequential
        name  type    parameters  trainable  in      out
        ---------------------------------------------------
        0     Linear          40  yes        [2, 4]  [2, 8]
        1     ReLU             0             [2, 8]  [2, 8]
        40 parameters: 40 trainable, 0 frozen
        0.000 MB: 0.000 MB parameters, 0.000 MB buffers
    """
    if isinstance(model, TrainSpec):
        example_input = model.example_input if example_input is None else example_input
        model = model.model
    if not isinstance(model, nn.Module):
        raise SpecError(f"summarize() takes a module or a TrainSpec; got {model!r}.", hint="summarize(spec)")
    check_depth(depth, "summarize")
    names = {
        name: type(one).__name__ for name, one in model.named_modules(remove_duplicate=False) if _within(name, depth)
    }
    called, sizes = (model, {}) if example_input is None else _called(model, example_input, names)
    owners = _owners(called)
    shown = [name for name in names if _is_row(called, name, depth)]
    counted = [one for one in owners.values() if not is_lazy(one)]
    return Summary(
        model=type(model).__name__,
        layers=tuple(_layer(called, name, names[name], owners, sizes, whole=depth == 0) for name in shown),
        parameters=sum(map(Tensor.numel, counted)),
        trainable=sum(one.numel() for one in counted if one.requires_grad),
        parameter_bytes=sum(map(_bytes, counted)),
        buffer_bytes=sum(_bytes(one) for one in called.buffers() if not is_lazy(one)),
        lazy=any(map(is_lazy, owners.values())),
    )


def check_depth(depth: Any, where: str) -> None:
    """Refuse an invalid depth.

    Raises:
        SpecError: If it is invalid; the message says what is accepted.
    """
    if not isinstance(depth, int) or isinstance(depth, bool) or depth < ALL:
        tensor = isinstance(depth, Tensor)
        raise SpecError(
            f"{where}(depth=) must be a number of levels, or -1 for all; got {'a tensor' if tensor else repr(depth)}.",
            hint=f"{where}({'example_input=...' if tensor else 'depth=1'})",
        )


def _within(name: str, depth: int) -> bool:
    level = name.count(".") + 1 if name else 0
    return depth == ALL or level <= depth


def _is_row(model: nn.Module, name: str, depth: int) -> bool:
    """Return whether a layer has a row; the model itself has one for parameters that are in no layer of it."""
    return bool(name) or depth == 0 or not list(model.children()) or any(True for _ in model.parameters(recurse=False))


def _owners(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return each parameter once, under the first of its names."""
    return dict(model.named_parameters())


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _layer(
    model: nn.Module,
    name: str,
    kind: str,
    owners: Mapping[str, nn.Parameter],
    sizes: Mapping[str, tuple[str, str]],
    *,
    whole: bool,
) -> LayerSummary:
    recurse = bool(name) or whole
    prefix = f"{name}." if name else ""
    names = [
        f"{prefix}{one}"
        for one, _ in model.get_submodule(name).named_parameters(recurse=recurse, remove_duplicate=False)
    ]
    own = [owners[one] for one in names if one in owners]
    known = [one for one in own if not is_lazy(one)]
    given, returned = sizes.get(name, ("", ""))
    return LayerSummary(
        name=name,
        type=kind,
        parameters=sum(map(Tensor.numel, known)),
        trainable=sum(one.numel() for one in known if one.requires_grad),
        shared=_shares(model, names, prefix, owners),
        lazy=len(known) < len(own),
        in_size=given,
        out_size=returned,
    )


def _shares(model: nn.Module, names: list[str], prefix: str, owners: Mapping[str, nn.Parameter]) -> bool:
    """Return whether a layer has a parameter whose first name is that of another layer."""
    first = {id(one): name for name, one in owners.items()}
    return any(not first[id(model.get_parameter(one))].startswith(prefix) for one in names if one not in owners)


def _called(model: nn.Module, example: Any, names: Mapping[str, str]) -> tuple[nn.Module, dict[str, tuple[str, str]]]:
    """Return a copy of ``model`` that was called with ``example``, and by name what each layer got and gave."""
    sizes: dict[str, tuple[str, str]] = {}
    try:
        with preserved_rng(), torch.no_grad():
            copied = copy.deepcopy(model).eval()
            hooks = [
                copied.get_submodule(name).register_forward_hook(partial(_note, sizes, name), with_kwargs=True)
                for name in names
            ]
            copied(_as_the_model_takes_it(copied, example))
            for hook in hooks:
                hook.remove()
    except Exception as error:
        raise SpecError(
            f"the summary could not call a copy of {type(model).__name__} with example_input=: {error!r}",
            hint="example_input= must be what the model is called with in training; without it, sizes are omitted.",
        ) from error
    return copied, sizes


def _note(sizes: dict[str, tuple[str, str]], name: str, _: nn.Module, given: Any, named: Any, returned: Any) -> None:
    """Remember the sizes of a layer's first call."""
    sizes.setdefault(name, (", ".join(map(_size, (*given, *named.values()))), _size(returned)))


def _as_the_model_takes_it(model: nn.Module, example: Any) -> Any:
    """Return ``example`` where the model is, its real numbers in the model's precision."""
    first = next((one for one in model.parameters() if one.is_floating_point() and not is_lazy(one)), None)
    if first is None:
        return example
    moved = to_device(example, first.device)
    return moved.to(first.dtype) if isinstance(moved, Tensor) and moved.is_floating_point() else moved


def _size(value: Any) -> str:
    if isinstance(value, Tensor):
        return str(list(value.shape))
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_size(one)}" for key, one in value.items()) + "}"
    if isinstance(value, (tuple, list)):
        return "(" + ", ".join(map(_size, value)) + ")"
    if is_dataclass(value) and not isinstance(value, type):
        return _size({one.name: getattr(value, one.name) for one in fields(value)})
    return type(value).__name__
