"""Refuses parts of Lightning that a script has replaced, and that would never be called on another engine.

Hooks, plugins and what a Trainer hands out are called wherever it trains, replaced or not. The private methods of its
class and of its loops are only called by Lightning's own.
"""

from __future__ import annotations

import inspect
from operator import attrgetter
from types import FunctionType
from typing import TYPE_CHECKING, Any

from unitrain.errors import UnsupportedFeatureError
from unitrain_bridges.lightning.stock import stock

if TYPE_CHECKING:
    from collections.abc import Iterator

    from unitrain_bridges.lightning.namespace import Parts

_LOOPS = {
    "FitLoop": "fit_loop",
    "TrainingEpochLoop": "fit_loop.epoch_loop",
    "EvaluationLoop": "validate_loop",
    "PredictionLoop": "predict_loop",
    "AutomaticOptimization": "fit_loop.epoch_loop.automatic_optimization",
    "ManualOptimization": "fit_loop.epoch_loop.manual_optimization",
}
"""Lightning's loops, and where the Trainer has them."""
_KNOWN: dict[type, dict[str, Any]] = {}
"""The loops whose methods were found to be Lightning's."""
_WRAPPED = {("_EvaluationLoop", "run"), ("_PredictionLoop", "run")}
"""Methods that Lightning itself wraps, without a sign of what is within."""


def refuse_own_trainer(parts: Parts, trainer: Any, base: type) -> None:
    """Refuse a Trainer whose class overrides what only Lightning's own calls.

    Args:
        parts: The parts of Lightning.
        trainer: The stand-in.
        base: Its class without the author's.

    Raises:
        UnsupportedFeatureError: With the name of the method.
    """
    for cls in type(trainer).__mro__:
        for name in vars(cls):
            only_there = name.startswith("_") and not hasattr(base, name) and hasattr(parts.Trainer, name)
            if cls not in base.__mro__ and only_there and not name.startswith("__"):
                raise _refused(f"{cls.__name__}.{name}()", trainer.framework)


def refuse_loops(parts: Parts, trainer: Any) -> None:
    """Refuse loops of the author's own, and methods of loops that are replaced.

    Raises:
        UnsupportedFeatureError: With the name of the loop or method.
    """
    for kind, place in _LOOPS.items():
        lightnings, own = getattr(parts, kind), attrgetter(place)(trainer)
        if issubclass(type(own), lightnings):  # the bridge's own loops are only taken for them
            raise _refused(f"trainer.{place} = {type(own).__name__}(...)", trainer.framework)
        for name in _replaced(lightnings):
            raise _refused(f"{lightnings.__name__}.{name}, which was replaced,", trainer.framework)
        lost = next((one for one in vars(own) if _is_lost(one, own, lightnings)), None)
        if lost is not None:
            raise _refused(f"trainer.{place}.{lost} = ...", trainer.framework)


def _replaced(loop: type) -> Iterator[str]:
    """Yield the methods of a loop that are not those of Lightning's source."""
    methods = dict(vars(loop))
    if _KNOWN.get(loop) == methods:
        return
    for name, function in methods.items():
        is_method = callable(function) and not isinstance(function, (staticmethod, classmethod, type))
        is_own = isinstance(function, FunctionType) and stock(inspect.unwrap(function), name)
        if is_method and not is_own and not name.startswith("__") and (loop.__name__, name) not in _WRAPPED:
            yield name
    _KNOWN[loop] = methods


def _is_lost(name: str, own: Any, lightnings: type) -> bool:
    """Return whether an attribute that was set on a loop is a method of Lightning's loop, which is not called here."""
    return not hasattr(type(own), name) and inspect.isfunction(getattr(lightnings, name, None))


def _refused(what: str, framework: str) -> UnsupportedFeatureError:
    return UnsupportedFeatureError(
        f"{what} is never called on {framework!r}: only Lightning's own Trainer calls its private methods.",
        hint="use a hook of a callback, or framework='lightning'.",
    )
