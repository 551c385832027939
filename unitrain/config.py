"""How to train: the trainer's arguments, checked once, before any backend sees them."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypedDict

from unitrain import validators
from unitrain.compat.trainer_arguments import old_spellings
from unitrain.distributed.options import STRATEGIES, Strategy
from unitrain.errors import ConfigError, named_arguments

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import timedelta
    from pathlib import Path

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
    """How to train. The names are Lightning's; the meaning is the same on every backend.

    Attributes:
        max_epochs: Epochs to run; -1 means unlimited. Defaults to 1000 if max_steps and max_time are not given either.
        min_epochs: Minimum epochs before a stop (max_epochs and max_steps always apply).
        max_steps: Optimizer steps to make; -1 means unlimited.
        min_steps: Minimum optimizer steps before a stop.
        max_time: ``"DD:HH:MM:SS"``, a timedelta or its keywords; checked after each batch.
        accelerator: ``"auto"`` (a GPU if there is one), ``"cpu"``, ``"gpu"``, ``"cuda"`` or ``"mps"``.
        devices: How many devices, or which.
        num_nodes: How many hosts.
        strategy: The distributed strategy: ``"ddp"`` (also ``"auto"``), ``"fsdp"``, or a ``DDP`` or ``FSDP`` object
            with options.
        precision: ``"32-true"`` (the model as given), ``"64-true"``, ``"bf16-true"``, ``"16-true"`` (it is converted
            and stays so), ``"bf16-mixed"`` or ``"16-mixed"`` (the loss is scaled, on a CPU too); or an old spelling.
        accumulate_grad_batches: Batches per optimizer step, counted within the epoch; the last batch always steps.
        gradient_clip_val: The maximum norm or value of the gradients; None or 0 disables clipping.
        gradient_clip_algorithm: ``"norm"`` or ``"value"``.
        val_check_interval: Validate every n batches (int), or at a fraction of the epoch (float).
        check_val_every_n_epoch: Validate in every n-th epoch; None counts val_check_interval over all epochs.
        limit_train_batches: Batches of an epoch (int) or their fraction (float); so the other three.
        limit_val_batches: 0 disables validation.
        limit_test_batches: As limit_train_batches.
        limit_predict_batches: As limit_train_batches.
        num_sanity_val_steps: Batches of each validation loader to validate on before training starts, to fail early;
            -1 means all. It calls no handlers and does not change the random state. Skipped on resume. None means 0
            for a TrainSpec and Lightning's default for a LightningModule.
        reload_dataloaders_every_n_epochs: Recreate the loaders in every n-th epoch, by the hooks of a datamodule or by
            functions given as loaders: ``fit(spec, lambda: DataLoader(...))``, or ``lambda epoch: ...``; 0 disables it.
        fast_dev_run: Run n batches (True: one) of every stage for one epoch, as a smoke test.
        overfit_batches: Train and validate on that many batches; the training batches are the same in every epoch.
        sync_batchnorm: Compute batch norm over all processes.
        compile: Run the model through torch.compile; the model object stays the same and is eager again after the run.
        deterministic: Use deterministic algorithms only; ``"warn"`` warns where there are none.
        benchmark: cuDNN's autotuner; None leaves it unchanged.
        detect_anomaly: Stop at the first NaN in a backward pass.
        seed: Seeds Python, NumPy and torch when a run starts.
        callbacks: unitrain's Callbacks or native ones, besides those of the spec.
        loggers: Trackers. An empty list means none: with a LightningModule it disables Lightning's default logger.
        log_every_n_steps: Optimizer steps between rows of a tracker.
        enable_progress_bar: A bar on a terminal, one line per epoch elsewhere.
        default_root_dir: Where files go.
        profiler: ``"simple"`` profiles a run in the same way on every backend; the table is printed at the end and
            stored in
            ``FitResult.profile`` and ``trainer.profile``. A ``torch.profiler.profile``, or a function that returns one
            per run, is started and stopped with the run and stepped after each batch.
        native: ``{"lightning": {...}}``: arguments for the real constructor; ``{"ddp": {...}}``: for
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
        """Check every field by its rule, then what several fields say together."""
        clips = self.gradient_clip_val is not None
        for name, rule in _RULES.items():
            object.__setattr__(self, name, _apply(rule, name, getattr(self, name)))
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
        return str(getattr(self, name)) != str(getattr(TrainerConfig(), name))

    def resolved(self) -> TrainerConfig:
        """Return the config that ``fast_dev_run`` stands for; without it, this one."""
        count = int(self.fast_dev_run)
        if not count:
            return self
        limits = {f"limit_{stage}_batches": count for stage in ("train", "val", "test", "predict")}
        once = {"min_epochs": None, "min_steps": None, "max_time": None, "loggers": (), "num_sanity_val_steps": None}
        every = {"val_check_interval": 1.0, "check_val_every_n_epoch": 1}
        changes: dict[str, Any] = {**limits, **once, **every}
        return replace(self, max_epochs=1, max_steps=UNLIMITED, **changes)


def _is_all(limit: Limit) -> bool:
    return isinstance(limit, float) and limit == 1.0


def _apply(rule: validators.Validator, name: str, value: Any) -> Any:
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
