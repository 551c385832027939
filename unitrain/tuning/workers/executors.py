"""The executors, which run the workers of a study."""

from __future__ import annotations

from importlib import import_module
from typing import Any, Final

from unitrain.errors import ConfigError, did_you_mean

PROCESSES: Final = "processes"
_EXECUTORS: Final = {
    PROCESSES: ("unitrain.tuning.workers.processes", "WorkerProcesses"),
    "ray": ("unitrain.tuning.workers.ray_workers", "RayWorkers"),
}


def require_executor(name: Any) -> None:
    """Refuse an unknown executor.

    Raises:
        ConfigError: If it is unknown; the message lists the accepted names.
    """
    if not isinstance(name, str) or name not in _EXECUTORS:
        raise ConfigError(f"tune(executor={name!r}) is unknown.", hint=did_you_mean(str(name), _EXECUTORS))


def executor_of(name: str) -> Any:
    """Return the class that runs workers."""
    module, made = _EXECUTORS[name]
    return getattr(import_module(module), made)
