"""Copies batches to a GPU on a stream of their own, for ``prefetch_to_device=True``."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from unitrain.data.batch import describe, to_device
from unitrain.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator

STREAMS: Final[dict[str, Any]] = {"cuda": torch.cuda}
"""The module with the streams of each type of device that has them."""


def prefetched(batch: Any, device: torch.device) -> Any:
    """Return a copy of ``batch`` on ``device``, made while the device computes what was launched before.

    No batch is read ahead: without a wait in a step, the host gets here long before the device has finished the step.
    So random numbers are drawn, and events fire, in the same order as without prefetching.

    Raises:
        DataError: If the memory of a tensor in it cannot be kept from being reused too early.
    """
    streams, copying = STREAMS[device.type], _copying(device)
    computing = streams.current_stream(device)
    with streams.stream(copying), _Copies(copying, computing) as copies:
        moved = to_device(batch, device)
    computing.wait_stream(copying)
    copies.record()
    return moved


@cache
def _copying(device: torch.device) -> Any:
    """Return the stream for copies: one a device, because memory is cached by stream."""
    return STREAMS[device.type].Stream(device)


class _Copies(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sees each operator by which a batch is copied, also inside the ``to()`` of objects.

    Args:
        copying: The stream on which they run.
        computing: The stream of the steps.
    """

    def __init__(self, copying: Any, computing: Any) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._copying, self._computing = copying, computing
        self._made: list[Tensor] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operator, and note the tensors it made."""
        given = {id(tensor) for tensor in _of_device((args, kwargs))}
        self._wait_for(given)
        found = func(*args, **(kwargs or {}))
        self._made += [tensor for tensor in _of_device(found) if id(tensor) not in given]
        return found

    def _wait_for(self, given: set[int]) -> None:
        """Let the copies wait for the steps, if they read what steps may still compute: what was not made here."""
        if given - {id(tensor) for tensor in self._made}:
            self._copying.wait_stream(self._computing)

    def record(self) -> None:
        """Tell the allocator that steps read what was made here: else a later copy might overwrite it too early."""
        for tensor in self._made:
            for part in _dense(tensor):
                try:
                    part.record_stream(self._computing)
                except (TypeError, RuntimeError) as error:
                    raise DataError(
                        f"prefetch_to_device=True: the memory of {describe(part)}, a {type(part).__name__}, cannot be"
                        f" protected: {error}.",
                        hint="prefetch_to_device=False",
                    ) from error


def _of_device(values: Any) -> Iterator[Tensor]:
    return (one for one in tree_leaves(values) if isinstance(one, Tensor) and one.device.type != "cpu")


_PARTS: Final = {
    torch.sparse_coo: ("_indices", "_values"),
    torch.sparse_csr: ("crow_indices", "col_indices", "values"),
    torch.sparse_bsr: ("crow_indices", "col_indices", "values"),
    torch.sparse_csc: ("ccol_indices", "row_indices", "values"),
    torch.sparse_bsc: ("ccol_indices", "row_indices", "values"),
}
"""The methods that return the dense tensors of a sparse one; only those have memory of their own."""


def _dense(tensor: Tensor) -> Iterator[Tensor]:
    """Yield the dense tensors that hold the memory of ``tensor``."""
    if hasattr(tensor, "__tensor_flatten__"):  # a subclass made of tensors, such as a jagged one
        for name in tensor.__tensor_flatten__()[0]:
            yield from _dense(getattr(tensor, name))
    elif tensor.is_nested:
        yield tensor.values()
    elif tensor.layout in _PARTS:
        for method in _PARTS[tensor.layout]:
            yield getattr(tensor, method)()
    else:
        yield tensor
