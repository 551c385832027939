"""The Lightning classes that a bridge uses, from the package of the user's module."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from unitrain_lightning.namespace import Namespace, root_of

if TYPE_CHECKING:
    from collections.abc import Mapping

_CONNECTORS = "trainer.connectors"
_LOGGING = f"{_CONNECTORS}.logger_connector"

_PLACES = {
    # what a script sees
    "LightningDataModule": "core.datamodule:LightningDataModule",
    "ModelCheckpoint": "callbacks:ModelCheckpoint",
    "Timer": "callbacks:Timer",
    "BatchSizeFinder": "callbacks:BatchSizeFinder",
    "LearningRateFinder": "callbacks:LearningRateFinder",
    "BasePredictionWriter": "callbacks:BasePredictionWriter",
    "PassThroughProfiler": "profilers:PassThroughProfiler",
    "LightningOptimizer": "core.optimizer:LightningOptimizer",
    "PrecisionPlugin": "plugins.precision:Precision",
    "SingleDeviceStrategy": "strategies:SingleDeviceStrategy",
    "GradClipAlgorithmType": "utilities.enums:GradClipAlgorithmType",
    "MisconfigurationException": "utilities.exceptions:MisconfigurationException",
    "SIGTERMException": "utilities.exceptions:SIGTERMException",
    "version": "trainer.trainer:pl.__version__",
    # what reads arguments, without running anything
    "AcceleratorConnector": f"{_CONNECTORS}.accelerator_connector:_AcceleratorConnector",
    "CallbackConnector": f"{_CONNECTORS}.callback_connector:_CallbackConnector",
    "CheckpointConnector": f"{_CONNECTORS}.checkpoint_connector:_CheckpointConnector",
    "DataConnector": f"{_CONNECTORS}.data_connector:_DataConnector",
    "SignalConnector": f"{_CONNECTORS}.signal_connector:_SignalConnector",
    "parse_env_variables": "utilities.argparse:_parse_env_variables",
    "init_debugging_flags": "trainer.setup:_init_debugging_flags",
    "init_profiler": "trainer.setup:_init_profiler",
    "log_device_info": "trainer.setup:_log_device_info",
    "parse_loop_limits": "loops.utilities:_parse_loop_limits",
    "verify_loop_configurations": "trainer.configuration_validator:_verify_loop_configurations",
    # data
    "CombinedLoader": "utilities.combined_loader:CombinedLoader",
    "combined_modes": "utilities.combined_loader:_SUPPORTED_MODES",
    "DataLoaderIterDataFetcher": "loops.fetchers:_DataLoaderIterDataFetcher",
    "DataLoaderSource": f"{_CONNECTORS}.data_connector:_DataLoaderSource",
    "check_dataloader_iterable": f"{_CONNECTORS}.data_connector:_check_dataloader_iterable",
    "has_len_all_ranks": "utilities.data:has_len_all_ranks",
    "parse_num_batches": f"{_CONNECTORS}.data_connector:_parse_num_batches",
    "process_dataloader": f"{_CONNECTORS}.data_connector:_process_dataloader",
    "request_dataloader": f"{_CONNECTORS}.data_connector:_request_dataloader",
    "resolve_overfit_batches": f"{_CONNECTORS}.data_connector:_resolve_overfit_batches",
    "select_data_fetcher": "loops.utilities:_select_data_fetcher",
    "set_sampler_epoch": "fabric.utilities.data:_set_sampler_epoch",
    "sized_len": "fabric.utilities.data:sized_len",
    # values, counters and words
    "BaseProgress": "loops.progress:_BaseProgress",
    "BatchProgress": "loops.progress:_BatchProgress",
    "OptimizationProgress": "loops.progress:_OptimizationProgress",
    "Progress": "loops.progress:_Progress",
    "ReadyCompletedTracker": "loops.progress:_ReadyCompletedTracker",
    "SchedulerProgress": "loops.progress:_SchedulerProgress",
    "EvaluationLoop": "loops:_EvaluationLoop",
    "FitLoop": "loops:_FitLoop",
    "TrainingEpochLoop": "loops:_TrainingEpochLoop",
    "PredictionLoop": "loops:_PredictionLoop",
    "AutomaticOptimization": "loops.optimization.automatic:_AutomaticOptimization",
    "ManualOptimization": "loops.optimization.manual:_ManualOptimization",
    "ResultCollection": f"{_LOGGING}.result:_ResultCollection",
    "Closure": "loops.optimization.automatic:Closure",
    "ClosureResult": "loops.optimization.automatic:ClosureResult",
    "ManualResult": "loops.optimization.manual:ManualResult",
    "ModuleMode": "utilities.model_helpers:_ModuleMode",
    "RunningStage": "trainer.states:RunningStage",
    "TrainerFn": "trainer.states:TrainerFn",
    "trainer_log": "trainer.trainer:log",
    "fit_loop_log": "loops.fit_loop:log",
    "TrainerState": "trainer.states:TrainerState",
    "TrainerStatus": "trainer.states:TrainerStatus",
    "TensorBoardLogger": "loggers:TensorBoardLogger",
    "CSVLogger": "loggers:CSVLogger",
    "WarningCache": "utilities.rank_zero:WarningCache",
    "PossibleUserWarning": "utilities.warnings:PossibleUserWarning",
    # functions that call hooks and compare
    "call": "trainer.call:",
    "convert_tensors_to_scalars": "fabric.utilities.apply_func:convert_tensors_to_scalars",
    "do_nothing_closure": "core.optimizer:do_nothing_closure",
    "clean_namespace": "utilities.parsing:clean_namespace",
    "is_local_file_protocol": "fabric.utilities.cloud_io:_is_local_file_protocol",
    "is_overridden": "utilities.model_helpers:is_overridden",
    "is_param_in_hook_signature": "utilities.signature_utils:is_param_in_hook_signature",
    "isolate_rng": "utilities.seed:isolate_rng",
    "log_hyperparams": "loggers.utilities:_log_hyperparams",
    "maybe_unwrap_optimized": "utilities.compile:_maybe_unwrap_optimized",
    "move_data_to_device": "fabric.utilities.apply_func:move_data_to_device",
    "print_results": "loops.evaluation_loop:_EvaluationLoop._print_results",
    "rank_zero_debug": "utilities.rank_zero:rank_zero_debug",
    "rank_zero_info": "utilities.rank_zero:rank_zero_info",
    "rank_zero_only": "utilities.rank_zero:rank_zero_only",
    "rank_zero_warn": "utilities.rank_zero:rank_zero_warn",
    "seen_batches_wrapper": "overrides.distributed:_IndexBatchSamplerWrapper",
    "to_uncompiled": "utilities.compile:to_uncompiled",
    "verify_dataloader_idx_requirement": "loops.utilities:_verify_dataloader_idx_requirement",
    "verify_strategy_supports_compile": "utilities.compile:_verify_strategy_supports_compile",
}


class Parts(Namespace):
    """Lightning's objects by name, each looked up on first use.

    Args:
        root: The package.
    """

    places: ClassVar[Mapping[str, str]] = {**Namespace.places, **_PLACES}
    known: ClassVar[tuple[str, ...]] = tuple(places)


def parts_of(code: Any) -> Parts:
    """Return the parts of the package that ``code``, a LightningModule, comes from."""
    return Parts(next(root for root in map(root_of, type(code).__mro__) if root))
