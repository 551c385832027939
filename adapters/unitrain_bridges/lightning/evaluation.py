"""Validation and test of a Lightning module."""

# ruff: noqa: SLF001 - what a Trainer keeps has Lightning's private names

from __future__ import annotations

import time
from collections import ChainMap, defaultdict
from math import inf, isinf
from typing import TYPE_CHECKING, Any

import torch

from unitrain.backends.foreign import ForeignEvaluation, Unsized
from unitrain_bridges.lightning.counters import Counters, stopped_at
from unitrain_bridges.lightning.data import combined, fetcher_for, iterates, limits, profile_fetching, taken

if TYPE_CHECKING:
    from collections.abc import Iterator

    from unitrain_bridges.lightning.trainer_protocol import ModuleTrainer

_MID = "mid_evaluation"


class EvaluationLoop(Counters):
    """The loop of an evaluation, with its counters.

    Args:
        trainer: The trainer that the module sees as ``self.trainer``.
        function: Name of the Trainer method that it belongs to.
        stage: The stage.
        verbose: Print the results as a table.
        inference_mode: Evaluate without gradients and without versions of tensors, as opposed to without gradients.
    """

    stands_for = "EvaluationLoop"

    def __init__(
        self, trainer: ModuleTrainer, function: Any, stage: Any, *, verbose: bool = True, inference_mode: bool = False
    ) -> None:
        super().__init__(trainer)
        parts = trainer.parts
        self.verbose = verbose
        self.inference_mode = inference_mode
        self.batch_progress = parts.BatchProgress()
        self._function = function
        self._stage = stage
        self._tests = stage == parts.RunningStage.TESTING
        self._name = "test" if self._tests else "validation"
        self._max_batches: list[int | float] = []
        self._results = parts.ResultCollection(training=False)
        self._logged_outputs: list[dict[str, Any]] = []
        self._has_run = False
        self._data_source = parts.DataLoaderSource(None, f"{stage.dataloader_prefix}_dataloader")
        self._combined_loader: Any = None
        self._data_fetcher: Any = None
        self._seen_batches_per_dataloader: defaultdict[int, int] = defaultdict(int)
        self._last_val_dl_reload_epoch = -inf
        self._module_mode = parts.ModuleMode()
        self._before = 0
        self._iterates = self._over = False

    # --- where it is --------------------------------------------------------------------------------------------------

    @property
    def logged_step(self) -> int:
        """The number by which it is decided whether a row is due."""
        return int(self.batch_progress.current.ready)

    @property
    def num_dataloaders(self) -> int:
        """How many loaders there are."""
        return len(self._combined_loader.flattened)

    @property
    def max_batches(self) -> list[int | float]:
        """How many batches of each loader are used."""
        if not self.trainer.sanity_checking:
            return self._max_batches
        return [min(self.trainer.num_sanity_val_steps, one) for one in self._max_batches]

    @property
    def skip(self) -> bool:
        """Whether there is nothing to do."""
        return sum(self.max_batches) == 0

    @property
    def restarted_mid_evaluation(self) -> bool:
        """Whether the checkpoint that was read was written within it."""
        return self._restart_stage == _MID

    @property
    def _several(self) -> bool:
        return self._combined_loader._mode == "sequential" and self.num_dataloaders > 1

    def update_restart_stage(self) -> None:
        """Find out where the checkpoint that was read was written."""
        within = stopped_at(self.batch_progress) == (0, -1, 0)
        self._restart_stage = _MID if self.restarting and within else ""

    # --- running ------------------------------------------------------------------------------------------------------

    def run(self) -> list[dict[str, Any]]:
        """Evaluate, and return the logged values, one dict per loader."""
        with torch.inference_mode() if self.inference_mode else torch.no_grad():
            self.setup_data()
            if self.skip:
                return []
            self.reset()
            self._verify_dataloader_idx()
            self._model_eval()
            self.trainer.hooks.all(f"on_{self._name}_start")
            self.trainer.hooks.both(f"on_{self._name}_epoch_start")
            self._before, self._over = 0, False
            self.trainer.run.run_evaluation(ForeignEvaluation(Unsized(self._batches), self._fetched))
            self._store_dataloader_outputs()
            return self._end()

    def _batches(self) -> Iterator[Any]:
        """Yield what is fetched, until nothing is left; each iteration is over when the next one is asked for."""
        while not self._over:
            try:
                fetched = next(self._data_fetcher)  # iter() would start over, and draw again
            except StopIteration:
                self.iteration_done()
                return
            yield fetched

    def _fetched(self, fetched: Any) -> Any:
        batch, batch_idx, dataloader_idx = taken(self._data_fetcher) if self._iterates else fetched
        if self._before != dataloader_idx:
            self._store_dataloader_outputs()
        self._before = dataloader_idx
        self.batch_progress.is_last_batch = self._data_fetcher.done
        try:
            return self._evaluation_step(batch, batch_idx, dataloader_idx, fetched)
        except StopIteration:  # as in Lightning: the step has read its iterator to the end
            self._over = True
            return None
        finally:
            self.iteration_done()

    def setup_data(self) -> None:
        """Ask for the loaders, if it is their turn."""
        trainer, fits = self.trainer, self._function == self.trainer.parts.TrainerFn.FITTING
        if self._combined_loader is not None and fits and not self._should_reload:
            return
        limit = trainer.limit_test_batches if trainer.testing else trainer.limit_val_batches
        if limit == 0 or not trainer.parts.is_overridden(f"{self._name}_step", trainer.lightning_module):
            return
        if fits and (not trainer.sanity_checking or trainer.fit_loop.epoch_loop._should_check_val_epoch()):
            self._last_val_dl_reload_epoch = trainer.current_epoch
        self._combined_loader = combined(trainer, self._data_source, "sequential", self._stage, self._function)
        limit = getattr(trainer, f"limit_{self._stage.dataloader_prefix}_batches")
        self._max_batches = limits(trainer, self._combined_loader, self._stage, limit)
        self._seen_batches_per_dataloader = defaultdict(int)

    @property
    def _should_reload(self) -> bool:
        every = self.trainer.reload_dataloaders_every_n_epochs
        return bool(every and self.trainer.current_epoch - self._last_val_dl_reload_epoch >= every)

    def reset(self) -> None:
        """Begin an evaluation, or continue with the one of a checkpoint."""
        trainer, parts = self.trainer, self.trainer.parts
        self._has_run = False
        self._logged_outputs = []
        fits = trainer.state.fn == parts.TrainerFn.FITTING
        if self.restarting:
            self.batch_progress.reset_on_restart()
        if not self.restarting or not fits:
            self.batch_progress.reset_on_run()
        fetcher, loader = fetcher_for(trainer, trainer.state.stage), self._combined_loader
        if fits:
            for one in loader.flattened:
                parts.set_sampler_epoch(one, trainer.fit_loop.epoch_progress.current.processed)
        loader.limits = self.max_batches
        fetcher.setup(loader)
        iter(fetcher)
        fetcher.fetched += self.batch_progress.current.ready
        self._iterates = iterates(trainer, fetcher)
        profile_fetching(trainer, fetcher, f"[_EvaluationLoop].{self._stage.dataloader_prefix}_next")
        self._data_fetcher = fetcher

    def increment_progress_to_evaluation_end(self) -> None:
        """Count an evaluation that was made before the checkpoint was written."""
        self.setup_data()
        if self.skip:
            return
        self.reset()
        most = max(self.max_batches)
        if not isinf(most):
            self.batch_progress.increment_by(int(most), is_last_batch=True)

    def _end(self) -> list[dict[str, Any]]:
        trainer, logging = self.trainer, self.trainer.logging
        logging.epoch_end_reached()
        logging._evaluation_epoch_end()
        trainer.hooks.both(f"on_{self._name}_epoch_end")
        logging.on_epoch_end()
        outputs, self._logged_outputs = self._logged_outputs, []
        last = logging.update_eval_epoch_metrics()
        everything = dict(ChainMap(*outputs))
        everything.update(last)
        for one in outputs:
            one.update(last)
        logging.log_eval_end_metrics(everything)
        trainer.hooks.all(f"on_{self._name}_end")
        logging.reset_results()
        self._model_train()
        if self.verbose and trainer.is_global_zero:
            trainer.parts.print_results(outputs, self._stage.value)
        trainer._last_val_time = time.monotonic()
        return outputs

    def _evaluation_step(self, batch: Any, batch_idx: int, dataloader_idx: int, fetched: Any) -> Any:
        trainer, hooks, logging = self.trainer, self.trainer.hooks, self.trainer.logging
        hooks.look()
        if not self._iterates:
            batch = trainer.precision_plugin.convert_input(batch)
            batch = trainer.lightning_module._on_before_batch_transfer(batch, dataloader_idx=dataloader_idx)
            batch = hooks.strategy("batch_to_device", batch, dataloader_idx=dataloader_idx)
        which = (dataloader_idx,) if self._several else ()
        self.batch_progress.increment_ready()
        logging.on_batch_start(batch, *which)
        hooks.both(f"on_{self._name}_batch_start", batch, batch_idx, *which)
        self.batch_progress.increment_started()
        given = (fetched,) if self._iterates else (batch, *self._number(batch_idx), *which)
        output = hooks.strategy(f"{self._name}_step", *given)
        self.batch_progress.increment_processed()
        if self._iterates:  # the step has read the iterator
            batch, batch_idx, dataloader_idx = taken(self._data_fetcher)
            which = (dataloader_idx,) if self._several else ()
        hooks.both(f"on_{self._name}_batch_end", output, batch, batch_idx, *which)
        logging.on_batch_end()
        self.batch_progress.increment_completed()
        if not trainer.sanity_checking:
            self._has_run = True
            logging.update_eval_step_metrics(self._seen_batches_per_dataloader[dataloader_idx])
            self._seen_batches_per_dataloader[dataloader_idx] += 1
        if not self.batch_progress.is_last_batch and trainer.received_sigterm:
            raise trainer.parts.SIGTERMException
        return output

    def _number(self, batch_idx: int) -> tuple[int, ...]:
        """Return the batch's number if the step has the argument."""
        step = getattr(self.trainer.lightning_module, f"{self._name}_step")
        counted = self.trainer.parts.is_param_in_hook_signature(step, "batch_idx", min_args=2)
        return (batch_idx,) if counted else ()

    def _store_dataloader_outputs(self) -> None:
        self.trainer.logging.epoch_end_reached()
        self._logged_outputs.append(self.trainer.logging.update_eval_epoch_metrics())

    def _model_eval(self) -> None:
        self._module_mode.capture(self.trainer.lightning_module)
        self.trainer.hooks.module(f"on_{self._name}_model_eval")

    def _model_train(self) -> None:
        module, name = self.trainer.lightning_module, f"on_{self._name}_model_train"
        if self.trainer.parts.is_overridden(name, module):
            self.trainer.hooks.module(name)
        else:
            self._module_mode.restore(module)

    def _verify_dataloader_idx(self) -> None:
        verify, module = self.trainer.parts.verify_dataloader_idx_requirement, self.trainer.lightning_module
        verify((f"{self._name}_step",), self._several and not self._iterates, self._stage, module)
        names = (f"on_{self._name}_batch_start", f"on_{self._name}_batch_end")
        verify(names, self._several, self._stage, module)

    def teardown(self) -> None:
        """Release the loaders and tensors on devices."""
        if self._data_fetcher is not None:
            self._data_fetcher.teardown()
            self._data_fetcher = None
        self._results.cpu()
