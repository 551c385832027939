"""The Trainer and module views that Lightning callbacks see when a TrainSpec runs on another backend."""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NoReturn

import torch

from unitrain.errors import UnsupportedFeatureError
from unitrain.run.hub import Event
from unitrain.run.stopping import EARLY_STOPPING, MAX_TIME, USER, StopRule
from unitrain_bridges.lightning.trainer import _missing
from unitrain_lightning.module import Shell
from unitrain_lightning.tracking import TrackingLogger

if TYPE_CHECKING:
    from collections.abc import Callable

    from unitrain.run.context import RunContext
    from unitrain_bridges.lightning.namespace import Parts

_OF_CONFIG = (
    "accumulate_grad_batches",
    "check_val_every_n_epoch",
    "fast_dev_run",
    "gradient_clip_algorithm",
    "gradient_clip_val",
    "log_every_n_steps",
    "max_steps",
    "min_epochs",
    "min_steps",
    "precision",
    "val_check_interval",
)
"""Trainer attributes that come from arguments, and unitrain's options for them."""

_FIXED = {"sanity_checking": False, "datamodule": None, "interrupted": False}


class ModuleView(Shell):
    """Carries the user's model under ``model``, as the module that the Lightning backend trains."""

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        found: torch.device = self._trainer.strategy.root_device
        return found

    def optimizers(self, use_pl_optimizer: bool = True) -> Any:  # noqa: ARG002 - Lightning's signature
        """Return the optimizer, or the list of them."""
        found = self._trainer.optimizers
        return found[0] if len(found) == 1 else found

    def log(self, *_: Any, **__: Any) -> NoReturn:
        """Refuse: values logged by a callback belong to Lightning's own results."""
        raise UnsupportedFeatureError(
            "a callback called log() or log_dict(), whose values Lightning's own loop collects.",
            hint="@trainer.on(Event.EPOCH_END) with run.log(name, value), or framework='lightning'.",
        )

    log_dict = log


class StrategyView:
    """The multi-process methods of a Trainer's strategy.

    Args:
        run: The run.
        framework: The framework.
    """

    def __init__(self, run: RunContext, framework: str) -> None:
        self._team = run.team
        self._framework = framework
        self.root_device = next((one.device for one in run.model.parameters()), torch.device("cpu"))

    def __getattr__(self, name: str) -> Any:
        raise _missing(object, f"strategy.{name}", self._framework)

    def barrier(self, name: str | None = None) -> None:  # noqa: ARG002 - Lightning's signature
        """Wait until all processes are here."""
        self._team.barrier()

    def broadcast(self, value: Any, src: int = 0) -> Any:
        """Return the object of one process."""
        return value if self._team.size == 1 else self._team.all_gather_object(value)[src]

    def reduce_boolean_decision(self, decision: bool, all: bool = True) -> bool:  # noqa: A002 - Lightning's signature
        """Return whether all processes, or any, say so."""
        if self._team.size == 1:
            return decision
        (found,) = self._team.all_reduce_max([not decision if all else decision])
        return not found if all else bool(found)


