"""Prediction with a Lightning module."""

# ruff: noqa: SLF001 - what a Trainer keeps has Lightning's private names

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from unitrain.backends.foreign import ForeignEvaluation, Unsized
from unitrain_bridges.lightning.counters import Counters
from unitrain_bridges.lightning.data import combined, fetcher_for, iterates, limits, profile_fetching, taken

if TYPE_CHECKING:
    from collections.abc import Iterator

    from unitrain_bridges.lightning.trainer_protocol import ModuleTrainer

_CPU = torch.device("cpu")


class PredictionLoop(Counters):
    """The loop of a prediction, with its counters and results.

    Args:
        trainer: The trainer that the module sees as ``self.trainer``.
        inference_mode: Predict without gradients and without versions of tensors, as opposed to without gradients.
    """

    def __init__(self, trainer: ModuleTrainer, *, inference_mode: bool = True) -> None:
        super().__init__(trainer)
        parts = trainer.parts
        self.inference_mode = inference_mode
        self.return_predictions = True
        self.epoch_batch_indices: list[list[list[int]]] = []
        self.current_batch_indices: list[int] = []
        self.batch_progress = parts.Progress()
        self.max_batches: list[int | float] = []
        self._warning_cache = parts.WarningCache()
        self._data_source = parts.DataLoaderSource(None, "predict_dataloader")
        self._combined_loader: Any = None
        self._data_fetcher: Any = None
        self._results = None  # nothing can be logged here
        self._predictions: list[list[Any]] = []
        self._module_mode = parts.ModuleMode()
        self._iterates = self._over = False

    @property
    def logged_step(self) -> int:
        """The number by which it is decided whether a row is due."""
        return int(self.batch_progress.current.ready)

    @property
    def num_dataloaders(self) -> int:
        """How many loaders there are."""
        return len(self._combined_loader.flattened)

    @property
    def predictions(self) -> list[Any]:
        """The predictions: one item per batch, in one list per loader if there are several."""
        return self._predictions[0] if self._predictions and self.num_dataloaders == 1 else self._predictions

    def run(self) -> list[Any] | None:
        """Predict."""
        with torch.inference_mode() if self.inference_mode else torch.no_grad():
            self.setup_data()
            if sum(self.max_batches) == 0:
                return None
            self.reset()
            self._verify_dataloader_idx()
            hooks = self.trainer.hooks
            self._module_mode.capture(self.trainer.lightning_module)
            hooks.module("on_predict_model_eval")
            hooks.all("on_predict_start")
            hooks.both("on_predict_epoch_start")
            self._over = False
            self.trainer.run.run_evaluation(ForeignEvaluation(Unsized(self._batches), self._fetched))
            hooks.both("on_predict_epoch_end")
            found = self.predictions if self.return_predictions else None
            if not self.return_predictions:
                self._predictions = []
            self.epoch_batch_indices = []
            hooks.all("on_predict_end")
            self._module_mode.restore(self.trainer.lightning_module)
            return found

    def setup_data(self) -> None:
        """Ask for the loaders."""
        trainer, parts = self.trainer, self.trainer.parts
        if trainer.limit_predict_batches == 0:
            return
        stage = parts.RunningStage.PREDICTING
        self._combined_loader = combined(trainer, self._data_source, "sequential", stage, parts.TrainerFn.PREDICTING)
        self.max_batches = limits(trainer, self._combined_loader, stage, trainer.limit_predict_batches)

    def reset(self) -> None:
        """Begin a prediction."""
        self.batch_progress.reset_on_run()
        loader = self._combined_loader
        fetcher = fetcher_for(self.trainer, self.trainer.state.stage)
        if loader._mode != "sequential":
            raise ValueError('`trainer.predict()` only supports the `CombinedLoader(mode="sequential")` mode.')
        loader.limits = self.max_batches
        fetcher.setup(loader)
        iter(fetcher)
        fetcher.fetched += self.batch_progress.current.ready
        self._iterates = iterates(self.trainer, fetcher)
        profile_fetching(self.trainer, fetcher, "[_PredictionLoop].predict_next")
        self._data_fetcher = fetcher
        self.epoch_batch_indices = [[] for _ in range(self.num_dataloaders)]
        self._predictions = [[] for _ in range(self.num_dataloaders)]

    def _batches(self) -> Iterator[Any]:
        while not self._over:
            try:
                fetched = next(self._data_fetcher)  # iter() would start over, and draw again
            except StopIteration:
                return
            yield fetched

    def _fetched(self, fetched: Any) -> Any:
        try:
            return self._predict_step(fetched)
        except StopIteration:  # as in Lightning: the step has read its iterator to the end
            self._over = True
            return None

    def _predict_step(self, fetched: Any) -> Any:
        batch, batch_idx, dataloader_idx = taken(self._data_fetcher) if self._iterates else fetched
        trainer, hooks = self.trainer, self.trainer.hooks
        hooks.look()
        self.batch_progress.is_last_batch = self._data_fetcher.done
        if not self._iterates:
            batch = trainer.precision_plugin.convert_input(batch)
            batch = trainer.lightning_module._on_before_batch_transfer(batch, dataloader_idx=dataloader_idx)
            batch = hooks.strategy("batch_to_device", batch, dataloader_idx=dataloader_idx)
        self.batch_progress.increment_ready()
        written = not self._iterates and self._indices_for_writers(batch_idx, dataloader_idx)
        which = (dataloader_idx,) if self.num_dataloaders > 1 else ()
        hooks.both("on_predict_batch_start", batch, batch_idx, *which)
        self.batch_progress.increment_started()
        counted = trainer.parts.is_param_in_hook_signature(
            trainer.lightning_module.predict_step, "batch_idx", min_args=2
        )
        given = (fetched,) if self._iterates else (batch, *((batch_idx,) if counted else ()), *which)
        predicted = hooks.strategy("predict_step", *given)
        if predicted is None:
            self._warning_cache.warn("predict returned None if it was on purpose, ignore this warning...")
        self.batch_progress.increment_processed()
        if self._iterates:  # the step has read the iterator
            batch, batch_idx, dataloader_idx = taken(self._data_fetcher)
            which = (dataloader_idx,) if self.num_dataloaders > 1 else ()
        hooks.both("on_predict_batch_end", predicted, batch, batch_idx, *which)
        self.batch_progress.increment_completed()
        if self.return_predictions or written:
            self._predictions[dataloader_idx].append(trainer.parts.move_data_to_device(predicted, _CPU))
        return predicted

    def _indices_for_writers(self, batch_idx: int, dataloader_idx: int) -> bool:
        """Keep which samples the batch holds, for callbacks that write; return whether one writes all at the end."""
        parts = self.trainer.parts
        intervals = [one.interval for one in self.trainer.callbacks if isinstance(one, parts.BasePredictionWriter)]
        at_the_end = any(one.on_epoch for one in intervals)
        if not intervals:
            return False
        sampler = getattr(self._combined_loader.flattened[dataloader_idx], "batch_sampler", None)
        if not isinstance(sampler, parts.seen_batches_wrapper):
            name = type(self._combined_loader.flattened[dataloader_idx]).__name__
            self._warning_cache.warn(f"Couldn't infer the batch indices fetched from your dataloader: `{name}`")
            return at_the_end
        indices = sampler.seen_batch_indices[batch_idx]
        if at_the_end:
            self.epoch_batch_indices[dataloader_idx].append(indices)
        if any(one.on_batch for one in intervals):
            self.current_batch_indices = indices
        return at_the_end

    def _verify_dataloader_idx(self) -> None:
        parts, module = self.trainer.parts, self.trainer.lightning_module
        several, stage = self.num_dataloaders > 1, parts.RunningStage.PREDICTING
        parts.verify_dataloader_idx_requirement(("predict_step",), several and not self._iterates, stage, module)
        names = ("on_predict_batch_start", "on_predict_batch_end")
        parts.verify_dataloader_idx_requirement(names, several, stage, module)

    def teardown(self) -> None:
        """Let go of the loaders."""
        if self._data_fetcher is not None:
            self._data_fetcher.teardown()
            self._data_fetcher = None
