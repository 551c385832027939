"""Callbacks: several handlers and a state in one object. One callback a file."""

from unitrain.callbacks.accumulation import GradientAccumulationSchedule
from unitrain.callbacks.callback import Callback, Decider, Preparer, named, prepare, register
from unitrain.callbacks.device_stats import DeviceStats
from unitrain.callbacks.early_stopping import EarlyStopping
from unitrain.callbacks.ema import EMA
from unitrain.callbacks.empty_cache import EmptyCache
from unitrain.callbacks.freeze import Freeze, Unfreeze
from unitrain.callbacks.history import History
from unitrain.callbacks.lr_monitor import LRMonitor
from unitrain.callbacks.model_checkpoint import ModelCheckpoint
from unitrain.callbacks.model_summary import ModelSummary
from unitrain.callbacks.prediction_writer import PredictionWriter
from unitrain.callbacks.progress import ProgressBar
from unitrain.callbacks.swa import StochasticWeightAveraging
from unitrain.callbacks.terminate_on_nan import TerminateOnNaN
from unitrain.callbacks.timer import Timer

__all__ = [
    "EMA",
    "Callback",
    "Decider",
    "DeviceStats",
    "EarlyStopping",
    "EmptyCache",
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