class TrainerView:
    """A view of a unitrain run with the attributes of a Trainer; unsupported ones raise an error with their name.

    Attributes:
        run: The run that is followed.
        current_epoch: Epochs that are over, as Lightning counts them.
        callback_metrics: The metrics as tensors.
        is_last_batch: Whether the batch is the epoch's last, where the epoch's length is known.

    Args:
        run: The run.
        parts: The parts of the Lightning that the callback comes from.
        callback: The callback.
        framework: The framework of the run.
    """

    def __init__(self, run: RunContext, parts: Parts, callback: Any, framework: str) -> None:
        self.run = run
        self.parts = parts
        self.framework = framework
        self.callbacks = [callback]
        self.current_epoch = 0
        self.callback_metrics: dict[str, Any] = {}
        self.logged_metrics: dict[str, Any] = {}
        self.progress_bar_metrics: dict[str, Any] = {}
        self.loggers: list[Any] = []
        if run.hub.trackers is not None:
            self.loggers.append(parts.made(TrackingLogger)(self.default_root_dir))
            self.loggers[0].hub = run.hub
        self.is_last_batch = False
        self.state = parts.TrainerState()
        self.strategy = StrategyView(run, framework)
        self.lightning_module = self.model = parts.made(ModuleView)(run.model)
        self.model._trainer = self  # noqa: SLF001 - no property takes what is no Trainer
        callback.log, callback.log_dict = self.model.log, self.model.log_dict  # as Lightning
        self._asked = False

    def __getattr__(self, name: str) -> Any:
        run = vars(self).get("run")
        if run is not None and name in _OF_CONFIG:
            return getattr(run.config, name)
        if name in _FIXED:
            return _FIXED[name]
        if name in _OF_RUN and run is not None:
            return _OF_RUN[name](run)
        raise _missing(self.parts.Trainer if run is not None else object, name, vars(self).get("framework"))

    @property
    def max_epochs(self) -> int:
        """Epochs to run; -1 if there is no limit."""
        epochs = self.run.config.epochs
        return -1 if epochs is None else epochs

    @property
    def should_stop(self) -> bool:
        """Whether the run ends with the current batch."""
        hub = self.run.hub
        return self._asked or StopRule(self.run.config, hub).granted(hub.occurred(Event.EPOCH_END))

    @should_stop.setter
    def should_stop(self, value: bool) -> None:
        if value == self._asked:
            return
        hub, own = self.run.hub, self.callbacks[0]
        reason = next((reason for kind, reason in _REASONS if isinstance(own, getattr(self.parts, kind))), USER)
        self._asked = value
        if value:
            hub.request_stop(reason)
        elif hub.stop_reason == reason:
            hub.stop_reason = None

    @property
    def training(self) -> bool:
        """Whether training runs."""
        return bool(self.state.stage == self.parts.RunningStage.TRAINING)

    @property
    def validating(self) -> bool:
        """Whether a validation runs."""
        return bool(self.state.stage == self.parts.RunningStage.VALIDATING)

    @property
    def testing(self) -> bool:
        """Whether a test runs."""
        return bool(self.state.stage == self.parts.RunningStage.TESTING)

    @property
    def logger(self) -> Any:
        """The logger that forwards rows to the trackers; None if there are none."""
        return self.loggers[0] if self.loggers else None

    def enter(self, stage: str, function: str) -> None:
        """Take note of the stage that begins."""
        self.state.stage = getattr(self.parts.RunningStage, stage)
        self.state.fn = getattr(self.parts.TrainerFn, function)
        self.state.status = self.parts.TrainerStatus.RUNNING
        self.model.training = stage == "TRAINING"

    def publish(self) -> None:
        """Show the newest values."""
        metrics = self.run.hub.epoch_metrics
        self.callback_metrics.update({name: torch.tensor(value) for name, value in metrics.items()})

    def save_checkpoint(self, filepath: Any, weights_only: bool | None = None) -> None:
        """Write a portable checkpoint, once the running batch and its validation are done.

        Raises:
            UnsupportedFeatureError: If it is to hold the weights only.
        """
        if weights_only:
            raise UnsupportedFeatureError(
                "trainer.save_checkpoint(weights_only=True) has no equivalent in unitrain.",
                hint="torch.save(pl_module.model.state_dict(), path)",
            )
        self.run.save_checkpoint(filepath)

    def print(self, *values: Any, **options: Any) -> None:
        """Print, on rank 0."""
        self.run.rank_zero_only(print)(*values, **options)


_REASONS = (("EarlyStopping", EARLY_STOPPING), ("Timer", MAX_TIME))
"""Lightning callbacks that set ``trainer.should_stop``, and the stop reason of each."""

_OF_RUN: dict[str, Callable[[RunContext], Any]] = {
    "_accelerator_connector": lambda run: SimpleNamespace(is_distributed=run.world_size > 1),  # optuna-integration asks
    "default_root_dir": lambda run: os.fspath(run.config.default_root_dir),
    "global_rank": lambda run: run.rank,
    "global_step": lambda run: run.hub.occurred(Event.OPTIMIZER_STEP),
    "is_global_zero": lambda run: run.rank == 0,
    "log_dir": lambda run: os.fspath(run.config.default_root_dir),
    "num_training_batches": lambda run: float("inf") if run.epoch_length is None else run.epoch_length,
    "optimizers": lambda run: list(run.optimizers.values()),
    "world_size": lambda run: run.world_size,
}
"""Trainer attributes of the run itself."""
