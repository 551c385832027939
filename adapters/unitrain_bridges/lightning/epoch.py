"""One training epoch of a Lightning module."""

# ruff: noqa: SLF001 - what a Trainer keeps has Lightning's private names

from __future__ import annotations

import time
from math import ceil, inf
from typing import TYPE_CHECKING, Any

from unitrain_bridges.lightning.counters import Counters, stopped_at
from unitrain_bridges.lightning.data import is_profiled, iterates, profile_fetching, taken
from unitrain_bridges.lightning.evaluation import EvaluationLoop
from unitrain_bridges.lightning.optimization import AutomaticOptimization, ManualOptimization
from unitrain_bridges.lightning.schedules import step_schedules
from unitrain_bridges.lightning.short_way import BATCH, STEP, ShortWay
from unitrain_bridges.lightning.versions import steps_schedules_when_cut

if TYPE_CHECKING:
    from unitrain_bridges.lightning.trainer_protocol import ModuleTrainer

_AFTER_BATCH, _ON_LAST = "on_train_batch_end", "on_last"
_NOT_RESUMABLE = (
    "You're resuming from a checkpoint that ended before the epoch ended and your dataloader is not resumable. This"
    " can cause unreliable results if further training is done. Consider using an end-of-epoch checkpoint or make your"
    " dataloader resumable by implementing the `state_dict` / `load_state_dict` interface."
)


