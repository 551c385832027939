"""The one place that imports Lightning and knows its versions and its two names."""

from __future__ import annotations

import logging
import warnings
from contextlib import contextmanager
from functools import reduce
from importlib import import_module
from typing import TYPE_CHECKING, Any

from unitrain.compat.blocked import check_blocked, warn_mismatch

if TYPE_CHECKING:
    from collections.abc import Iterator

REQUIRES = ("pytorch-lightning>=2.4,!=2.6.2,!=2.6.3",)

check_blocked()
warn_mismatch()

try:
    import pytorch_lightning as pl
except ModuleNotFoundError as missing:
    if missing.name != "pytorch_lightning":
        raise
    import lightning.pytorch as pl  # type: ignore[no-redef]

Callback: Any = pl.Callback
LightningDataModule: Any = pl.LightningDataModule
LightningModule: Any = pl.LightningModule
Logger: Any = pl.loggers.Logger
Trainer: Any = pl.Trainer
Checkpoint: Any = pl.callbacks.Checkpoint
EarlyStopping: Any = pl.callbacks.EarlyStopping
ModelSummary: Any = pl.callbacks.ModelSummary
ProgressBar: Any = pl.callbacks.ProgressBar
Profiler: Any = pl.profilers.Profiler
Precision: Any = pl.plugins.Precision
MixedPrecision: Any = pl.plugins.MixedPrecision
HalfPrecision: Any = pl.plugins.HalfPrecision
DoublePrecision: Any = pl.plugins.DoublePrecision
ClusterEnvironment: Any = pl.plugins.ClusterEnvironment  # type: ignore[attr-defined]
DDPStrategy: Any = pl.strategies.DDPStrategy
rank_zero_only: Any = pl.utilities.rank_zero_only
migrate_checkpoint: Any = pl.utilities.migration.migrate_checkpoint  # type: ignore[attr-defined]

_BESIDE_THE_POINT = (
    # the shell defines every step; which loaders there are is unitrain's to check
    r"You defined a `\w+` but have no `\w+`",
    # frozen submodules are the user's wish
    r"Found \d+ module\(s\) in eval mode at the start of training",
    # unitrain's own batches come from a wrapper; the advice is about DataLoaders
    r".*does not have many workers which may be a bottleneck",
    # the device was chosen by unitrain, and named
    r"(GPU|MPS) available but not used",
    # Lightning's own callbacks ask for the interval, which is unitrain's too
    r"The number of training batches \(\d+\) is smaller than the logging interval",
    r"`isinstance\(treespec, LeafSpec\)` is deprecated",
)


@contextmanager
def quietly() -> Iterator[None]:
    """Keep back what Lightning says about things that unitrain decided; real warnings pass."""
    logs = [logging.getLogger(name) for name in ("pytorch_lightning", "lightning.pytorch")]
    levels = [log.level for log in logs]
    for log in logs:
        log.setLevel(max(log.level, logging.WARNING))
    try:
        with warnings.catch_warnings():
            for message in _BESIDE_THE_POINT:
                warnings.filterwarnings("ignore", message=message)
            yield
    finally:
        for log, level in zip(logs, levels, strict=True):
            log.setLevel(level)


_FABRIC = {"lightning.pytorch": "lightning.fabric", "pytorch_lightning": "lightning_fabric"}


def part(root: str, place: str) -> Any:
    """Return an object of Lightning.

    Args:
        root: ``"lightning.pytorch"`` or ``"pytorch_lightning"``: two copies of one framework, each with its classes.
        place: ``module:attribute`` below ``root``; below its Fabric if it begins with ``fabric.``.
    """
    module, _, attributes = place.partition(":")
    full = f"{_FABRIC[root]}.{module.removeprefix('fabric.')}" if module.startswith("fabric.") else f"{root}.{module}"
    return reduce(getattr, filter(None, attributes.split(".")), import_module(full))


__all__ = [
    "REQUIRES",
    "Callback",
    "Checkpoint",
    "ClusterEnvironment",
    "DDPStrategy",
    "DoublePrecision",
    "EarlyStopping",
    "HalfPrecision",
    "LightningDataModule",
    "LightningModule",
    "Logger",
    "MixedPrecision",
    "ModelSummary",
    "Precision",
    "Profiler",
    "ProgressBar",
    "Trainer",
    "migrate_checkpoint",
    "quietly",
    "rank_zero_only",
]
