"""Shared by the searches: a separate trainer, without side effects."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

from unitrain.config import TrainerConfig
from unitrain.data.datamodules import is_datamodule
from unitrain.data.position import copied_state, keeper
from unitrain.data.sources import DataSource
from unitrain.distributed.launch.process_group import wanted
from unitrain.distributed.world import world_here
from unitrain.errors import SpecError, UnsupportedFeatureError
from unitrain.spec import TrainSpec
from unitrain.trainer import UnifiedTrainer
from unitrain.utilities.copies import copied
from unitrain.utilities.rng import preserved_rng

if TYPE_CHECKING:
    from collections.abc import Iterator

    from unitrain.backends.protocol import Adapter

_OWN_LIMITS = {
    "fast_dev_run": False,
    "max_epochs": -1,
    "min_epochs": None,
    "min_steps": None,
    "max_time": None,
    "limit_val_batches": 0,
    "num_sanity_val_steps": None,
    "reload_dataloaders_every_n_epochs": 0,
    "overfit_batches": 0,
    "callbacks": (),
    "loggers": (),
    "enable_progress_bar": False,
}
"""The options that a search sets itself; all others come from the trainer."""


def trial_trainer(owner: str, trainer: UnifiedTrainer | str | Adapter, **limits: Any) -> UnifiedTrainer:
    """Return a trainer with the framework and the options of ``trainer``, but for ``limits``.

    Raises:
        UnsupportedFeatureError: If it would run in several processes.
    """
    given = isinstance(trainer, UnifiedTrainer)
    config = trainer.config if given else TrainerConfig()  # type: ignore[union-attr]
    if wanted(config) * config.num_nodes > 1 or world_here() is not None:
        raise UnsupportedFeatureError(
            f"{owner} runs in a single process.",
            hint=f'{owner}().run("ignite", spec, ...) before the multi-process run.',
        )
    options = {field.name: getattr(config, field.name) for field in fields(TrainerConfig)}
    framework = trainer._adapter if given else trainer  # type: ignore[union-attr]  # noqa: SLF001
    return UnifiedTrainer(framework, **{**options, **_OWN_LIMITS, **limits})  # type: ignore[arg-type]


def require_spec(owner: str, spec: Any) -> None:
    """Refuse anything that is not a TrainSpec, as when two arguments are swapped.

    Raises:
        SpecError: If it is not a TrainSpec.
    """
    if not isinstance(spec, TrainSpec):
        raise SpecError(
            f"{owner}.run takes a trainer, a TrainSpec and the data, in this order; the second is a"
            f" {type(spec).__name__}.",
            hint=f'{owner}().run("lightning", spec, loader)',
        )


def bare_copy(spec: TrainSpec) -> TrainSpec:
    """Return ``spec`` with copies of its model and optimizer, and without schedules, metrics and callbacks."""
    what = f"the model {type(spec.model).__name__}, or its optimizer,"
    model, optimizer = copied(what, (spec.model, spec.optimizer), "a search trains a copy: give it a __deepcopy__.")
    return replace(spec, model=model, optimizer=optimizer, lr_scheduler=None, metrics=None, callbacks=())


@contextmanager
def untouched(data: Any) -> Iterator[None]:
    """Put random number generators, and the position that ``data`` keeps itself, back to where they were."""
    generators = [] if is_datamodule(data) else DataSource(data, "train", 1.0).generators
    holder = keeper(data, midway=False)
    position = None if holder is None else copied_state(holder)
    try:
        with preserved_rng(generators):
            yield
    finally:
        if holder is not None:
            holder.load_state_dict(position)