class EpochLoop(Counters):
    """The loop over the batches of an epoch, with its counters.

    Args:
        trainer: The trainer that the module sees as ``self.trainer``.
        min_steps: Optimizer steps before a stop is granted.
        max_steps: Optimizer steps to make; -1 is without limit.

    Raises:
        MisconfigurationException: If ``max_steps`` is invalid.
    """

    def __init__(self, trainer: ModuleTrainer, min_steps: int | None, max_steps: int) -> None:
        super().__init__(trainer)
        parts = trainer.parts
        if max_steps < -1:
            raise parts.MisconfigurationException(
                f"`max_steps` must be a non-negative integer or -1 (infinite steps). You passed in {max_steps}."
            )
        self.min_steps = min_steps
        self.max_steps = max_steps
        self.batch_progress = parts.BatchProgress()
        self.scheduler_progress = parts.SchedulerProgress()
        self.automatic_optimization = AutomaticOptimization(trainer)
        self.manual_optimization = ManualOptimization(trainer)
        self.val_loop = EvaluationLoop(trainer, parts.TrainerFn.FITTING, parts.RunningStage.VALIDATING, verbose=False)
        self._results = parts.ResultCollection(training=True)
        self._warning_cache = parts.WarningCache()
        self._batches_that_stepped = 0
        self._skip_next_val = False
        self.short: Any = None
        self._signature: tuple[Any, bool] | None = None
        self._iterates = self._profiled = False

    # --- where it is --------------------------------------------------------------------------------------------------

    @property
    def total_batch_idx(self) -> int:
        """The number of the batch over all epochs, from 0."""
        return int(self.batch_progress.total.ready) - 1

    @property
    def batch_idx(self) -> int:
        """The number of the batch within the epoch, from 0."""
        return int(self.batch_progress.current.ready) - 1

    @property
    def global_step(self) -> int:
        """Number of optimizer steps."""
        module = self.trainer.lightning_module
        if module is None or module.automatic_optimization:
            return int(self.automatic_optimization.optim_progress.optimizer_steps)
        return int(self.manual_optimization.optim_step_progress.total.completed)

    @property
    def steps_reached(self) -> bool:
        """Whether ``max_steps`` holds."""
        return self.max_steps != -1 and self.global_step >= self.max_steps

    @property
    def done(self) -> bool:
        """Whether no further batch belongs to the epoch."""
        finished = self.steps_reached or self._num_ready_batches_reached()
        if finished and (not self.restarting or self.val_loop._has_run):
            return True
        if not self.trainer.should_stop:
            return False
        if not self.trainer.fit_loop._can_stop_early:
            self._warning_cache.info(
                "Trainer was signaled to stop but the required"
                f" `min_epochs={self.trainer.min_epochs!r}` or `min_steps={self.min_steps!r}` has not been met."
                " Training will continue..."
            )
            return False
        return True

    @property
    def restarted_on_train_batch_end(self) -> bool:
        """Whether the checkpoint that was read was written at the end of a batch, before its validation."""
        return self._restart_stage == _AFTER_BATCH

    def update_restart_stage(self) -> None:
        """Find out where in a batch the checkpoint that was read was written."""
        stages = {(0, 0, -1): _AFTER_BATCH, (0, 0, 0): _ON_LAST}
        self._restart_stage = stages.get(stopped_at(self.batch_progress), "") if self.restarting else ""
        self.val_loop.update_restart_stage()

    # --- one epoch ----------------------------------------------------------------------------------------------------

    def reset(self) -> None:
        """Begin an epoch, or continue with the one of a checkpoint."""
        self.short = self.automatic_optimization.short = ShortWay(self.trainer)
        after_batch = self.restarted_on_train_batch_end
        if self.restarting and not self._should_accumulate() and self._restart_stage != _ON_LAST:
            self._batches_that_stepped += 1
        if after_batch:
            self.batch_progress.increment_completed()
            if self.batch_progress.current.completed >= self.trainer.num_training_batches:
                self._reset_progress()
        if not self.restarting:
            self._reset_progress()
            return
        for progress in (self.batch_progress, self.scheduler_progress, self.automatic_optimization.optim_progress):
            progress.reset_on_restart()
        self._warn_if_not_resumable()

    def _reset_progress(self) -> None:
        for progress in (self.batch_progress, self.scheduler_progress, self.automatic_optimization.optim_progress):
            progress.reset_on_run()
        self.val_loop.batch_progress.total.reset()

    def _warn_if_not_resumable(self) -> None:
        trainer = self.trainer
        if trainer.num_training_batches == inf:
            return
        steps = ceil(trainer.num_training_batches / trainer.accumulate_grad_batches)
        loaders = trainer.fit_loop._combined_loader.flattened
        stateful = all(hasattr(one, "state_dict") and hasattr(one, "load_state_dict") for one in loaders)
        if self.global_step % steps and not stateful:
            trainer.parts.rank_zero_warn(_NOT_RESUMABLE, category=trainer.parts.PossibleUserWarning)

    def run_start(self, fetcher: Any) -> None:
        """Ask the loaders for an iterator, but for the first epoch, whose iterator is there already."""
        if self.trainer.current_epoch > 0 and not self.trainer.fit_loop.is_resuming and not self.restarting:
            iter(fetcher)
        fetcher.fetched += self.batch_progress.current.ready
        self._iterates, self._profiled = iterates(self.trainer, fetcher), is_profiled(self.trainer)
        profile_fetching(self.trainer, fetcher, "[_TrainingEpochLoop].train_dataloader_next")

    def goes_on_without_batch(self, fetcher: Any) -> bool:
        """Return whether the checkpoint that was read lies within the validation, which is finished first."""
        if not self.restarting or not self._should_check_val_fx(fetcher):
            return False
        if self.val_loop.restarted_mid_evaluation:
            return True
        if self._restart_stage == _ON_LAST:
            self._skip_next_val = True
            return True
        self.val_loop.increment_progress_to_evaluation_end()
        return False

    # --- one batch ----------------------------------------------------------------------------------------------------

    def advance(self, fetcher: Any, fetched: Any) -> Any:
        """Train on one batch and return what the step returned, detached.

        Raises:
            StopIteration: If ``on_train_batch_start`` returned -1.
        """
        trainer, hooks = self.trainer, self.trainer.hooks
        hooks.look()
        self.short.look(BATCH)
        if self.val_loop.restarting:
            self.val_loop.restarting = False
        self.batch_progress.is_last_batch = fetcher.done
        batch, batch_idx = self._given(fetcher, fetched)
        self.batch_progress.increment_ready()
        self._log_start(batch)
        output, skips = None, False
        if batch is None and not self._iterates:
            self._warning_cache.warn("train_dataloader yielded None. If this was on purpose, ignore this warning...")
        else:
            skips = hooks.all("on_train_batch_start", batch, batch_idx) == -1
            if skips:
                self.batch_progress.is_last_batch = steps_schedules_when_cut(trainer.parts)
            else:
                output = self._optimize(batch, batch_idx, fetched)
        self.batch_progress.increment_processed()
        if skips and not steps_schedules_when_cut(trainer.parts):
            raise StopIteration
        step_schedules(self, "step", plateau=False)
        if self._num_ready_batches_reached():
            step_schedules(self, "epoch", plateau=False)
        if skips:
            raise StopIteration
        if self._iterates:  # the step has read the iterator
            self.batch_progress.is_last_batch = fetcher.done
            batch, batch_idx = self._given(fetcher, fetched)
        hooks.both("on_train_batch_end", output, batch, batch_idx)
        self._log_end()
        return output

    def _log_start(self, batch: Any) -> None:
        if self.short.logging:
            self.trainer.logging.batch_start(self._results, batch)
        else:
            self.trainer.logging.on_batch_start(batch)

    def _log_end(self) -> None:
        trainer, short = self.trainer, self.short.logging
        if short:
            trainer.logging.batch_end(self._results)
        else:
            trainer.logging.on_batch_end()
        self.batch_progress.increment_completed()
        if trainer.loggers or not short:
            trainer.logging.update_train_step_metrics()

    def _given(self, fetcher: Any, fetched: Any) -> tuple[Any, int]:
        """Return the batch on its device and its number; with an iterator, the last batch that the step read."""
        if self._iterates:
            return taken(fetcher)[:2]
        batch, batch_idx = fetched[0], self.batch_idx + 1
        if self.short.transfer:
            return self.short.move(batch), batch_idx
        trainer = self.trainer
        batch = trainer.precision_plugin.convert_input(batch)
        batch = trainer.lightning_module._on_before_batch_transfer(batch, dataloader_idx=0)
        return trainer.hooks.strategy("batch_to_device", batch, dataloader_idx=0), batch_idx

    def _optimize(self, batch: Any, batch_idx: int, fetched: Any) -> dict[str, Any]:
        self.batch_progress.increment_started()
        self.short.look(STEP)
        trainer = self.trainer
        module = trainer.lightning_module
        arguments = {"any": fetched} if self._iterates else {"batch": batch}
        if not self._iterates and self._takes_batch_idx(module.training_step):
            arguments["batch_idx"] = batch_idx
        profiler = trainer.profiler
        if self._profiled:
            profiler.start("run_training_batch")
        try:
            if module.automatic_optimization:
                return self.automatic_optimization.run(trainer.optimizers[0], batch_idx, arguments)
            return self.manual_optimization.run(arguments)
        finally:
            if self._profiled:
                profiler.stop("run_training_batch")

    def _takes_batch_idx(self, step: Any) -> bool:
        """Return whether the training step has the argument; a signature is read once, as reading it is slow."""
        function = getattr(step, "__func__", step)
        if self._signature is None or self._signature[0] is not function:
            given = self.trainer.parts.is_param_in_hook_signature(step, "batch_idx", min_args=2)
            self._signature = (function, bool(given))
        return self._signature[1]

    def advance_end(self, fetcher: Any) -> None:
        """Validate if it is due, and let the schedules follow that look at a metric.

        Raises:
            SIGTERMException: If the process was told to end.
        """
        trainer = self.trainer
        due = self._should_check_val_fx(fetcher) and not self._skip_next_val
        self._skip_next_val = False
        if due:
            self._validate()
        step_schedules(self, "step", plateau=True)
        if not self._should_accumulate():
            self._batches_that_stepped += 1
        if trainer.should_stop:
            for logger in trainer.loggers:
                logger.save()
        if not (self.steps_reached or self._num_ready_batches_reached()) and trainer.received_sigterm:
            raise trainer.parts.SIGTERMException

    def _validate(self) -> None:
        trainer = self.trainer
        trainer.validating = True
        first = trainer.logging._first_loop_iter
        if not self._should_accumulate():
            trainer.hooks.module("on_validation_model_zero_grad")
        self.val_loop.run()
        trainer.training = True
        trainer.logging._first_loop_iter = first

    def teardown(self) -> None:
        """Release tensors on devices."""
        self._results.cpu()
        self.val_loop.teardown()

    # --- for a checkpoint ---------------------------------------------------------------------------------------------

    def on_save_checkpoint(self) -> dict[str, Any]:
        """Return the batches after which an optimizer stepped, by which loggers count."""
        return {"_batches_that_stepped": self._batches_that_stepped}

    def on_load_checkpoint(self, state_dict: dict[str, Any]) -> None:
        """Take them."""
        self._batches_that_stepped = state_dict.get("_batches_that_stepped", 0)

    # --- Lightning's names, which its callbacks ask for ---------------------------------------------------------------

    def _num_ready_batches_reached(self) -> bool:
        last: bool = self.batch_progress.is_last_batch
        return last or self.batch_progress.current.ready == self.trainer.num_training_batches

    def _should_accumulate(self) -> bool:
        filled = self.batch_progress.current.ready % self.trainer.accumulate_grad_batches == 0
        return not filled and (
            self.trainer.strategy.handles_gradient_accumulation or not self._num_ready_batches_reached()
        )

    def _should_check_val_epoch(self) -> bool:
        trainer = self.trainer
        return bool(trainer.enable_validation) and (
            trainer.check_val_every_n_epoch is None
            or (trainer.current_epoch + 1) % trainer.check_val_every_n_epoch == 0
        )

    def _should_check_val_fx(self, fetcher: Any) -> bool:  # noqa: ARG002 - Lightning's signature
        return self._is_time_to_validate() and self._should_check_val_epoch()  # the cheap question first

    def _is_time_to_validate(self) -> bool:
        trainer, last = self.trainer, bool(self.batch_progress.is_last_batch)
        endless = trainer.val_check_batch == inf
        if last and (endless or self._iterates):
            return True
        if trainer.should_stop and trainer.fit_loop._can_stop_early:
            return True
        interval = trainer._val_check_time_interval
        if interval is not None:
            # Lightning reads the clock only in an epoch that validates
            return self._should_check_val_epoch() and bool(time.monotonic() - trainer._last_val_time >= interval)
        if isinstance(trainer.limit_train_batches, int) and endless:
            return (self.batch_idx + 1) % trainer.limit_train_batches == 0
        if endless:
            return last
        count = self.total_batch_idx if trainer.check_val_every_n_epoch is None else self.batch_idx
        return bool((count + 1) % trainer.val_check_batch == 0)
