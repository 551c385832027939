"""Builds limited loaders from user data as Lightning does."""

# ruff: noqa: SLF001 - what a Trainer keeps has Lightning's private names

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unitrain_bridges.lightning.trainer_protocol import ModuleTrainer


def combined(trainer: ModuleTrainer, source: Any, mode: str, stage: Any, function: Any) -> Any:
    """Ask ``source`` for its loaders and return them as one.

    Args:
        trainer: The trainer that the module sees as ``self.trainer``.
        source: The source of the loaders.
        mode: How several are combined, if the author did not.
        stage: The stage of the loaders.
        function: Name of the running function.
    """
    parts = trainer.parts
    given = parts.request_dataloader(source)
    loader = given if isinstance(given, parts.CombinedLoader) else parts.CombinedLoader(given, mode)
    overfits = function == parts.TrainerFn.FITTING and trainer.overfit_batches > 0
    if overfits:
        parts.resolve_overfit_batches(loader, stage)
    loaders = []
    for one in loader.flattened:
        parts.check_dataloader_iterable(one, source, function)
        loaders.append(parts.process_dataloader(trainer, function, stage, one))
    loader.flattened = loaders
    return loader


def limits(trainer: ModuleTrainer, loader: Any, stage: Any, limit: float) -> list[int | float]:
    """Return how many batches of each loader are used."""
    parts = trainer.parts
    empty_is_fine = trainer.lightning_module.allow_zero_length_dataloader_with_multiple_devices
    if trainer.datamodule is not None:
        empty_is_fine |= trainer.datamodule.allow_zero_length_dataloader_with_multiple_devices
    found = []
    for one in loader.flattened:
        length = len(one) if parts.has_len_all_ranks(one, trainer.strategy, empty_is_fine) else inf
        found.append(parts.parse_num_batches(stage, length, limit))
    return found


def fetcher_for(trainer: ModuleTrainer, stage: Any) -> Any:
    """Return the fetcher of the batches, which knows the last one."""
    return trainer.parts.select_data_fetcher(trainer, stage)


def iterates(trainer: ModuleTrainer, fetcher: Any) -> bool:
    """Return whether the step asks for the iterator (``dataloader_iter``) instead of a batch, and reads it itself."""
    return isinstance(fetcher, trainer.parts.DataLoaderIterDataFetcher)


def taken(fetcher: Any) -> tuple[Any, int, int]:
    """Return the batch that a step has read last from its iterator, its number and that of its loader."""
    return fetcher._batch, fetcher._batch_idx, fetcher._dataloader_idx


def profile_fetching(trainer: ModuleTrainer, fetcher: Any, action: str) -> None:
    """Let the profiler know of each fetch, under Lightning's own name for it, if there is a profiler."""
    if is_profiled(trainer):
        fetcher._start_profiler = lambda: trainer.profiler.start(action)
        fetcher._stop_profiler = lambda: trainer.profiler.stop(action)


def is_profiled(trainer: ModuleTrainer) -> bool:
    """Return whether the user set a profiler."""
    return type(trainer.profiler) is not trainer.parts.PassThroughProfiler
