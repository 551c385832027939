"""Refuses options that do not work with several processes, on all of them, before training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from torch.optim import Optimizer

from unitrain.callbacks import ModelCheckpoint
from unitrain.distributed.options import FSDP
from unitrain.errors import ConfigError, UnsupportedFeatureError

if TYPE_CHECKING:
    from collections.abc import Iterable

    import torch

    from unitrain.callbacks import Callback
    from unitrain.config import TrainerConfig
    from unitrain.spec import TrainSpec


def require_together(
    config: TrainerConfig, device: torch.device, callbacks: Iterable[Callback], *, closure: bool
) -> None:
    """Refuse what does not work with several processes.

    Args:
        config: The trainer's arguments.
        device: The device of this process.
        callbacks: The callbacks of the fit.
        closure: Whether the optimizer needs a closure.

    Raises:
        UnsupportedFeatureError: If a feature is not supported; the hint names an alternative.
        ConfigError: If batch norms cannot be synchronized on this device.
    """
    if closure:
        raise UnsupportedFeatureError(
            "an optimizer with a closure (LBFGS) evaluates it depending on the local loss, so several processes"
            " would get out of sync.",
            hint="devices=1, or another optimizer.",
        )
    if any(isinstance(one, ModelCheckpoint) and one.save_on_exception for one in callbacks):
        raise UnsupportedFeatureError(
            "ModelCheckpoint(save_on_exception=True) would need the state of a failed process.",
            hint="ModelCheckpoint(every_n_train_steps=...) keeps a checkpoint to resume from.",
        )
    if any(isinstance(one, ModelCheckpoint) and one.asynchronous for one in callbacks):
        raise UnsupportedFeatureError(
            "ModelCheckpoint(asynchronous=True) writes in a thread of a single process; several write together.",
            hint="asynchronous=False.",
        )
    if config.sync_batchnorm and device.type == "cpu":
        raise ConfigError(
            "sync_batchnorm=True: torch's SyncBatchNorm only works on GPUs, and this run is on the CPU.",
            hint="sync_batchnorm=False; or nn.GroupNorm, which needs no communication.",
        )


def require_shardable(config: TrainerConfig, spec: TrainSpec) -> None:
    """Refuse what does not work with a sharded model.

    Raises:
        UnsupportedFeatureError: If a feature is not supported; the hint names an alternative.
    """
    if not isinstance(config.plan, FSDP):
        return
    given = spec.optimizer.values() if isinstance(spec.optimizer, Mapping) else (spec.optimizer,)
    refused = {
        "automatic_optimization=False": (
            not spec.automatic_optimization,
            "in a manual step, torch cannot tell when the forward pass ends and shards can be freed",
        ),
        "an optimizer instance": (
            any(isinstance(one, Optimizer) for one in given),
            "it refers to the unsharded parameters: pass a function that creates it",
        ),
        "compile=True": (config.compile, "the model is compiled as a whole, but sharding changes its code"),
        "sync_batchnorm=True": (config.sync_batchnorm, "torch's SyncBatchNorm needs unsharded parameters"),
    }
    for what, (asked, why) in refused.items():
        if asked:
            raise UnsupportedFeatureError(f'{what} is not supported with strategy="fsdp": {why}.', hint=_INSTEAD)


_INSTEAD = 'strategy="ddp".'
