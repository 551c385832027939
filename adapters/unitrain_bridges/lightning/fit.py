"""The fit loop of a Lightning module."""

# ruff: noqa: SLF001 - what a Trainer keeps has Lightning's private names

from __future__ import annotations

import time
from math import inf
from typing import TYPE_CHECKING, Any

import torch

from unitrain_bridges.lightning.counters import Counters, stopped_at
from unitrain_bridges.lightning.data import combined, fetcher_for, limits
from unitrain_bridges.lightning.epoch import EpochLoop
from unitrain_bridges.lightning.foreign_program import ModuleProgram
from unitrain_bridges.lightning.schedules import step_schedules

if TYPE_CHECKING:
    from unitrain_bridges.lightning.trainer_protocol import ModuleTrainer

_EPOCH_START, _MID_EPOCH, _EPOCH_END, _RESUMED = "epoch_start", "mid_epoch", "epoch_end", "resumed_on_epoch_end"
_EVAL_MODE = (
    "Found {count} module(s) in eval mode at the start of training. This may lead to unexpected behavior during"
    " training. If this is intentional, you can ignore this warning."
)
_FEW_BATCHES = (
    "The number of training batches ({batches}) is smaller than the logging interval"
    " Trainer(log_every_n_steps={every}). Set a lower value for log_every_n_steps if you want to see logs for the"
    " training epoch."
)
_TOO_RARE = (
    " `val_check_interval` ({every}) must be less than or equal to the number of the training batches ({batches})."
    " If you want to disable validation set `limit_val_batches` to 0.0 instead."
    " If you want to validate based on the total training batches, set `check_val_every_n_epoch=None`."
)
_NO_LENGTH = (
    "When using an IterableDataset for `train_dataloader`, `Trainer(val_check_interval)` must be time based, `1.0` or"
    " an int. An int k specifies checking validation every k training batches."
)

_SEQUENTIAL = '`_FitLoop` does not support the `CombinedLoader(mode="sequential")` mode. The available modes are: {}'


