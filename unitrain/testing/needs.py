"""What a backend must support to run a case of the conformance suite."""

from __future__ import annotations

from typing import TYPE_CHECKING

from unitrain.backends.features import REQUESTS
from unitrain.backends.protocol import Feature
from unitrain.callbacks import GradientAccumulationSchedule, ModelCheckpoint
from unitrain.config import TrainerConfig
from unitrain.data.sources import DataSpec
from unitrain.optim.optimizers import build_optimizers, needs_closure

if TYPE_CHECKING:
    from collections.abc import Iterator

    from unitrain.testing.trace import Case


def needs(case: Case) -> frozenset[Feature]:
    """Return the features that a fit of ``case`` asks for."""
    return frozenset(_needs(case))


def _needs(case: Case) -> Iterator[Feature]:
    config, spec = TrainerConfig(**case.options).resolved(), case.spec()
    yield Feature.TRAINING
    yield from (request.feature for request in REQUESTS.values() if request.asked(config))
    if config.limit_val_batches != 0 and _has_validation_data(case):
        yield Feature.EVALUATION
    if not spec.automatic_optimization:
        yield Feature.MANUAL_OPTIMIZATION
    if any(map(needs_closure, build_optimizers(spec).values())):
        yield Feature.CLOSURE_OPTIMIZERS
    for callback in (*spec.callbacks, *config.callbacks):
        if isinstance(callback, GradientAccumulationSchedule):
            yield Feature.ACCUMULATION
        if isinstance(callback, ModelCheckpoint):
            yield Feature.CHECKPOINTS


def _has_validation_data(case: Case) -> bool:
    if case.val is not None:
        return True
    data = case.train()
    return isinstance(data, DataSpec) and data.val is not None
