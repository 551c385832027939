"""One training spec, two real engines: PyTorch-Lightning and PyTorch-Ignite with bit-identical results.

Names are resolved when they are first used, so ``import unitrain`` imports no framework and no torchmetrics.
"""

import gc as _gc
import importlib as _importlib
import sys as _sys
import typing as _typing

if _typing.TYPE_CHECKING:
    from unitrain.callbacks.accumulation import GradientAccumulationSchedule
    from unitrain.callbacks.callback import Callback
    from unitrain.callbacks.device_stats import DeviceStats
    from unitrain.callbacks.early_stopping import EarlyStopping
    from unitrain.callbacks.ema import EMA
    from unitrain.callbacks.empty_cache import EmptyCache
    from unitrain.callbacks.freeze import Freeze, Unfreeze
    from unitrain.callbacks.lr_monitor import LRMonitor
    from unitrain.callbacks.model_checkpoint import ModelCheckpoint
    from unitrain.callbacks.model_summary import ModelSummary
    from unitrain.callbacks.prediction_writer import PredictionWriter
    from unitrain.callbacks.progress import ProgressBar
    from unitrain.callbacks.summary import Summary, summarize
    from unitrain.callbacks.swa import StochasticWeightAveraging
    from unitrain.callbacks.terminate_on_nan import TerminateOnNaN
    from unitrain.callbacks.timer import Timer
    from unitrain.checkpoint.convert.conversion import convert_checkpoint
    from unitrain.checkpoint.model_weights import load_weights
    from unitrain.config import TrainerConfig
    from unitrain.data.combined import CombinedLoader
    from unitrain.data.sharding import OwnBatches, ShardedBatches
    from unitrain.data.sources import DataSpec
    from unitrain.data.vectorized import vectorized
    from unitrain.deployment.bundle.make import bundle
    from unitrain.deployment.cloud_model import CloudModel
    from unitrain.deployment.deploy import deploy
    from unitrain.deployment.deployment import Deployment
    from unitrain.deployment.undeploy import undeploy
    from unitrain.distributed.options import DDP, FSDP
    from unitrain.errors import (
        BackendNotInstalledError,
        CheckpointError,
        ConfigError,
        DataError,
        DeployError,
        DistributedError,
        ExportError,
        SpecError,
        UnitrainError,
        UnsupportedFeatureError,
        VersionError,
    )
    from unitrain.export.pipeline import export_module
    from unitrain.export.verify import ExportReport
    from unitrain.interop.ignite_programs import from_engine, from_step
    from unitrain.loggers.csv import CSVLogger
    from unitrain.loggers.metrics_client import MetricsClient
    from unitrain.loggers.mlflow import MLflowLogger
    from unitrain.loggers.otlp import OTLPLogger
    from unitrain.loggers.prometheus import PrometheusLogger
    from unitrain.loggers.statsd import StatsDLogger
    from unitrain.loggers.tensorboard import TensorBoardLogger
    from unitrain.loggers.wandb import WandbLogger
    from unitrain.metrics.class_names import per_class
    from unitrain.metrics.metric import metric
    from unitrain.run.context import RunContext
    from unitrain.run.hub import CustomEvent, Event, RunState
    from unitrain.run.result import FitResult
    from unitrain.serving.engine import InferenceEngine
    from unitrain.serving.serve import serve
    from unitrain.spec import LRSchedule, TrainSpec
    from unitrain.testing.comparison.compare import compare
    from unitrain.testing.comparison.comparison import Comparison
    from unitrain.trainer import UnifiedTrainer
    from unitrain.tuning.finders.batch_size_finder import BatchSizeFinder
    from unitrain.tuning.finders.lr_finder import LRFinder
    from unitrain.tuning.pruning import Pruning
    from unitrain.tuning.result import TuneResult
    from unitrain.tuning.study import tune
    from unitrain.utilities.rng import seed_everything
    from unitrain.utilities.version import __version__

