"""Maps Ignite handlers that stopped a run to FitResult's stop reasons."""

from __future__ import annotations

import time
from numbers import Number
from typing import TYPE_CHECKING, Any

import torch
from torch.utils._pytree import tree_leaves

from unitrain.run.stopping import EARLY_STOPPING, MAX_TIME, NAN, USER
from unitrain_ignite._compat import EarlyStopping, TerminateOnNan, TimeLimit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from unitrain_ignite._compat import Engine


def why_terminated(engine: Engine, others: Iterable[Engine] = (), *, transformed: bool = True) -> str:
    """Return why ``engine`` was terminated.

    Args:
        engine: The engine that trains.
        others: Engines whose handlers may end its run too, such as evaluators.
        transformed: Whether the ``output_transform`` of a TerminateOnNan may be called once more, which the author of
            an engine notices; without it, the output itself is looked at.
    """
    handlers = [handler for one in (engine, *others) for handler in _handlers(one)]
    for kind, ended, reason in _STOPPERS:
        if any(isinstance(handler, kind) and ended(handler, engine, transformed) for handler in handlers):
            return reason
    return USER


def _handlers(engine: Engine) -> list[Any]:
    """Return the handlers as they were given: without the wrapper of a filter, and the object of a bound method."""
    listed = [handler for some in engine._event_handlers.values() for handler, _, _ in some]  # noqa: SLF001
    given = [parent() if (parent := getattr(one, "_parent", None)) is not None else one for one in listed]
    return [getattr(one, "__self__", one) for one in given]


def _not_finite(handler: Any, engine: Engine, transformed: bool) -> bool:
    output = engine.state.output
    leaves = tree_leaves(handler._output_transform(output) if transformed else output)  # noqa: SLF001
    numbers = [torch.as_tensor(one) for one in leaves if isinstance(one, (Number, torch.Tensor))]
    return not all(bool(torch.isfinite(one).all()) for one in numbers)


_STOPPERS: tuple[tuple[type[Any], Callable[[Any, Engine, bool], bool], str], ...] = (
    (EarlyStopping, lambda handler, *_: bool(handler.counter >= handler.patience), EARLY_STOPPING),
    (TerminateOnNan, _not_finite, NAN),
    (TimeLimit, lambda handler, *_: time.time() - handler.start_time > handler.limit_sec, MAX_TIME),
)
"""Ignite handlers that call ``engine.terminate()``: whether one did, and the reason."""
