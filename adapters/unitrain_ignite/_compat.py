"""The one place that imports Ignite and knows its versions."""

from __future__ import annotations

import warnings

with warnings.catch_warnings():
    # Ignite imports torch.distributed.optim, which uses what torch 2.13 deprecates.
    warnings.filterwarnings("ignore", message=r"`torch\.jit\.\w+` is deprecated", category=DeprecationWarning)
    from ignite.engine import Engine, Events
    from ignite.metrics import Metric

REQUIRES = ("pytorch-ignite>=0.5.2",)

__all__ = ["REQUIRES", "Engine", "Events", "Metric"]
