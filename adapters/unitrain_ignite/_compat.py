"""The only module that imports Ignite and handles its versions."""

from __future__ import annotations

import inspect
import warnings
import weakref
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from packaging.version import Version

from unitrain.compat.differences import difference
from unitrain.compat.windows import refuse_outside
from unitrain.errors import VersionError

if TYPE_CHECKING:
    import logging
    from collections.abc import Iterator

REQUIRES = ("pytorch-ignite>=0.5.2",)
_DISTRIBUTION: Final = "pytorch-ignite"


refuse_outside(_DISTRIBUTION)

with warnings.catch_warnings():
    # Ignite imports torch.distributed.optim, which uses what torch 2.13 deprecates.
    warnings.filterwarnings("ignore", message=r"`torch\.jit\.\w+` is deprecated", category=DeprecationWarning)
    from ignite import __version__ as _installed
    from ignite.distributed.comp_models import registered_computation_models as _models
    from ignite.distributed.launcher import Parallel
    from ignite.engine import Engine, Events
    from ignite.handlers.early_stopping import EarlyStopping
    from ignite.handlers.terminate_on_nan import TerminateOnNan
    from ignite.handlers.time_limit import TimeLimit
    from ignite.metrics import Metric

_CHANGES: Final = "https://github.com/pytorch/ignite/releases/tag/"


def release() -> Version:
    """Return the installed release."""
    return Version(_installed)


@difference(_DISTRIBUTION, since="0.5.0", drop="0.5.0", link=f"{_CHANGES}v0.5.0.post1")
def logger(place: str) -> Any:
    """Return a class of the trackers, which were in ``ignite.contrib`` before.

    Args:
        place: ``module:name``.
    """
    module, _, name = place.partition(":")
    package = "ignite.contrib.handlers" if release() < Version("0.5.0") else "ignite.handlers"
    return getattr(import_module(f"{package}.{module}"), name)


BaseLogger: Any = logger("base_logger:BaseLogger")
MLflowLogger: Any = logger("mlflow_logger:MLflowLogger")
ProgressBar: Any = logger("tqdm_logger:ProgressBar")
TensorboardLogger: Any = logger("tensorboard_logger:TensorboardLogger")
WandBLogger: Any = logger("wandb_logger:WandBLogger")


@difference(_DISTRIBUTION, since="0.5.2", drop="0.5.2", link=f"{_CHANGES}v0.5.2")
def refuse_mlflow() -> None:
    """Refuse the tracker for MLflow of a release that asks MLflow for a private name, at the first row.

    Raises:
        VersionError: With the release that does not.
    """
    if release() < Version("0.5.2"):
        raise VersionError(
            f"the MLflowLogger of pytorch-ignite {release()} does not work with the installed MLflow; required:"
            f" >=0.5.2.",
            hint="use unitrain.loggers.MLflowLogger, or pip install 'pytorch-ignite>=0.5.2'.",
        )


@difference(_DISTRIBUTION, since="0.5.3", drop="0.5.3", link=f"{_CHANGES}v0.5.3")
def clears_output_first() -> bool:
    """Return whether an engine drops the last output before it fetches a batch; since 0.5.3 it does so afterwards."""
    return release() < Version("0.5.3")


@difference(_DISTRIBUTION, since="0.5.5", drop="0.5.5", link=f"{_CHANGES}v0.5.5")
def takes_max_iters() -> bool:
    """Return whether ``Engine.run`` can be limited by iterations: since 0.5.5."""
    return "max_iters" in inspect.signature(Engine.run).parameters


def spawning_models() -> tuple[Any, ...]:
    """Return the classes by which ``idist.spawn`` starts processes, one for each kind of backend."""
    return tuple(model for model in _models if "spawn" in vars(model))


def heard(engine: Engine, event: Events | str) -> bool:
    """Return whether any handler waits for ``event``; ``has_event_handler`` asks for one handler."""
    return bool(engine._event_handlers.get(event))  # noqa: SLF001 - there is no public way


def bound(engine: Engine) -> list[str]:
    """Return the names of the handlers bound to ``engine``: Ignite stores a weak reference to it beside each."""
    handlers = (one for some in engine._event_handlers.values() for one in some)  # noqa: SLF001 - there is no public way
    return [
        getattr(handler, "__qualname__", type(handler).__name__)
        for handler, arguments, _ in handlers
        if any(isinstance(one, weakref.ref) for one in arguments)
    ]


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
    "REQUIRES",
    "BaseLogger",
    "EarlyStopping",
    "Engine",
    "Events",
    "MLflowLogger",
    "Metric",
    "Parallel",
    "ProgressBar",
    "TensorboardLogger",
    "TerminateOnNan",
    "TimeLimit",
    "WandBLogger",
    "clears_output_first",
    "heard",
    "quietly",
    "refuse_mlflow",
    "release",
    "spawning_models",
    "takes_max_iters",
]
