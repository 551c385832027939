"""Maps trainer options to Lightning."""

from __future__ import annotations

from typing import Final

from unitrain.backends.protocol import Translation
from unitrain.config import TrainerConfig

_STEP = "unitrain.loop.step: automatic optimization would count other batches and cost more"
_DATA = "unitrain.data.batches: one wrapper limits alike on both backends"
_SANITY = "unitrain.session.sanity_check: on a Trainer of its own, unseen by callbacks, drawing no random number"
_RELOAD = "unitrain.session.fit_data: before an epoch starts, with exact resume"
_VALIDATION = "unitrain.run.stopping: the same rule on both backends, also in a resumed epoch"
_STOP = "unitrain.run.stopping, by trainer.should_stop: Lightning's global_step sums over optimizers"
_TRACK = "unitrain.loggers.dispatch: Lightning logs another step, each batch anew"
_FOR_CALLBACKS = f"{_TRACK}; its own callbacks reach the same trackers"
_TEAM = "unitrain.distributed: one process group, joined before the backend is built"
_STRATEGY = (
    "unitrain.distributed.strategies.ddp: torch's DistributedDataParallel around the forward pass of the shared step"
)
_PROFILE = "unitrain.utilities.profiling: the same parts on both backends; one of Lightning's own goes to native="
_SWITCH = "unitrain.loop.device: a switch of torch, set around the run"

OPTIONS: Final[dict[str, Translation]] = {
    "max_epochs": Translation("Trainer(max_epochs=)"),
    "min_epochs": Translation("Trainer(min_epochs=)", _STOP),
    "max_steps": Translation(shared=_STOP),
    "min_steps": Translation("Trainer(min_steps=)", _STOP),
    "max_time": Translation(shared=_STOP),
    "accelerator": Translation("Trainer(accelerator=)"),
    "devices": Translation("Trainer(devices=)"),
    "num_nodes": Translation("Trainer(num_nodes=)", _TEAM),
    "strategy": Translation("Trainer(strategy=DDPStrategy)", _STRATEGY),
    "prefetch_to_device": Translation(shared="unitrain.data.transfer: a CUDA stream of its own for the copies"),
    "sync_batchnorm": Translation(
        shared="unitrain.distributed.strategies.batchnorm: torch's SyncBatchNorm during the fit"
    ),
    "compile": Translation(
        shared="unitrain.loop.device: torch.compile of the model's call during the run; no name changes"
    ),
    "precision": Translation(
        "Trainer(plugins=[MixedPrecision, HalfPrecision or DoublePrecision])",
        "unitrain.loop.precision: Trainer(precision='16-mixed') would become bf16-mixed on a CPU",
    ),
    "accumulate_grad_batches": Translation(shared=_STEP),
    "gradient_clip_val": Translation("LightningModule.clip_gradients", _STEP),
    "gradient_clip_algorithm": Translation("LightningModule.clip_gradients", _STEP),
    "val_check_interval": Translation("trainer.val_check_batch", _VALIDATION),
    "check_val_every_n_epoch": Translation("Trainer(check_val_every_n_epoch=)"),
    "limit_train_batches": Translation(shared=_DATA),
    "limit_val_batches": Translation(shared=_DATA),
    "limit_test_batches": Translation(shared=_DATA),
    "limit_predict_batches": Translation(shared=_DATA),
    "num_sanity_val_steps": Translation(shared=_SANITY),
    "reload_dataloaders_every_n_epochs": Translation(shared=_RELOAD),
    "fast_dev_run": Translation(shared="unitrain.config: sets the limits and one epoch; callbacks stay on"),
    "overfit_batches": Translation(shared=_DATA),
    "deterministic": Translation(shared=_SWITCH),
    "benchmark": Translation(shared=_SWITCH),
    "detect_anomaly": Translation("Trainer(detect_anomaly=)"),
    "seed": Translation(shared="unitrain.utilities.rng: seed_everything(workers=True) would change the workers' draws"),
    "callbacks": Translation("Trainer(callbacks=)", "unitrain.run.hub: Callbacks listen to the hub"),
    "loggers": Translation("Trainer(logger=)", _FOR_CALLBACKS),
    "log_every_n_steps": Translation("Trainer(log_every_n_steps=)", _FOR_CALLBACKS),
    "enable_progress_bar": Translation(shared="unitrain.callbacks.progress: one bar on both backends"),
    "default_root_dir": Translation("Trainer(default_root_dir=)"),
    "profiler": Translation(shared=_PROFILE),
    "native": Translation("Trainer(**native)"),
}
"""Options that are not listed belong to features that the adapter does not declare: non-default values raise."""

_SAME_NAME = "pass it to UnifiedTrainer"

OWNED: Final[dict[str, str]] = {
    **dict.fromkeys(TrainerConfig.__dataclass_fields__.keys() - {"profiler"}, _SAME_NAME),
    "logger": "give UnifiedTrainer(loggers=)",
    "enable_checkpointing": "it follows from the callbacks",
    "enable_model_summary": "it follows from the callbacks",
    "use_distributed_sampler": "unitrain's loader wrapper owns the samplers",
    "inference_mode": "evaluation runs under torch.no_grad on both backends",
    "barebones": "it disables hooks that unitrain relies on",
}
"""Trainer arguments that ``native=`` must not set, with the reason."""
