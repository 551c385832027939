"""Maps trainer options to Ignite."""

from __future__ import annotations

from typing import Final

from unitrain.backends.protocol import Translation

_STEP = "unitrain.loop.step: Ignite leaves the step to the process function"
_DATA = "unitrain.data.batches: Ignite's epoch_length continues the loader instead of restarting it"
_SANITY = (
    "unitrain.session.sanity_check: on an Engine of its own, so that no handler sees it and no random number is used up"
)
_RELOAD = "unitrain.session.fit_data: before an epoch starts, with exact resume"
_EVALUATOR = "a second Engine, run on ITERATION_COMPLETED when unitrain.run.stopping says so; Ignite does not validate"
_STOP = "unitrain.run.stopping: Engine.terminate() skips EPOCH_COMPLETED, so the epoch is ended first"
_TRACK = "unitrain.loggers.dispatch: Ignite's loggers count iterations, and name nothing"
_TEAM = "unitrain.distributed: one process group, joined before the backend is built"
_STRATEGY = (
    "unitrain.distributed.strategies.ddp: torch's DistributedDataParallel around the forward pass of the shared step"
)
_SWITCH = "unitrain.loop.device: a switch of torch, set around the run"

OPTIONS: Final[dict[str, Translation]] = {
    "max_epochs": Translation("Engine.run(max_epochs=)"),
    "min_epochs": Translation(shared=_STOP),
    "max_steps": Translation(shared=_STOP),
    "min_steps": Translation(shared=_STOP),
    "max_time": Translation(shared=_STOP),
    "accelerator": Translation(shared="torch: the model and the batches are moved there"),
    "devices": Translation(shared="torch: the model and the batches are moved there, in one process a device"),
    "num_nodes": Translation(shared=_TEAM),
    "strategy": Translation(shared=_STRATEGY),
    "prefetch_to_device": Translation(shared="unitrain.data.transfer: a CUDA stream of its own for the copies"),
    "sync_batchnorm": Translation(
        shared="unitrain.distributed.strategies.batchnorm: torch's SyncBatchNorm during the fit"
    ),
    "compile": Translation(
        shared="unitrain.loop.device: torch.compile of the model's call during the run; no name changes"
    ),
    "precision": Translation(
        shared="unitrain.loop.precision: autocast and GradScaler; supervised_training_step_amp autocasts on CUDA only"
    ),
    "accumulate_grad_batches": Translation(shared=_STEP),
    "gradient_clip_val": Translation(shared=_STEP),
    "gradient_clip_algorithm": Translation(shared=_STEP),
    "val_check_interval": Translation(shared=_EVALUATOR),
    "check_val_every_n_epoch": Translation(shared=_EVALUATOR),
    "limit_train_batches": Translation("Engine.run(epoch_length=)", _DATA),
    "limit_val_batches": Translation("Engine.run(epoch_length=)", _DATA),
    "limit_test_batches": Translation("Engine.run(epoch_length=)", _DATA),
    "limit_predict_batches": Translation("Engine.run(epoch_length=)", _DATA),
    "num_sanity_val_steps": Translation(shared=_SANITY),
    "reload_dataloaders_every_n_epochs": Translation(shared=_RELOAD),
    "fast_dev_run": Translation(shared="unitrain.config: stands for the limits and one epoch"),
    "overfit_batches": Translation(shared=_DATA),
    "deterministic": Translation(shared=_SWITCH),
    "benchmark": Translation(shared=_SWITCH),
    "detect_anomaly": Translation(shared=_SWITCH),
    "seed": Translation(shared="unitrain.utilities.rng: a plain Engine; DeterministicEngine seeds anew each epoch"),
    "callbacks": Translation("handler.attach(engine)", "unitrain.run.hub: Callbacks listen to the hub"),
    "loggers": Translation(shared=_TRACK),
    "log_every_n_steps": Translation(shared=_TRACK),
    "enable_progress_bar": Translation(shared="unitrain.callbacks.progress: one bar on both backends"),
    "default_root_dir": Translation(shared="unitrain: where its own files go"),
    "profiler": Translation(shared="unitrain.utilities.profiling: the same parts on both backends"),
    "native": Translation("Engine(process_function) takes nothing else; use create_trainer()"),
}
"""Options that are not listed belong to features that the adapter does not declare: non-default values raise."""
