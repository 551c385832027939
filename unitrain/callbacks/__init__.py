"""Callbacks: several handlers and their state in one object; one callback per file.

The callbacks are public through `unitrain`. Optional ones are imported on first use. Start reading in `callback.py`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from unitrain.callbacks.accumulation import GradientAccumulationSchedule
from unitrain.callbacks.callback import Callback, EpochDecision, Preparer, named, prepare, register
from unitrain.callbacks.early_stopping import EarlyStopping
from unitrain.callbacks.history import History
from unitrain.callbacks.model_checkpoint import ModelCheckpoint
from unitrain.callbacks.progress import ProgressBar

if TYPE_CHECKING:
    from unitrain.callbacks.device_stats import DeviceStats
    from unitrain.callbacks.ema import EMA
    from unitrain.callbacks.empty_cache import EmptyCache
    from unitrain.callbacks.freeze import Freeze, Unfreeze
    from unitrain.callbacks.lr_monitor import LRMonitor
    from unitrain.callbacks.model_summary import ModelSummary
    from unitrain.callbacks.prediction_writer import PredictionWriter
    from unitrain.callbacks.swa import StochasticWeightAveraging
    from unitrain.callbacks.terminate_on_nan import TerminateOnNaN
    from unitrain.callbacks.timer import Timer

__all__ = [
    "EMA",
    "Callback",
    "DeviceStats",
    "EarlyStopping",
    "EmptyCache",
    "EpochDecision",
    "Freeze",
    "GradientAccumulationSchedule",
    "History",
    "LRMonitor",
    "ModelCheckpoint",
    "ModelSummary",
    "PredictionWriter",
    "Preparer",
    "ProgressBar",
    "StochasticWeightAveraging",
    "TerminateOnNaN",
    "Timer",
    "Unfreeze",
    "named",
    "prepare",
    "register",
]

_HOMES = {
    "DeviceStats": "unitrain.callbacks.device_stats",
    "EMA": "unitrain.callbacks.ema",
    "EmptyCache": "unitrain.callbacks.empty_cache",
    "Freeze": "unitrain.callbacks.freeze",
    "Unfreeze": "unitrain.callbacks.freeze",
    "LRMonitor": "unitrain.callbacks.lr_monitor",
    "ModelSummary": "unitrain.callbacks.model_summary",
    "PredictionWriter": "unitrain.callbacks.prediction_writer",
    "StochasticWeightAveraging": "unitrain.callbacks.swa",
    "TerminateOnNaN": "unitrain.callbacks.terminate_on_nan",
    "Timer": "unitrain.callbacks.timer",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_HOMES[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})
