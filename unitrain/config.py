"""How to train: the trainer's arguments, checked once, before any backend sees them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence  # noqa: TC003 - what reads type hints needs these names
from dataclasses import dataclass, field, fields, replace
from datetime import timedelta  # noqa: TC003
from functools import cache
from pathlib import Path  # noqa: TC003
from typing import Any, Literal, TypeAlias, TypedDict

from unitrain.compat.trainer_arguments import old_spellings
from unitrain.distributed.options import STRATEGIES, Strategy
from unitrain.errors import ConfigError, named_arguments
from unitrain.utilities import validators

Limit: TypeAlias = int | float
"""An int is a number of batches, a float a fraction: ``1`` is one batch, ``1.0`` all batches."""

DEFAULT_MAX_EPOCHS = 1000
"""As in Lightning, when neither epochs, steps nor time are limited."""

UNLIMITED = validators.UNLIMITED


class TrainerOptions(TypedDict, total=False):
    """The keyword arguments of UnifiedTrainer, for type checkers; they are the fields of TrainerConfig."""

    max_epochs: int | None
    min_epochs: int | None
    max_steps: int
    min_steps: int | None
    max_time: str | timedelta | Mapping[str, float] | None
    accelerator: str
    devices: int | str | list[int]
    num_nodes: int
    strategy: str | Strategy
    precision: str | int
    accumulate_grad_batches: int
    gradient_clip_val: float | None
    gradient_clip_algorithm: Literal["norm", "value"]
    val_check_interval: Limit
    check_val_every_n_epoch: int | None
    limit_train_batches: Limit
    limit_val_batches: Limit
    limit_test_batches: Limit
    limit_predict_batches: Limit
    num_sanity_val_steps: int | None
    reload_dataloaders_every_n_epochs: int
    fast_dev_run: bool | int
    overfit_batches: Limit
    prefetch_to_device: bool
    sync_batchnorm: bool
    compile: bool
    deterministic: bool | Literal["warn"]
    benchmark: bool | None
    detect_anomaly: bool
    seed: int | None
    callbacks: Sequence[Any]
    loggers: Sequence[Any]
    log_every_n_steps: int
    enable_progress_bar: bool
    default_root_dir: str | Path
    profiler: Any
    native: Mapping[str, Mapping[str, Any]] | None


@named_arguments(ConfigError, old_spellings)
@dataclass(frozen=True, kw_only=True)
class TrainerConfig:
    """How to train. Names follow Lightning; the meaning is the same on every backend.

    Attributes:
        max_epochs: Number of epochs; -1 means unlimited. Defaults to 1000 if max_steps and max_time are not given.
        min_epochs: Minimum epochs before a stop (max_epochs and max_steps always apply).
        max_steps: Number of optimizer steps; -1 means unlimited.
        min_steps: Minimum optimizer steps before a stop.
        max_time: ``"DD:HH:MM:SS"``, a timedelta or its keywords; checked after each batch.
        accelerator: ``"auto"`` (a GPU if there is one), ``"cpu"``, ``"gpu"``, ``"cuda"`` or ``"mps"``.
        devices: Number of devices, or a list of their indices.
        num_nodes: Number of hosts.
        strategy: The distributed strategy: ``"ddp"`` (also ``"auto"``), ``"fsdp"``, or a ``DDP`` or ``FSDP`` object
            with options.
        precision: ``"32-true"`` (the model as given), ``"64-true"``, ``"bf16-true"``, ``"16-true"`` (the model is
            converted permanently), ``"bf16-mixed"`` or ``"16-mixed"`` (the loss is scaled, on a CPU too); or an old
            spelling.
        accumulate_grad_batches: Batches per optimizer step, counted within the epoch; the last batch always steps.
        gradient_clip_val: The maximum norm or value of the gradients; None or 0 disables clipping.
        gradient_clip_algorithm: ``"norm"`` or ``"value"``.
        val_check_interval: Validate every n batches (int), or at a fraction of the epoch (float).
        check_val_every_n_epoch: Validate in every n-th epoch; None counts val_check_interval over all epochs.
        limit_train_batches: Number (int) or fraction (float) of batches per epoch.
        limit_val_batches: As limit_train_batches; 0 disables validation.
        limit_test_batches: As limit_train_batches.
        limit_predict_batches: As limit_train_batches.
        num_sanity_val_steps: Number of batches of each validation loader to validate on before training, to fail early;
            -1 means all. It calls no handlers and does not change the random state. Skipped on resume. None means 0 for
            a TrainSpec and Lightning's default for a LightningModule.
        reload_dataloaders_every_n_epochs: Recreate the loaders in every n-th epoch, by the hooks of a datamodule or by
            functions given as loaders: ``fit(spec, lambda: DataLoader(...))``, or ``lambda epoch: ...``; 0 disables it.
        fast_dev_run: Number of batches (True: one) of every stage to run for one epoch, as a smoke test.
        overfit_batches: Number (int) or fraction (float) of batches to train and validate on, the same in every epoch.
        prefetch_to_device: Whether to copy batches to a GPU on a CUDA stream of its own, while it computes the step
            before; for loaders with ``pin_memory=True``. Results do not change; batches that arrive early take memory.
        sync_batchnorm: Whether to compute batch norm over all processes.
        compile: Whether to run the model through torch.compile; the model object is unchanged and eager again
            afterwards.
        deterministic: Whether to use deterministic algorithms only; ``"warn"`` warns where there are none.
        benchmark: cuDNN's autotuner; None leaves it unchanged.
        detect_anomaly: Whether to raise at the first NaN in a backward pass.
        seed: Seed for Python, NumPy and torch when a run starts.
        callbacks: unitrain's Callbacks or native ones, in addition to the spec's.
        loggers: Trackers. An empty list means none: with a LightningModule it disables Lightning's default logger.
        log_every_n_steps: Number of optimizer steps between the rows of a tracker.
        enable_progress_bar: Whether to show a progress bar on a terminal, and one line per epoch elsewhere.
        default_root_dir: Folder for files.
        profiler: ``"simple"`` profiles a run in the same way on every backend; the table is printed at the end and
            stored in ``FitResult.profile`` and ``trainer.profile``. A ``torch.profiler.profile``, or a function that
            returns one per run, is started and stopped with the run and stepped after each batch.
        native: Arguments for native objects: ``{"lightning": {...}}`` for the real Trainer, ``{"ddp": {...}}`` for
            torch's DistributedDataParallel.

    Raises:
        ConfigError: If a value is invalid.

    Example:
        >>> UnifiedTrainer("reference", max_epochs=3, precision="bf16-mixed").config.max_epochs
        3
    """

    max_epochs: int | None = None
    min_epochs: int | None = None
    max_steps: int = UNLIMITED
    min_steps: int | None = None
    max_time: str | timedelta | Mapping[str, float] | None = None
    accelerator: str = "auto"
    devices: int | str | list[int] = 1
    num_nodes: int = 1
    strategy: str | Strategy = "auto"
    precision: str | int = "32-true"
    accumulate_grad_batches: int = 1
    gradient_clip_val: float | None = None
    gradient_clip_algorithm: Literal["norm", "value"] = "norm"
    val_check_interval: Limit = 1.0
    check_val_every_n_epoch: int | None = 1
    limit_train_batches: Limit = 1.0
    limit_val_batches: Limit = 1.0
    limit_test_batches: Limit = 1.0
    limit_predict_batches: Limit = 1.0
    num_sanity_val_steps: int | None = None
    reload_dataloaders_every_n_epochs: int = 0
    fast_dev_run: bool | int = False
    overfit_batches: Limit = 0
    prefetch_to_device: bool = False
    sync_batchnorm: bool = False
    compile: bool = False
    deterministic: bool | Literal["warn"] = False
    benchmark: bool | None = None
    detect_anomaly: bool = False
    seed: int | None = None
    callbacks: Sequence[Any] = ()
    loggers: Sequence[Any] = validators.NotGiven()
    log_every_n_steps: int = 50
    enable_progress_bar: bool = True
    default_root_dir: str | Path = "."
    profiler: Any = None
    native: Mapping[str, Mapping[str, Any]] | None = field(default=None)

    def __post_init__(self) -> None:
        """Check every field by its rule, then combinations of fields."""
        clips = self.gradient_clip_val is not None
        for name in _RULES:
            object.__setattr__(self, name, checked(name, getattr(self, name)))
        contradictions = (
            (
                bool(self.min_epochs) and 0 <= (self.max_epochs or UNLIMITED) < (self.min_epochs or 0),
                f"min_epochs={self.min_epochs} is greater than max_epochs={self.max_epochs}.",
                "lower the minimum or raise the maximum.",
            ),
            (
                bool(self.min_steps) and 0 <= self.max_steps < (self.min_steps or 0),
                f"min_steps={self.min_steps} is greater than max_steps={self.max_steps}.",
                "lower the minimum or raise the maximum.",
            ),
            (
                self.check_val_every_n_epoch is None and isinstance(self.val_check_interval, float),
                (
                    f"check_val_every_n_epoch=None counts batches over all epochs; got val_check_interval="
                    f"{self.val_check_interval!r}, a fraction of an epoch."
                ),
                "val_check_interval=500",
            ),
            (
                bool(self.overfit_batches) and bool(self.fast_dev_run),
                "overfit_batches and fast_dev_run both set the number of batches.",
                "use one of them.",
            ),
            (
                bool(self.overfit_batches)
                and (self.limit_train_batches != 1.0 or self.limit_val_batches not in (0, 1.0)),
                "overfit_batches replaces limit_train_batches and limit_val_batches, which are also set.",
                "use one or the other.",
            ),
            (
                bool(self.overfit_batches) and bool(self.reload_dataloaders_every_n_epochs),
                "reload_dataloaders_every_n_epochs has no effect: overfit_batches repeats the first epoch's batches.",
                "use one of them.",
            ),
            (
                self.gradient_clip_algorithm != "norm" and not clips,
                f"gradient_clip_algorithm={self.gradient_clip_algorithm!r} has no effect without gradient_clip_val.",
                "gradient_clip_val=1.0",
            ),
        )
        for contradicts, message, hint in contradictions:
            if contradicts:
                raise ConfigError(message, hint=hint)

    @property
    def epochs(self) -> int | None:
        """The number of epochs to run, or None if it is not limited."""
        if self.max_epochs is None:
            free = self.max_steps == UNLIMITED and self.max_time is None
            return DEFAULT_MAX_EPOCHS if free else None
        return None if self.max_epochs == UNLIMITED else self.max_epochs

    @property
    def plan(self) -> Strategy:
        """The distributed strategy."""
        return self.strategy if isinstance(self.strategy, Strategy) else STRATEGIES[self.strategy]

    def limit(self, stage: str) -> Limit:
        """Return the limit on the batches of ``"train"``, ``"val"``, ``"test"`` or ``"predict"``."""
        limit: Limit = getattr(self, f"limit_{stage}_batches")
        return self.overfit_batches if self.overfit_batches and limit and stage in ("train", "val") else limit

    def changed(self, name: str) -> bool:
        """Return whether a field is not its default; one batch is not ``1.0`` of them, and ``Path(".")`` is ``"."``."""
        return str(getattr(self, name)) != str(getattr(_defaults(), name))

    def resolved(self) -> TrainerConfig:
        """Return the config with ``fast_dev_run`` applied."""
        count = int(self.fast_dev_run)
        if not count:
            return self
        limits = {f"limit_{stage}_batches": count for stage in ("train", "val", "test", "predict")}
        once = {"min_epochs": None, "min_steps": None, "max_time": None, "loggers": (), "num_sanity_val_steps": None}
        every = {"val_check_interval": 1.0, "check_val_every_n_epoch": 1}
        changes: dict[str, Any] = {**limits, **once, **every}
        return replace(self, max_epochs=1, max_steps=UNLIMITED, **changes)


@cache
def _defaults() -> TrainerConfig:
    return TrainerConfig()


def _is_all(limit: Limit) -> bool:
    return isinstance(limit, float) and limit == 1.0


def checked(name: str, value: Any) -> Any:
    """Return the valid form of one option.

    Args:
        name: Name of a field of TrainerConfig.
        value: The given value.

    Raises:
        ConfigError: If it is invalid.
    """
    rule = _RULES[name]
    try:
        return rule(value)
    except validators.Invalid as refusal:
        raise ConfigError(
            f"{name} must be {refusal.accepted}; got {value!r}.", hint=_hint(rule, name, value, refusal)
        ) from refusal.__cause__


def _hint(rule: validators.Validator, name: str, value: Any, refusal: validators.Invalid) -> str:
    old = old_spellings({name: value}).get(name)
    number = None if old else validators.as_number(rule, value)
    if number is not None:
        return f"{name}={number!r}{', without quotes.' if isinstance(value, str) else ''}"
    default = TrainerConfig.__dataclass_fields__[name].default
    return old or refusal.hint or f"the default is {name}={default!r}."


_RULES: dict[str, validators.Validator] = {
    "max_epochs": validators.count(1, None, UNLIMITED),
    "min_epochs": validators.count(0, None),
    "max_steps": validators.count(1, UNLIMITED),
    "min_steps": validators.count(0, None),
    "max_time": validators.max_time,
    "accelerator": validators.choice("auto", "cpu", "gpu", "cuda", "mps"),
    "devices": validators.devices,
    "num_nodes": validators.count(1),
    "strategy": validators.either(validators.choice(*STRATEGIES), Strategy),
    "precision": validators.precision,
    "accumulate_grad_batches": validators.accumulation,
    "gradient_clip_val": validators.clip,
    "gradient_clip_algorithm": validators.choice("norm", "value"),
    "val_check_interval": validators.interval,
    "check_val_every_n_epoch": validators.count(1, None),
    "limit_train_batches": validators.limit,
    "limit_val_batches": validators.limit,
    "limit_test_batches": validators.limit,
    "limit_predict_batches": validators.limit,
    "num_sanity_val_steps": validators.count(0, None, UNLIMITED),
    "reload_dataloaders_every_n_epochs": validators.count(0),
    "fast_dev_run": validators.fast_dev_run,
    "overfit_batches": validators.limit,
    "prefetch_to_device": validators.switch,
    "sync_batchnorm": validators.switch,
    "compile": validators.switch,
    "deterministic": validators.choice(True, False, "warn"),
    "benchmark": validators.choice(True, False, None),
    "detect_anomaly": validators.switch,
    "seed": validators.seed,
    "callbacks": validators.sequence,
    "loggers": validators.trackers,
    "log_every_n_steps": validators.count(0),
    "enable_progress_bar": validators.switch,
    "default_root_dir": validators.path,
    "profiler": validators.profiler,
    "native": validators.native,
}
assert set(_RULES) == {one.name for one in fields(TrainerConfig)} == set(TrainerOptions.__annotations__)  # noqa: S101
