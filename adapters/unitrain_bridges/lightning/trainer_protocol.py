"""The Trainer protocol that a LightningModule's loops need."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from unitrain.backends.protocol import Run
    from unitrain_bridges.lightning.hooks import Hooks
    from unitrain_bridges.lightning.namespace import Parts


class TrainingLoop(Protocol):
    """The loop of a fit, as the other loops, the program and the Trainer use it.

    Attributes:
        epoch_loop: The loop of one epoch.
        epoch_progress: Lightning's counters of the epochs.
        max_batches: How many batches of an epoch are used.
    """

    epoch_loop: Any
    epoch_progress: Any
    max_batches: int | float
    max_epochs: int | None
    min_epochs: int | None
    _combined_loader: Any
    _data_fetcher: Any

    @property
    def max_steps(self) -> int:
        """Optimizer steps to make; -1 is without limit."""

    @property
    def min_steps(self) -> int | None:
        """Optimizer steps before a stop is granted."""

    @property
    def is_resuming(self) -> bool:
        """Whether a checkpoint has been read and nothing has run since."""

    @property
    def done(self) -> bool:
        """Whether training has ended."""

    @property
    def _can_stop_early(self) -> bool:
        """Whether the minima are met."""

    def _should_accumulate(self) -> bool:
        """Return whether the current batch does not step the optimizer."""

    def reset(self) -> None:
        """Find out where the checkpoint that was read was written."""

    def setup_data(self) -> None:
        """Ask for the loaders, if it is their turn."""

    def run(self) -> None:
        """Train, if there is anything to train."""

    def start(self) -> None:
        """Begin."""

    def epoch_start(self) -> None:
        """Begin an epoch."""

    def epoch_end(self) -> None:
        """End an epoch."""

    def end(self) -> None:
        """End."""


class ModuleTrainer(Protocol):
    """A Trainer, by Lightning's own names, as far as its loops use it.

    Attributes:
        parts: The parts of the Lightning that the module comes from.
        framework: The name of the backend whose loop runs the steps.
        run: The backend's run of the last fit or evaluation.
        hooks: Calls the hooks of the module, its callbacks and the strategy.
        logging: Lightning's book-keeping of logged values.
        short_way: Whether a step may leave out what nobody overrode; False makes every call that Lightning makes.
    """

    # --- what it is made of
    parts: Parts
    framework: str
    run: Run
    hooks: Hooks
    logging: Any
    short_way: bool
    callbacks: list[Any]
    loggers: list[Any]
    strategy: Any
    precision_plugin: Any
    lightning_module: Any
    datamodule: Any
    optimizers: list[Any]
    lr_scheduler_configs: Sequence[Any]
    fit_loop: TrainingLoop
    profiler: Any
    # --- where it is
    state: Any
    training: bool
    validating: bool
    testing: bool
    sanity_checking: bool
    should_stop: bool
    world_size: int
    current_epoch: int
    is_global_zero: bool
    received_sigterm: bool
    callback_metrics: Any
    val_dataloaders: Any
    num_training_batches: int | float
    val_check_batch: Any  # None where validation goes by time
    # --- what it was told
    min_epochs: int | None
    max_steps: int
    accumulate_grad_batches: int
    gradient_clip_val: float | None
    gradient_clip_algorithm: Any
    check_val_every_n_epoch: int | None
    val_check_interval: int | float
    limit_train_batches: int | float
    limit_val_batches: int | float
    limit_test_batches: int | float
    limit_predict_batches: int | float
    overfit_batches: int | float
    num_sanity_val_steps: int | float
    reload_dataloaders_every_n_epochs: int
    log_every_n_steps: int
    fast_dev_run: bool | int
    _val_check_time_interval: float | None
    _train_start_time: float
    _last_val_time: float
    _open_run: Callable[[Any], Run]

    @property
    def enable_validation(self) -> bool:
        """Whether the fit validates."""
