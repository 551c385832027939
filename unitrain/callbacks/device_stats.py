"""Logs how much memory a run takes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from unitrain.callbacks.callback import Callback
from unitrain.errors import ConfigError

if TYPE_CHECKING:
    from unitrain.context import RunContext


class DeviceStats(Callback):
    """Logs memory in bytes, at the end of each epoch and in each row of a tracker.

    On a GPU ``device/memory_allocated``, ``device/memory_reserved`` and ``device/memory_peak`` (since the epoch began);
    elsewhere ``device/process_memory``, which needs psutil.

    Raises:
        ConfigError: When training starts on a CPU, and psutil is not installed.
    """

    def on_fit_start(self, run: RunContext) -> None:
        """Offer the values to trackers."""
        self._device = _device(run)
        for name in self.read(self._device):
            run.hub.gauges[name] = lambda name=name: self.read(self._device)[name]  # type: ignore[misc]

    def on_epoch_start(self, run: RunContext) -> None:  # noqa: ARG002 - a handler's signature
        """Begin a new peak."""
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)

    def on_epoch_end(self, run: RunContext) -> None:
        """Log the values."""
        run.hub.publish(self.read(self._device))

    def read(self, device: torch.device) -> dict[str, float]:
        """Return what is known of ``device`` now."""
        if device.type != "cuda":
            return {"device/process_memory": float(_psutil().Process().memory_info().rss)}
        return {
            "device/memory_allocated": float(torch.cuda.memory_allocated(device)),
            "device/memory_reserved": float(torch.cuda.memory_reserved(device)),
            "device/memory_peak": float(torch.cuda.max_memory_allocated(device)),
        }


def _device(run: RunContext) -> torch.device:
    parameter = next(run.model.parameters(), None)
    return torch.device("cpu") if parameter is None else parameter.device


def _psutil() -> Any:
    try:
        import psutil  # noqa: PLC0415 - only those who use it need it
    except ModuleNotFoundError as error:
        raise ConfigError(
            "DeviceStats() reads the memory of the process through psutil, which is not installed.",
            hint="pip install psutil",
        ) from error
    return psutil
