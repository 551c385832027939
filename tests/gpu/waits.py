"""Counts the times that the host waits for a GPU, as torch's profiler sees them."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from torch.profiler import ProfilerActivity, profile

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

SYNCHRONIZING = ("cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaEventSynchronize", "cudaMemcpy")
"""The calls of CUDA that return only when the device is done; a ``cudaMemcpyAsync`` to pageable memory is followed by one."""


def waits_in(names: Iterable[str]) -> int:
    """Return how many of a profile's events are waits."""
    return sum(name in SYNCHRONIZING for name in names)


class DeviceWaits:
    """Counts waits; what the profiler itself waits for is the same in each run, and so not in a difference of two."""

    def __init__(self) -> None:
        self.count = 0

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Count meanwhile."""
        with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA], acc_events=True) as seen:
            yield
        self.count = waits_in(event.name for event in seen.events())


def copied_from(names: Iterable[str]) -> set[str]:
    """Return from which kinds of memory of the host a profile has copied to the device."""
    start = "Memcpy HtoD ("
    return {name.removeprefix(start).partition(" ->")[0] for name in names if name.startswith(start)}
