"""What cannot be done on several processes, refused on all of them before anything runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from unitrain.callbacks import ModelCheckpoint
from unitrain.distributed.strategy import FSDP
from unitrain.errors import ConfigError, UnsupportedFeatureError

if TYPE_CHECKING:
    from collections.abc import Iterable

    import torch

    from unitrain.callbacks import Callback
    from unitrain.config import TrainerConfig


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
    if isinstance(config.plan, FSDP):
        raise UnsupportedFeatureError('strategy="fsdp" is not there yet.', hint='strategy="ddp".')
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
