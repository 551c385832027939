"""Maps UnifiedTrainer's options to Trainer arguments."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any

from unitrain.config import TrainerConfig
from unitrain.distributed.options import Strategy
from unitrain.errors import ConfigError, UnsupportedFeatureError
from unitrain.loggers.preparation import takes_batches
from unitrain.utilities.validators import NotGiven
from unitrain_bridges.lightning.trackers import logger_of

if TYPE_CHECKING:
    from unitrain_bridges.lightning.namespace import Parts

HOME = "lightning"
_OWN = ("compile", "seed", "native", "loggers", "callbacks", "devices")
"""Options without a Trainer argument of the same name; the seed is set before each run, the others are handled
separately."""


def arguments(config: TrainerConfig, parts: Parts, callbacks: list[Any]) -> dict[str, Any]:
    """Return the arguments for a Trainer.

    Args:
        config: UnifiedTrainer's options, as they were given.
        parts: The parts of Lightning that the module comes from.
        callbacks: Lightning's, among those that were given.

    Raises:
        UnitrainError: If an option cannot act on a LightningModule, or is given twice.
    """
    _refuse(config)
    found: dict[str, Any] = {"devices": config.devices}
    for one in fields(TrainerConfig):
        if one.name not in _OWN and config.changed(one.name):
            found[one.name] = getattr(config, one.name)
    if callbacks:
        found["callbacks"] = callbacks
    if not isinstance(config.loggers, NotGiven):
        found["logger"] = _loggers(config, parts) or False
    own = dict((config.native or {}).get(HOME, {}))
    twice = sorted((found.keys() - {"devices"}) & own.keys())
    if twice:
        raise ConfigError(
            f"{', '.join(twice)}: given both as an option and in native={{{HOME!r}: ...}}.", hint="use one of them."
        )
    return {**found, **own}


def _loggers(config: TrainerConfig, parts: Parts) -> list[Any]:
    """Return the trackers of rows; those of batches are called by a callback."""
    return [logger_of(parts, one) for one in config.loggers if not takes_batches(one)]


def _refuse(config: TrainerConfig) -> None:
    if config.profiler is not None and not isinstance(config.profiler, str):
        raise UnsupportedFeatureError(
            "profiler= takes a torch profiler for a TrainSpec; a LightningModule needs a Lightning profiler.",
            hint='native={"lightning": {"profiler": PyTorchProfiler(...)}}',
        )
    if config.prefetch_to_device:
        raise UnsupportedFeatureError(
            "prefetch_to_device=True is for a TrainSpec; Lightning copies a LightningModule's batches by its hooks.",
            hint="remove it, and set pin_memory=True in the DataLoader.",
        )
    if isinstance(config.strategy, Strategy):
        raise UnsupportedFeatureError(
            f"strategy={config.strategy!r} is for a TrainSpec.",
            hint=f'strategy={config.strategy.name!r}, or native={{"lightning": {{"strategy": ...}}}}.',
        )
