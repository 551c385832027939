"""What cannot be done on several processes, refused on all of them before anything runs."""

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
    """Refuse what a run on several processes cannot mean.

    Args:
        config: The trainer's arguments.
        device: Where the tensors of this process are.
        callbacks: Those of the fit.
        closure: Whether the optimizer needs one.

    Raises:
        UnsupportedFeatureError: With what was asked and the way out.
        ConfigError: If batch norms cannot be synchronized on this device.
    """
    if closure:
        raise UnsupportedFeatureError(
            "an optimizer with a closure (LBFGS) decides by its own process's loss how often to evaluate it, so several"
            " processes would fall out of step.",
            hint="devices=1, or another optimizer.",
        )
    if any(isinstance(one, ModelCheckpoint) and one.save_on_exception for one in callbacks):
        raise UnsupportedFeatureError(
            "ModelCheckpoint(save_on_exception=True) would need the state of a process that has just failed.",
            hint="ModelCheckpoint(every_n_train_steps=...) keeps a checkpoint to go on from.",
        )
    if config.sync_batchnorm and device.type == "cpu":
        raise ConfigError(
            "sync_batchnorm=True: torch's SyncBatchNorm works on GPUs only, and this run is on the CPU.",
            hint="sync_batchnorm=False; nn.GroupNorm needs no other process.",
        )


def require_shardable(config: TrainerConfig, spec: TrainSpec) -> None:
    """Refuse what a fit cannot mean whose model is in parts.

    Raises:
        UnsupportedFeatureError: With what was asked and the way out.
    """
    if not isinstance(config.plan, FSDP):
        return
    given = spec.optimizer.values() if isinstance(spec.optimizer, Mapping) else (spec.optimizer,)
    refused = {
        "automatic_optimization=False": (
            not spec.automatic_optimization,
            "within a manual step, torch does not see where the forward pass ends and the parts can be let go",
        ),
        "an optimizer that is made already": (
            any(isinstance(one, Optimizer) for one in given),
            "it has the whole parameters, and those in parts are others: give a function that makes it",
        ),
        "compile=True": (config.compile, "the model is compiled whole, and in parts its code is another"),
        "sync_batchnorm=True": (config.sync_batchnorm, "torch's SyncBatchNorm is of whole parameters"),
    }
    for what, (asked, why) in refused.items():
        if asked:
            raise UnsupportedFeatureError(f'{what} does not go together with strategy="fsdp": {why}.', hint=_INSTEAD)


_INSTEAD = 'strategy="ddp".'
