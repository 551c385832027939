"""Synchronized batch norms during a fit."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from unitrain.errors import SpecError

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def synchronized(model: nn.Module) -> Iterator[None]:
    """Replace each batch norm of ``model`` with torch's SyncBatchNorm, and restore the originals at the end.

    Both have the same parameters and buffers, so optimizers and checkpoints notice nothing.

    Raises:
        SpecError: If the model itself is a batch norm, which is in no place that another could take.
    """
    if isinstance(model, _BatchNorm):
        raise SpecError(
            "sync_batchnorm=True: the model itself is a batch norm.", hint="pass nn.Sequential(model) as the model."
        )
    places = [
        (parent, name, child)
        for parent in model.modules()
        for name, child in parent.named_children()
        if isinstance(child, _BatchNorm) and not isinstance(child, nn.SyncBatchNorm)
    ]
    for parent, name, own in places:
        setattr(parent, name, nn.SyncBatchNorm.convert_sync_batchnorm(own))  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        for parent, name, own in places:
            own.train(getattr(parent, name).training)
            setattr(parent, name, own)