_MODULES = {
    "unitrain.utilities.version": ("__version__",),
    "unitrain.tuning.finders.batch_size_finder": ("BatchSizeFinder",),
    "unitrain.callbacks.accumulation": ("GradientAccumulationSchedule",),
    "unitrain.callbacks.callback": ("Callback",),
    "unitrain.callbacks.device_stats": ("DeviceStats",),
    "unitrain.callbacks.early_stopping": ("EarlyStopping",),
    "unitrain.callbacks.ema": ("EMA",),
    "unitrain.callbacks.empty_cache": ("EmptyCache",),
    "unitrain.callbacks.freeze": ("Freeze", "Unfreeze"),
    "unitrain.callbacks.lr_monitor": ("LRMonitor",),
    "unitrain.callbacks.model_checkpoint": ("ModelCheckpoint",),
    "unitrain.callbacks.model_summary": ("ModelSummary",),
    "unitrain.callbacks.prediction_writer": ("PredictionWriter",),
    "unitrain.callbacks.progress": ("ProgressBar",),
    "unitrain.callbacks.swa": ("StochasticWeightAveraging",),
    "unitrain.callbacks.terminate_on_nan": ("TerminateOnNaN",),
    "unitrain.callbacks.timer": ("Timer",),
    "unitrain.checkpoint.convert.conversion": ("convert_checkpoint",),
    "unitrain.checkpoint.model_weights": ("load_weights",),
    "unitrain.config": ("TrainerConfig",),
    "unitrain.run.context": ("RunContext",),
    "unitrain.data.combined": ("CombinedLoader",),
    "unitrain.data.sources": ("DataSpec",),
    "unitrain.data.sharding": ("OwnBatches", "ShardedBatches"),
    "unitrain.deployment.cloud_model": ("CloudModel",),
    "unitrain.deployment.deploy": ("deploy",),
    "unitrain.deployment.deployment": ("Deployment",),
    "unitrain.deployment.undeploy": ("undeploy",),
    "unitrain.deployment.bundle.make": ("bundle",),
    "unitrain.distributed.options": ("DDP", "FSDP"),
    "unitrain.interop.ignite_programs": ("from_engine", "from_step"),
    "unitrain.errors": (
        "BackendNotInstalledError",
        "CheckpointError",
        "ConfigError",
        "DataError",
        "DeployError",
        "DistributedError",
        "ExportError",
        "SpecError",
        "UnitrainError",
        "UnsupportedFeatureError",
        "VersionError",
    ),
    "unitrain.run.hub": ("CustomEvent", "Event", "RunState"),
    "unitrain.export.pipeline": ("export_module",),
    "unitrain.export.verify": ("ExportReport",),
    "unitrain.data.vectorized": ("vectorized",),
    "unitrain.loggers.csv": ("CSVLogger",),
    "unitrain.loggers.metrics_client": ("MetricsClient",),
    "unitrain.loggers.mlflow": ("MLflowLogger",),
    "unitrain.loggers.otlp": ("OTLPLogger",),
    "unitrain.loggers.prometheus": ("PrometheusLogger",),
    "unitrain.loggers.statsd": ("StatsDLogger",),
    "unitrain.loggers.tensorboard": ("TensorBoardLogger",),
    "unitrain.loggers.wandb": ("WandbLogger",),
    "unitrain.tuning.finders.lr_finder": ("LRFinder",),
    "unitrain.metrics.metric": ("metric",),
    "unitrain.metrics.class_names": ("per_class",),
    "unitrain.run.result": ("FitResult",),
    "unitrain.serving.engine": ("InferenceEngine",),
    "unitrain.serving.serve": ("serve",),
    "unitrain.utilities.rng": ("seed_everything",),
    "unitrain.spec": ("LRSchedule", "TrainSpec"),
    "unitrain.callbacks.summary": ("Summary", "summarize"),
    "unitrain.testing.comparison.compare": ("compare",),
    "unitrain.testing.comparison.comparison": ("Comparison",),
    "unitrain.trainer": ("UnifiedTrainer",),
    "unitrain.tuning.pruning": ("Pruning",),
    "unitrain.tuning.result": ("TuneResult",),
    "unitrain.tuning.study": ("tune",),
}
_HOMES = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [  # noqa: RUF022 - as sorted() has it, which a test holds
    "BackendNotInstalledError",
    "BatchSizeFinder",
    "CSVLogger",
    "Callback",
    "CheckpointError",
    "CloudModel",
    "CombinedLoader",
    "Comparison",
    "ConfigError",
    "CustomEvent",
    "DDP",
    "DataError",
    "DataSpec",
    "DeployError",
    "Deployment",
    "DeviceStats",
    "DistributedError",
    "EMA",
    "EarlyStopping",
    "EmptyCache",
    "Event",
    "ExportError",
    "ExportReport",
    "FSDP",
    "FitResult",
    "Freeze",
    "GradientAccumulationSchedule",
    "InferenceEngine",
    "LRFinder",
    "LRMonitor",
    "LRSchedule",
    "MLflowLogger",
    "MetricsClient",
    "ModelCheckpoint",
    "ModelSummary",
    "OTLPLogger",
    "OwnBatches",
    "PredictionWriter",
    "ProgressBar",
    "PrometheusLogger",
    "Pruning",
    "RunContext",
    "RunState",
    "ShardedBatches",
    "SpecError",
    "StatsDLogger",
    "StochasticWeightAveraging",
    "Summary",
    "TensorBoardLogger",
    "TerminateOnNaN",
    "Timer",
    "TrainSpec",
    "TrainerConfig",
    "TuneResult",
    "Unfreeze",
    "UnifiedTrainer",
    "UnitrainError",
    "UnsupportedFeatureError",
    "VersionError",
    "WandbLogger",
    "__version__",
    "bundle",
    "compare",
    "convert_checkpoint",
    "deploy",
    "export_module",
    "from_engine",
    "from_step",
    "load_weights",
    "metric",
    "per_class",
    "seed_everything",
    "serve",
    "summarize",
    "tune",
    "undeploy",
    "vectorized",
]


def __getattr__(name: str) -> _typing.Any:
    if name not in _HOMES:
        # with these two, Python's traceback says what may be meant
        raise AttributeError(f"module 'unitrain' has no attribute {name!r}", name=name, obj=_sys.modules[__name__])
    # All of it stays: a full collection in the middle would look at every object of torch (90 ms) and find nothing.
    collects = _gc.isenabled()
    _gc.disable()
    try:
        value = globals()[name] = getattr(_importlib.import_module(_HOMES[name]), name)
    finally:
        if collects:
            _gc.enable()
    return value


def __dir__() -> list[str]:
    return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})
