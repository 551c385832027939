"""One training spec, two real engines: PyTorch-Lightning and PyTorch-Ignite with the same bits.

Names are resolved when they are first used, so ``import unitrain`` imports no framework and no torchmetrics.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unitrain._version import __version__
    from unitrain.callbacks.callback import Callback
    from unitrain.callbacks.progress import ProgressBar
    from unitrain.config import TrainerConfig
    from unitrain.context import RunContext
    from unitrain.data import DataSpec
    from unitrain.errors import (
        BackendNotInstalledError,
        CheckpointError,
        ConfigError,
        DataError,
        DistributedError,
        ExportError,
        SpecError,
        UnitrainError,
        UnsupportedFeatureError,
        VersionError,
    )
    from unitrain.events import Event, RunState
    from unitrain.metrics import metric
    from unitrain.result import FitResult
    from unitrain.spec import LRSchedule, TrainSpec
    from unitrain.trainer import UnifiedTrainer

_MODULES = {
    "unitrain._version": ("__version__",),
    "unitrain.callbacks.callback": ("Callback",),
    "unitrain.callbacks.progress": ("ProgressBar",),
    "unitrain.config": ("TrainerConfig",),
    "unitrain.context": ("RunContext",),
    "unitrain.data": ("DataSpec",),
    "unitrain.errors": (
        "BackendNotInstalledError",
        "CheckpointError",
        "ConfigError",
        "DataError",
        "DistributedError",
        "ExportError",
        "SpecError",
        "UnitrainError",
        "UnsupportedFeatureError",
        "VersionError",
    ),
    "unitrain.events": ("Event", "RunState"),
    "unitrain.metrics": ("metric",),
    "unitrain.result": ("FitResult",),
    "unitrain.spec": ("LRSchedule", "TrainSpec"),
    "unitrain.trainer": ("UnifiedTrainer",),
}
_HOMES = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [
    "BackendNotInstalledError",
    "Callback",
    "CheckpointError",
    "ConfigError",
    "DataError",
    "DataSpec",
    "DistributedError",
    "Event",
    "ExportError",
    "FitResult",
    "LRSchedule",
    "ProgressBar",
    "RunContext",
    "RunState",
    "SpecError",
    "TrainSpec",
    "TrainerConfig",
    "UnifiedTrainer",
    "UnitrainError",
    "UnsupportedFeatureError",
    "VersionError",
    "__version__",
    "metric",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'unitrain' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_HOMES[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
