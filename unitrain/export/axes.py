"""Dynamic axes, and inputs of other sizes derived from the example."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.export import Dim

from unitrain.data.batch import describe
from unitrain.errors import ExportError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Sequence

BATCH = "batch"
_MORE = 3
_SEED = 0


class Axes:
    """The axes that may have any length, and the example.

    Attributes:
        dynamic: The dynamic axes of each input, as ``torch.export.Dim``.
        sizes: Sizes of the example, by axis name.

    Args:
        names: Names of the inputs.
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
                f"the axes named {word!r} must have the same length, but in the example one has {self.sizes[word]}"
                f" and axis {axis} of {name!r} has {size}.",
                hint=f'name the dynamic axes: dynamic_axes={{"{name}": {{{axis}: "other"}}, ...}}.',
            )
        if size == 0:
            raise ExportError(
                f"axis {axis} of {name!r} is empty in the example.", hint="pass an example with two rows."
            )
        if axis == 0:
            self._lead.add(word)

    def checked_sizes(self) -> list[dict[str, int]]:
        """Return the sizes to compare at: rows one, the example's and a larger odd number; other axes vary a little."""
        if not self.sizes:
            return [{}]
        columns = {name: self._three(name) for name in self.sizes}
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]

    def _three(self, name: str) -> list[int]:
        """Return three sizes within the axis's bounds, different ones if there are as many."""
        size = self.sizes[name]
        several = max(2, size)
        wanted = (
            (1, several, several + _MORE + 2 - several % 2) if name in self._lead else (size, size - 1, size + _MORE)
        )
        low, high = max(self._bounds[name][0], 1), self._bounds[name][1]
        found: list[int] = []
        for one in wanted:
            nearest = int(min(max(one, low), high))
            others = chain(range(nearest, low - 1, -1), range(nearest, int(min(nearest + _MORE, high)) + 1))
            found.append(next((other for other in others if other not in found), nearest))
        return found

    def example(self) -> tuple[Tensor, ...]:
        """Return the example with at least two of what may be any number: torch.export takes one for a constant."""
        return self.resized({name: max(2, size) for name, size in self.sizes.items()})

    def resized(self, sizes: Mapping[str, int], *, varied: bool = False) -> tuple[Tensor, ...]:
        """Return the example at other sizes: its rows, again and again.

        Args:
            sizes: Sizes by axis name.
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


def output_shape(name: str, shapes: Sequence[Sequence[int]], sizes: Sequence[Mapping[str, int]]) -> list[int | str]:
    """Return the shape of an output: for each axis its length, or the name of the axis of an input that it follows.

    One that varies otherwise, as the sum of two does, has a name of its own.

    Args:
        name: Of the output.
        shapes: What it had in each comparison.
        sizes: Those of the inputs' axes in each comparison, by name.
    """
    found: list[int | str] = []
    for axis, lengths in enumerate(zip(*shapes, strict=False)):  # of different ranks: the comparison will refuse it
        follows = [one for one in sizes[0] if tuple(at[one] for at in sizes) == lengths]
        varies = follows[0] if len(follows) == 1 else f"{name}_{axis}"
        found.append(lengths[0] if len(set(lengths)) == 1 else varies)
    return found


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
        f"dynamic_axes= must map each input to its axes, and these to Python identifiers; got {given!r:.80}.",
        hint='dynamic_axes={"input": {0: "batch", 1: "sequence"}}',
    )


def _check(asked: Any, inputs: Mapping[str, Tensor]) -> None:
    if not isinstance(asked, Mapping):
        raise _no_axes(asked)
    for name, axes in asked.items():
        if name not in inputs:
            raise ExportError(f"dynamic_axes= contains the unknown input {name!r}.", hint=did_you_mean(name, inputs))
        if not isinstance(axes, Mapping) or not all(_is_axis(one, to) for one, to in axes.items()):
            raise _no_axes(axes)
        beyond = [axis for axis in axes if not -inputs[name].ndim <= axis < inputs[name].ndim]
        if beyond:
            raise ExportError(
                f"dynamic_axes=: {name!r} has no axis {beyond[0]}; it is {describe(inputs[name])}.",
                hint="axes are counted from 0.",
            )
        if len({axis % inputs[name].ndim for axis in axes}) < len(axes):
            raise ExportError(f"dynamic_axes=: an axis of {name!r} is given twice: {axes!r:.80}.", hint="give it once.")


def _is_axis(axis: Any, to: Any) -> bool:
    named = to.isidentifier() if isinstance(to, str) else isinstance(to, Dim)
    return named and isinstance(axis, int) and not isinstance(axis, bool)