class FitLoop(Counters):
    """The loop over epochs, with its counters and stop conditions.

    Args:
        trainer: The trainer that the module sees as ``self.trainer``.
        arguments: The Trainer's arguments.

    Raises:
        MisconfigurationException: If a limit is invalid.
    """

    stands_for = "FitLoop"

    def __init__(self, trainer: ModuleTrainer, arguments: dict[str, Any]) -> None:
        super().__init__(trainer)
        parts = trainer.parts
        self.max_epochs: int | None = arguments["max_epochs"]
        self.min_epochs: int | None = arguments["min_epochs"]
        if self.max_epochs is not None and self.max_epochs < -1:
            raise parts.MisconfigurationException(
                f"`max_epochs` must be a non-negative integer or -1. You passed in {self.max_epochs}."
            )
        self.epoch_loop = EpochLoop(trainer, arguments["min_steps"], arguments["max_steps"])
        self.epoch_progress = parts.Progress()
        self.max_batches: int | float = inf
        self._data_source = parts.DataLoaderSource(None, "train_dataloader")
        self._combined_loader: Any = None
        self._loader_states: list[dict[str, Any]] = []
        self._data_fetcher: Any = None
        self._last_train_dl_reload_epoch = -inf
        self._running = 0
        self._driven: Any = None
        self._profiler: Any = None

    # --- where it is --------------------------------------------------------------------------------------------------

    def _restarts(self, given: bool) -> bool:
        """Return whether this continues within an epoch; not if that of the checkpoint was complete."""
        current = self.epoch_progress.current
        unfinished = current.ready != current.processed or current.started != current.processed
        return (given and unfinished) or self.max_steps != -1

    @property
    def logged_step(self) -> int:
        """Number of the current step, which decides whether a row is logged."""
        return self.epoch_loop._batches_that_stepped + 1

    @property
    def total_batch_idx(self) -> int:
        """The number of the batch over all epochs, from 0."""
        return self.epoch_loop.total_batch_idx

    @property
    def batch_idx(self) -> int:
        """The number of the batch within the epoch, from 0."""
        return self.epoch_loop.batch_idx

    @property
    def min_steps(self) -> int | None:
        """Optimizer steps before a stop is granted."""
        return self.epoch_loop.min_steps

    @property
    def max_steps(self) -> int:
        """Optimizer steps to make; -1 is without limit."""
        return self.epoch_loop.max_steps

    @property
    def _skip_backward(self) -> bool:
        return self.epoch_loop.automatic_optimization._skip_backward

    @_skip_backward.setter
    def _skip_backward(self, value: bool) -> None:
        self.epoch_loop.automatic_optimization._skip_backward = value

    @property
    def _results(self) -> Any:
        return (self.epoch_loop if self.trainer.training else self.epoch_loop.val_loop)._results

    @property
    def _can_stop_early(self) -> bool:
        epochs = not self.min_epochs or self.epoch_progress.current.processed >= self.min_epochs
        return epochs and (not self.min_steps or self.epoch_loop.global_step >= self.min_steps)

    def _should_accumulate(self) -> bool:
        return self.epoch_loop._should_accumulate()

    @property
    def done(self) -> bool:
        """Whether training has ended."""
        info, current = self.trainer.parts.rank_zero_info, self.epoch_progress.current
        if self.max_batches == 0:
            info("`Trainer.fit` stopped: No training batches.")
            return True
        if self.epoch_loop.steps_reached:
            info(f"`Trainer.fit` stopped: `max_steps={self.max_steps!r}` reached.")
            return True
        if self.max_epochs is not None and self.max_epochs != -1 and current.processed >= self.max_epochs:
            current.completed = current.processed
            info(f"`Trainer.fit` stopped: `max_epochs={self.max_epochs!r}` reached.")
            return True
        if self.trainer.should_stop and self._can_stop_early:
            self.trainer.parts.rank_zero_debug("`Trainer.fit` stopped: `trainer.should_stop` was set.")
            return True
        return False

    # --- what a run is made of ----------------------------------------------------------------------------------------

    def run(self) -> None:
        """Let the backend's loop train, if there is anything to train."""
        self.setup_data()
        trainer = self.trainer
        if self.done or trainer.limit_train_batches == 0:
            return
        run, self._running = trainer.run, self._running + 1
        if run is self._driven:  # a search of a callback, or what follows it, has a loop of its own
            run = trainer._open_run(trainer.strategy.root_device)
        if self._running == 1:
            trainer.run = self._driven = run
        try:
            run.run(ModuleProgram(trainer))
        finally:
            self._running -= 1
            self._profile_epoch(begins=False)

    def _profile_epoch(self, *, begins: bool) -> None:
        if begins and self._profiler is None:
            self._profiler = self.trainer.profiler
            self._profiler.start("run_training_epoch")
        elif not begins and self._profiler is not None:
            profiler, self._profiler = self._profiler, None  # the Trainer may have another one by now
            profiler.stop("run_training_epoch")

    def setup_data(self) -> None:
        """Ask for the loaders, if it is their turn.

        Raises:
            ValueError: If ``val_check_interval`` is beyond the epoch.
        """
        trainer, parts = self.trainer, self.trainer.parts
        if self._combined_loader is not None and not self._should_reload:
            return
        module, stage = trainer.lightning_module, parts.RunningStage.TRAINING
        if trainer.limit_train_batches == 0 or not parts.is_overridden("training_step", module):
            return
        self._told("resetting train dataloader")
        loader = combined(trainer, self._data_source, "max_size_cycle", stage, parts.TrainerFn.FITTING)
        self._combined_loader = loader
        loader.limits = limits(trainer, loader, stage, trainer.limit_train_batches)
        if self.restarting and self._loader_states:
            loader._load_state_dicts(self._loader_states)
            self._loader_states = []
        self._data_fetcher = fetcher_for(trainer, stage)
        self._data_fetcher.setup(loader)
        iter(self._data_fetcher)
        length = parts.sized_len(loader)
        self.max_batches = inf if length is None else length
        sized = parts.has_len_all_ranks(loader, trainer.strategy, False)
        if self.max_batches:
            self._last_train_dl_reload_epoch = trainer.current_epoch
            self._when_to_validate(sized=sized)
            if trainer.loggers and self.max_batches < trainer.log_every_n_steps and not trainer.fast_dev_run:
                said = _FEW_BATCHES.format(batches=self.max_batches, every=trainer.log_every_n_steps)
                parts.rank_zero_warn(said, category=parts.PossibleUserWarning)

    @property
    def _should_reload(self) -> bool:
        every = self.trainer.reload_dataloaders_every_n_epochs
        return bool(every and self.trainer.current_epoch - self._last_train_dl_reload_epoch >= every)

    def _when_to_validate(self, *, sized: bool) -> None:
        trainer = self.trainer
        if trainer._val_check_time_interval is not None:
            trainer.val_check_batch = None
            trainer._train_start_time = trainer._last_val_time = time.monotonic()
            return
        every = trainer.val_check_interval
        if isinstance(every, int):
            trainer.val_check_batch = every
            too_rare = every > self.max_batches and trainer.check_val_every_n_epoch is not None
            if too_rare and trainer.limit_val_batches > 0:
                raise ValueError(_TOO_RARE.format(every=every, batches=self.max_batches))
        elif sized:
            trainer.val_check_batch = max(1, int(self.max_batches * every))
        elif every == 1.0:
            trainer.val_check_batch = inf
        else:
            raise trainer.parts.MisconfigurationException(_NO_LENGTH)

    def start(self) -> None:
        """Begin, or continue where the checkpoint that was read was written."""
        self.reset()
        trainer, hooks = self.trainer, self.trainer.hooks
        if trainer.max_steps == -1:
            self.epoch_progress.current.completed = self.epoch_progress.current.processed
        if self.epoch_loop._should_check_val_epoch() and trainer.val_dataloaders is None:
            trainer.validating = True
            self.epoch_loop.val_loop.setup_data()
            trainer.training = True
        evals = [name for name, module in trainer.lightning_module.named_modules() if not module.training]
        if evals:
            said = _EVAL_MODE.format(count=len(evals))
            trainer.parts.rank_zero_warn(said, category=trainer.parts.PossibleUserWarning)
        hooks.all("on_train_start")

    def reset(self) -> None:
        """Determine where the loaded checkpoint was written, and restore the counters."""
        torch.set_grad_enabled(True)
        self._find_restart_stage()
        self.epoch_loop.update_restart_stage()
        self._complete_restarted_epoch()

    def _find_restart_stage(self) -> None:
        at = stopped_at(self.epoch_progress)
        stages = {(-1, 0, 0): _EPOCH_START, (0, -1, 0): _MID_EPOCH, (0, 0, -1): _EPOCH_END}
        stage = stages.get(at, "") if self.restarting else ""
        if not stage and self._loaded_from_state_dict and at == (0, 0, -1):
            stage = _RESUMED
        self._restart_stage = stage

    def _complete_restarted_epoch(self) -> None:
        """Count to its end an epoch whose last batch precedes the checkpoint that was read."""
        stage, progress, loop = self._restart_stage, self.epoch_progress, self.epoch_loop
        if stage == _EPOCH_START:
            progress.reset_on_restart()
        if stage == _RESUMED:
            progress.increment_completed()
        if not loop.restarted_on_train_batch_end or not loop.batch_progress.is_last_batch:
            return
        if stage == _MID_EPOCH:
            progress.increment_processed()
            progress.increment_completed()
        elif not loop.val_loop.batch_progress.is_last_batch:
            progress.increment_completed()

    def epoch_start(self) -> None:
        """Begin an epoch."""
        self.setup_data()
        for one in self._combined_loader.flattened:
            self.trainer.parts.set_sampler_epoch(one, self.epoch_progress.current.processed)
        if self._restart_stage not in (_MID_EPOCH, _EPOCH_END):
            if self._restart_stage != _EPOCH_START:
                self.epoch_progress.increment_ready()
            self.trainer.hooks.both("on_train_epoch_start")
            self.epoch_progress.increment_started()
        self._told("advancing loop")
        if self._combined_loader._mode == "sequential":
            raise ValueError(
                _SEQUENTIAL.format([one for one in self.trainer.parts.combined_modes if one != "sequential"])
            )
        self._profile_epoch(begins=True)
        self.epoch_loop.reset()
        self.epoch_loop.run_start(self._data_fetcher)

    def epoch_end(self) -> None:
        """End an epoch.

        Raises:
            SIGTERMException: If the process was told to end.
        """
        self._profile_epoch(begins=False)
        trainer, hooks, loop = self.trainer, self.trainer.hooks, self.epoch_loop
        trainer.logging.epoch_end_reached()
        self.epoch_progress.increment_processed()
        # those that monitor come last: they may monitor what the module logs here
        hooks.callbacks("on_train_epoch_end", monitoring_callbacks=False)
        hooks.module("on_train_epoch_end")
        hooks.callbacks("on_train_epoch_end", monitoring_callbacks=True)
        trainer.logging.on_epoch_end()
        if not self.restarting and loop._num_ready_batches_reached():
            step_schedules(loop, "epoch", plateau=True)
        loop._batches_that_stepped -= 1
        trainer.logging.update_train_epoch_metrics()
        loop._batches_that_stepped += 1
        self.epoch_progress.increment_completed()
        if trainer.received_sigterm:
            raise trainer.parts.SIGTERMException
        self.iteration_done()

    def end(self) -> None:
        """End."""
        self._restarting = False
        self._told("train run ended")
        self.trainer.hooks.all("on_train_end")

    def _told(self, what: str) -> None:
        self.trainer.parts.fit_loop_log.debug(f"_FitLoop: {what}")

    def teardown(self) -> None:
        """Release the loaders and tensors on devices."""
        if self._data_fetcher is not None:
            self._data_fetcher.teardown()
            self._data_fetcher = None
        self.epoch_loop.teardown()

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        """Be copied and pickled without the backend's run."""
        make, arguments, state = super().__reduce_ex__(protocol)
        return make, arguments, {**state, "_driven": None}

    def on_save_checkpoint(self) -> dict[str, Any]:
        """Return the states of the loaders that have one."""
        states = None if self._combined_loader is None else self._combined_loader._state_dicts()
        return {"combined_loader": states} if states else {}

    def on_load_checkpoint(self, state_dict: dict[str, Any]) -> None:
        """Take them."""
        self._loader_states = state_dict.get("combined_loader", [])
