"""Which axes of the inputs may have any length, and inputs of other lengths made from the example."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.export import Dim

from unitrain.batch import describe
from unitrain.errors import ExportError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Sequence

BATCH = "batch"
_MORE = 3
_SEED = 0


class Axes:
    """The axes that may have any length, and the example.

    Attributes:
        dynamic: For each input its axes, as ``torch.export.Dim``.
        sizes: Of the example, by the axis's name.

    Args:
        names: Of the inputs.
        inputs: The example.
        asked: ``dynamic_axes=``, or None for the batch of each input.

    Raises:
        ExportError: If there is no such input or axis, or two axes of one name are not of one length.
    """

    def __init__(
        self, names: Sequence[str], inputs: Sequence[Tensor], asked: Mapping[str, Mapping[int, Any]] | None
    ) -> None:
        if asked is None:
            asked = {name: {0: BATCH} for name, one in zip(names, inputs, strict=True) if one.ndim}
        _check(asked, dict(zip(names, inputs, strict=True)))
        self._inputs = tuple(inputs)
        self._lead: set[str] = set()
        self.sizes: dict[str, int] = {}
        dims: dict[str, Any] = {}
        self.dynamic: list[dict[int, Any]] = []
        for name, tensor in zip(names, inputs, strict=True):
            axes = {axis % tensor.ndim: given for axis, given in asked.get(name, {}).items()}
            for axis, given in sorted(axes.items()):
                dim = dims.setdefault(_name(given), Dim(given) if isinstance(given, str) else given)
                self._note(name, axis, _name(dim), tensor.shape[axis])
                axes[axis] = dim
            self.dynamic.append(axes)
        self._bounds = {name: (int(dim.min), dim.max) for name, dim in dims.items()}

    def _note(self, name: str, axis: int, word: str, size: int) -> None:
        if self.sizes.setdefault(word, size) != size:
            raise ExportError(
                f"the axes named {word!r} are of one length, but in the example one has {self.sizes[word]}, and axis"
                f" {axis} of {name!r} has {size}.",
                hint=f'say what may have any length: dynamic_axes={{"{name}": {{{axis}: "other"}}, ...}}.',
            )
        if size == 0:
            raise ExportError(f"axis {axis} of {name!r} is empty in the example.", hint="give one with two rows.")
        if axis == 0:
            self._lead.add(word)

    def checked_sizes(self) -> list[dict[str, int]]:
        """Return the sizes to compare at: rows one, the example's and a larger odd number; other axes vary a little."""
        if not self.sizes:
            return [{}]
        return [{name: self._bounded(name, way) for name in self.sizes} for way in range(3)]

    def _bounded(self, name: str, way: int) -> int:
        size = self.sizes[name]
        several = max(2, size)
        wanted = (
            (1, several, several + _MORE + 2 - several % 2) if name in self._lead else (size, size - 1, size + _MORE)
        )
        low, high = self._bounds[name]
        return int(min(max(wanted[way], low, 1), high))

    def example(self) -> tuple[Tensor, ...]:
        """Return the example with at least two of what may be any number: torch.export takes one for a constant."""
        return self.resized({name: max(2, size) for name, size in self.sizes.items()})

    def resized(self, sizes: Mapping[str, int], *, varied: bool = False) -> tuple[Tensor, ...]:
        """Return the example at other sizes: its rows, again and again.

        Args:
            sizes: By the axis's name.
            varied: Make floating inputs differ from row to row, by as much as those of the example do.
        """
        generator = torch.Generator().manual_seed(_SEED)
        made = []
        for tensor, axes in zip(self._inputs, self.dynamic, strict=True):
            for axis, dim in axes.items():
                size = sizes[_name(dim)]
                tensor = tensor.index_select(axis, torch.arange(size) % tensor.shape[axis])  # noqa: PLW2901
            made.append(_varied(tensor, generator) if varied else tensor)
        return tuple(made)

    def signature(self, names: Sequence[str]) -> list[dict[str, Any]]:
        """Return names, dtypes and shapes of the inputs; an axis that may have any length is its name."""
        return [
            {
                "name": name,
                "dtype": str(tensor.dtype).removeprefix("torch."),
                "shape": [_name(axes[axis]) if axis in axes else size for axis, size in enumerate(tensor.shape)],
            }
            for name, tensor, axes in zip(names, self._inputs, self.dynamic, strict=True)
        ]


def _name(given: Any) -> str:
    return given if isinstance(given, str) else str(given.__name__)


def _varied(tensor: Tensor, generator: torch.Generator) -> Tensor:
    """Return a floating tensor with noise as large as its own spread, or 1: an example is often of zeros."""
    if not tensor.is_floating_point() or not tensor.numel():
        return tensor
    spread = tensor.float().std(correction=0).nan_to_num()
    noise = torch.randn(tensor.shape, generator=generator)
    return tensor + (noise * (spread if spread > 0 else 1)).to(tensor.dtype)


def _no_axes(given: Any) -> ExportError:
    return ExportError(
        f"dynamic_axes= maps each input to its axes and their names, got {given!r:.80}.",
        hint='dynamic_axes={"input": {0: "batch", 1: "sequence"}}',
    )


def _check(asked: Any, inputs: Mapping[str, Tensor]) -> None:
    if not isinstance(asked, Mapping):
        raise _no_axes(asked)
    for name, axes in asked.items():
        if name not in inputs:
            raise ExportError(f"dynamic_axes= names no input {name!r}.", hint=did_you_mean(name, inputs))
        if not isinstance(axes, Mapping) or not all(
            isinstance(one, int) and isinstance(to, (str, Dim)) for one, to in axes.items()
        ):
            raise _no_axes(axes)
        beyond = [axis for axis in axes if not -inputs[name].ndim <= axis < inputs[name].ndim]
        if beyond:
            raise ExportError(
                f"dynamic_axes=: {name!r} has no axis {beyond[0]}; it is {describe(inputs[name])}.",
                hint="axes are counted from 0.",
            )
