"""Copies batches to the device of a run, on a stream of their own if ``prefetch_to_device=True``."""

from __future__ import annotations

from functools import cache, partial
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import Tensor, nn

from unitrain.data.batch import describe, to_device
from unitrain.data.structure import movable, parts
from unitrain.errors import ConfigError, DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

STREAMS: Final[dict[str, Any]] = {"cuda": torch.cuda}
"""The module with the streams of each type of device that has them."""


def transfer(device: torch.device, *, prefetch: bool) -> Callable[[Any], Any]:
    """Return a function that copies a batch to ``device``.

    Args:
        device: The device of the model.
        prefetch: Whether to copy on a stream of its own, so that a copy does not wait for the step before it.

    Raises:
        ConfigError: If the device has no streams to prefetch on.
    """
    if prefetch and device.type not in STREAMS:
        raise ConfigError(
            f"prefetch_to_device=True copies batches to a GPU while it computes; this run is on {device.type!r}.",
            hint="prefetch_to_device=torch.cuda.is_available()",
        )
    return partial(_prefetched if prefetch else to_device, device=device)


def _prefetched(batch: Any, device: torch.device) -> Any:
    """Return a copy of ``batch`` on ``device``, made while the device computes what was launched before.

    No batch is read ahead: without a wait in a step, the host gets here long before the device has finished the step.
    So random numbers are drawn, and events fire, in the same order as without prefetching.
    """
    streams, copying = STREAMS[device.type], _copying(device)
    computing = streams.current_stream(device)
    if any(tensor.device.type != "cpu" for tensor in memory(batch)):
        copying.wait_stream(computing)  # it may still be computed
    with streams.stream(copying):
        moved = to_device(batch, device)
    computing.wait_stream(copying)
    for tensor in memory(moved):
        if tensor.device.type != "cpu":
            tensor.record_stream(computing)  # the copying stream, which allocated it, must not reuse it too early
    return moved


@cache
def _copying(device: torch.device) -> Any:
    """Return the stream for copies: one a device, because memory is cached by stream."""
    return STREAMS[device.type].Stream(device)


def memory(batch: Any, _seen: frozenset[int] = frozenset()) -> Iterator[Tensor]:
    """Yield the dense tensors that hold the memory of a batch.

    Raises:
        DataError: If an object that moves itself by ``to()`` shows none.
    """
    if isinstance(batch, Tensor):
        yield from _dense(batch)
    elif isinstance(batch, nn.Module):
        for tensor in (*batch.parameters(), *batch.buffers()):
            yield from _dense(tensor)
    elif id(batch) not in _seen:
        found = [tensor for part in parts(batch) for tensor in memory(part, _seen | {id(batch)})]
        if not found and movable(type(batch)):
            raise DataError(
                f"prefetch_to_device=True: no tensors were found in {describe(batch)}, a part of the batch.",
                hint="keep its tensors in attributes, or set prefetch_to_device=False.",
            )
        yield from found


_PARTS: Final = {
    torch.sparse_coo: ("_indices", "_values"),
    torch.sparse_csr: ("crow_indices", "col_indices", "values"),
    torch.sparse_bsr: ("crow_indices", "col_indices", "values"),
    torch.sparse_csc: ("ccol_indices", "row_indices", "values"),
    torch.sparse_bsc: ("ccol_indices", "row_indices", "values"),
}
"""The methods that return the dense tensors of a sparse one; only those have memory of their own."""


def _dense(tensor: Tensor) -> Iterator[Tensor]:
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
