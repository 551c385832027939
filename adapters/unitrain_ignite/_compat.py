"""The one place that imports Ignite and knows its versions."""

from __future__ import annotations

import inspect
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING

from packaging.version import Version

if TYPE_CHECKING:
    import logging
    from collections.abc import Iterator

with warnings.catch_warnings():
    # Ignite imports torch.distributed.optim, which uses what torch 2.13 deprecates.
    warnings.filterwarnings("ignore", message=r"`torch\.jit\.\w+` is deprecated", category=DeprecationWarning)
    from ignite import __version__ as _installed
    from ignite.engine import Engine, Events
    from ignite.handlers.base_logger import BaseLogger
    from ignite.handlers.early_stopping import EarlyStopping
    from ignite.handlers.mlflow_logger import MLflowLogger
    from ignite.handlers.tensorboard_logger import TensorboardLogger
    from ignite.handlers.tqdm_logger import ProgressBar
    from ignite.handlers.wandb_logger import WandBLogger
    from ignite.metrics import Metric

REQUIRES = ("pytorch-ignite>=0.5.2",)

CLEARS_OUTPUT_FIRST = Version(_installed) < Version("0.5.3")
"""Whether an engine drops the last output before it fetches a batch; since 0.5.3 it does so afterwards."""


def takes_max_iters() -> bool:
    """Return whether ``Engine.run`` can be limited by iterations: since 0.5.5."""
    return "max_iters" in inspect.signature(Engine.run).parameters


def swallows_errors(engine: Engine) -> bool:
    """Return whether a handler waits for EXCEPTION_RAISED; ``has_event_handler`` asks for a handler, not for any."""
    return bool(engine._event_handlers.get(Events.EXCEPTION_RAISED))  # noqa: SLF001 - there is no public way


@contextmanager
def quietly(engine: Engine) -> Iterator[None]:
    """Keep back the log lines by which Ignite announces, twice, an error that it raises anyway."""

    def tells_more(record: logging.LogRecord) -> bool:
        return "run is terminating due to exception" not in str(record.msg)

    engine.logger.addFilter(tells_more)  # engines share a logger, so each needs a filter of its own
    try:
        yield
    finally:
        engine.logger.removeFilter(tells_more)


__all__ = [
    "CLEARS_OUTPUT_FIRST",
    "REQUIRES",
    "BaseLogger",
    "EarlyStopping",
    "Engine",
    "Events",
    "MLflowLogger",
    "Metric",
    "ProgressBar",
    "TensorboardLogger",
    "WandBLogger",
    "quietly",
    "swallows_errors",
    "takes_max_iters",
]
