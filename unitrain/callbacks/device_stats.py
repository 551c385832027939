"""Logs memory usage and system load."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import torch

from unitrain.callbacks.callback import Callback
from unitrain.compat.other_names import callback_arguments_for
from unitrain.errors import ConfigError, named_arguments

if TYPE_CHECKING:
    from unitrain.run.context import RunContext


_APART = 0.1
"""Minimum seconds between two readings of CPU time; its ticks are too coarse below that."""


@named_arguments(ConfigError, callback_arguments_for)
class DeviceStats(Callback):
    """Logs memory in bytes, at the end of each epoch and in each row of a tracker.

    On a GPU ``device/memory_allocated``, ``device/memory_reserved`` and ``device/memory_peak`` (since the epoch began);
    elsewhere ``device/process_memory``, which needs psutil.

    Args:
        system: Whether to log also ``device/cpu_percent`` (of this process since the last reading, relative to one
            core, so above 100 for several busy cores) and ``device/system_memory_percent``, which require psutil, and
            on a GPU ``device/gpu_percent``, which requires pynvml and is omitted without it.

    Raises:
        ConfigError: When training starts, if psutil is required and not installed.

    Example:
        >>> trainer = UnifiedTrainer("reference", callbacks=[DeviceStats(system=True)], loggers=[CSVLogger("runs")])
    """

    def __init__(self, *, system: bool = False) -> None:
        self._system = system

    def on_fit_start(self, run: RunContext) -> None:
        """Offer the values to trackers."""
        self._device = _device(run)
        self._row: tuple[int, dict[str, float]] = (-1, {})
        if self._system:
            self._process = _psutil().Process()
            self._clocks = self._read_clocks()
            self._busy = 0.0
            self._gpu = _gpu_percent(self._device) is not None
        for name in self.read(self._device):
            run.hub.step_metrics[name] = lambda name=name: self._of_row(run.state.batch)[name]  # type: ignore[misc]

    def _of_row(self, batch: int) -> dict[str, float]:
        """Read once for all values of a row."""
        if self._row[0] != batch:
            self._row = batch, self.read(self._device)
        return self._row[1]

    def on_epoch_start(self, run: RunContext) -> None:  # noqa: ARG002 - a handler's signature
        """Begin a new peak."""
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)

    def on_epoch_end(self, run: RunContext) -> None:
        """Log the values."""
        run.hub.publish(self.read(self._device))

    def read(self, device: torch.device) -> dict[str, float]:
        """Return what is known of ``device`` now."""
        found = _memory(device)
        if self._system:
            found["device/cpu_percent"] = self._cpu_percent()
            found["device/system_memory_percent"] = float(_psutil().virtual_memory().percent)
            gpu = _gpu_percent(device) if self._gpu else None
            if gpu is not None:
                found["device/gpu_percent"] = gpu
        return found

    def _cpu_percent(self) -> float:
        """Return how busy the process was since the last reading, or that reading if it was just now."""
        clocks = self._read_clocks()
        busy, passed = (now - before for now, before in zip(clocks, self._clocks, strict=True))
        if passed >= _APART:
            self._clocks, self._busy = clocks, 100.0 * busy / passed
        return self._busy

    def _read_clocks(self) -> tuple[float, float]:
        times = self._process.cpu_times()
        return times.user + times.system, time.monotonic()


def _memory(device: torch.device) -> dict[str, float]:
    if device.type != "cuda":
        return {"device/process_memory": float(_psutil().Process().memory_info().rss)}
    return {
        "device/memory_allocated": float(torch.cuda.memory_allocated(device)),
        "device/memory_reserved": float(torch.cuda.memory_reserved(device)),
        "device/memory_peak": float(torch.cuda.max_memory_allocated(device)),
    }


def _gpu_percent(device: torch.device) -> float | None:
    """Return how busy the GPU is, or None where torch cannot tell."""
    if device.type != "cuda":
        return None
    try:
        return float(torch.cuda.utilization(device))
    except Exception:  # noqa: BLE001 - pynvml raises errors of its own, for a driver or a machine that does not tell
        return None


def _device(run: RunContext) -> torch.device:
    parameter = next(run.model.parameters(), None)
    return torch.device("cpu") if parameter is None else parameter.device


def _psutil() -> Any:
    try:
        import psutil  # noqa: PLC0415 - only those who use it need it
    except ModuleNotFoundError as error:
        raise ConfigError(
            "DeviceStats() requires psutil, which is not installed.",
            hint="pip install psutil",
        ) from error
    return psutil
