"""How to train: the trainer's arguments, checked once, before any backend sees them."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, TypeAlias, TypedDict

from unitrain.errors import ConfigError, named_arguments

Limit: TypeAlias = int | float
"""An int is a number of batches, a float a fraction: ``1`` is one batch, ``1.0`` is all of them."""

DEFAULT_MAX_EPOCHS = 1000
"""As in Lightning, when neither epochs, steps nor time are limited."""

UNLIMITED = -1

_PRECISIONS: dict[Any, str] = {
    **{name: name for name in ("32-true", "64-true", "16-true", "bf16-true", "16-mixed", "bf16-mixed")},
    32: "32-true",
    "32": "32-true",
    64: "64-true",
    "64": "64-true",
    16: "16-mixed",
    "16": "16-mixed",
    "bf16": "bf16-mixed",
}
_MAX_TIME = re.compile(r"(\d+):(\d+):(\d+):(\d+)")


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
    strategy: str
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
    native: Mapping[str, Mapping[str, Any]] | None


@named_arguments(ConfigError)
@dataclass(frozen=True, kw_only=True)
class TrainerConfig:
    """How to train. The names are Lightning's; the meaning is the same on every backend.

    Attributes:
        max_epochs: Epochs to run; -1 is without limit. If neither this, max_steps nor max_time is given: 1000.
        min_epochs: Epochs before a stop is granted (max_epochs and max_steps always hold).
        max_steps: Optimizer steps to make; -1 is without limit.
        min_steps: Optimizer steps before a stop is granted.
        max_time: ``"DD:HH:MM:SS"``, a timedelta or its keywords; looked at after each batch.
        accelerator: ``"auto"`` (a GPU if there is one), ``"cpu"``, ``"gpu"``, ``"cuda"`` or ``"mps"``.
        devices: How many devices, or which.
        num_nodes: How many hosts.
        strategy: How several devices work together.
        precision: ``"32-true"`` and the like; old spellings are understood.
        accumulate_grad_batches: Batches per optimizer step, by position within the epoch; the last batch always steps.
        gradient_clip_val: The largest norm or value of the gradients; None or 0 clips nothing.
        gradient_clip_algorithm: ``"norm"`` or ``"value"``.
        val_check_interval: Validate each n batches (int), or at a fraction of the epoch (float).
        check_val_every_n_epoch: Validate in each n-th epoch; None counts val_check_interval over all epochs.
        limit_train_batches: Batches of an epoch (int) or their fraction (float); so the other three.
        limit_val_batches: 0 switches validation off.
        limit_test_batches: As limit_train_batches.
        limit_predict_batches: As limit_train_batches.
        fast_dev_run: Run n batches (True: one) of everything, one epoch, to see whether it works.
        overfit_batches: Train and validate on that many batches; the training batches are the same in every epoch.
        sync_batchnorm: Compute batch norm over all processes.
        compile: Run the model through torch.compile.
        deterministic: Deterministic algorithms only; ``"warn"`` to be told where there are none.
        benchmark: cuDNN's autotuner; None leaves it as it is.
        detect_anomaly: Stop at the first NaN in a backward pass.
        seed: Seeds Python, NumPy and torch when a run starts.
        callbacks: unitrain's Callbacks or native ones, besides those of the spec.
        loggers: Trackers.
        log_every_n_steps: Optimizer steps between two rows of a tracker.
        enable_progress_bar: A bar on a terminal, a line an epoch elsewhere.
        default_root_dir: Where files go.
        native: ``{"lightning": {...}}``: arguments for the real constructor, as they are.

    Raises:
        ConfigError: If a value cannot be meant.
    """

    max_epochs: int | None = None
    min_epochs: int | None = None
    max_steps: int = UNLIMITED
    min_steps: int | None = None
    max_time: str | timedelta | Mapping[str, float] | None = None
    accelerator: str = "auto"
    devices: int | str | list[int] = 1
    num_nodes: int = 1
    strategy: str = "auto"
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
    fast_dev_run: bool | int = False
    overfit_batches: Limit = 0
    sync_batchnorm: bool = False
    compile: bool = False
    deterministic: bool | Literal["warn"] = False
    benchmark: bool | None = None
    detect_anomaly: bool = False
    seed: int | None = None
    callbacks: Sequence[Any] = ()
    loggers: Sequence[Any] = ()
    log_every_n_steps: int = 50
    enable_progress_bar: bool = True
    default_root_dir: str | Path = "."
    native: Mapping[str, Mapping[str, Any]] | None = field(default=None)

    def __post_init__(self) -> None:
        """Check every field by its rule, then what several fields say together."""
        for name, rule in _RULES.items():
            object.__setattr__(self, name, rule(name, getattr(self, name)))
        if self.min_epochs and 0 <= _or_unlimited(self.max_epochs) < self.min_epochs:
            raise ConfigError(f"min_epochs={self.min_epochs} is above max_epochs={self.max_epochs}.")
        if self.min_steps and 0 <= self.max_steps < self.min_steps:
            raise ConfigError(f"min_steps={self.min_steps} is above max_steps={self.max_steps}.")
        if self.check_val_every_n_epoch is None and isinstance(self.val_check_interval, float):
            raise ConfigError(
                "check_val_every_n_epoch=None counts val_check_interval over all epochs, so that must be a number of"
                f" batches; got {self.val_check_interval!r}.",
                hint="val_check_interval=500",
            )
        if self.overfit_batches and self.fast_dev_run:
            raise ConfigError("overfit_batches and fast_dev_run both say how many batches to run.", hint="give one.")

    @property
    def epochs(self) -> int | None:
        """The number of epochs to run, or None if it is not limited."""
        if self.max_epochs is None:
            free = self.max_steps == UNLIMITED and self.max_time is None
            return DEFAULT_MAX_EPOCHS if free else None
        return None if self.max_epochs == UNLIMITED else self.max_epochs

    def limit(self, stage: str) -> Limit:
        """Return the limit on the batches of ``"train"``, ``"val"``, ``"test"`` or ``"predict"``."""
        if self.overfit_batches and stage in ("train", "val"):
            return self.overfit_batches
        limit: Limit = getattr(self, f"limit_{stage}_batches")
        return limit

    def resolved(self) -> TrainerConfig:
        """Return the config that ``fast_dev_run`` stands for; without it, this one."""
        count = int(self.fast_dev_run)
        if not count:
            return self
        limits = {f"limit_{stage}_batches": count for stage in ("train", "val", "test", "predict")}
        once = {"min_epochs": None, "min_steps": None, "max_time": None, "loggers": ()}
        every = {"val_check_interval": 1.0, "check_val_every_n_epoch": 1}
        changes: dict[str, Any] = {**limits, **once, **every, "fast_dev_run": False}
        return replace(self, max_epochs=1, max_steps=UNLIMITED, **changes)


Rule: TypeAlias = Callable[[str, Any], Any]


def _or_unlimited(value: int | None) -> int:
    return UNLIMITED if value is None else value


def _refuse(name: str, value: Any, accepted: str, hint: str | None = None) -> ConfigError:
    return ConfigError(f"{name} must be {accepted}; got {value!r}.", hint=hint)


def _integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _count(least: int, *others: Any, says: str | None = None) -> Rule:
    wanted = says or " or ".join([f"an integer of at least {least}", *map(repr, others)])

    def check(name: str, value: Any) -> Any:
        if any(
            value is other or (other is not None and type(value) is type(other) and value == other) for other in others
        ):
            return value
        if _integer(value) and value >= least:
            return value
        raise _refuse(name, value, wanted)

    return check


def _choice(*accepted: Any) -> Rule:
    def check(name: str, value: Any) -> Any:
        if any(type(value) is type(one) and value == one for one in accepted):
            return value
        raise _refuse(name, value, f"one of {', '.join(map(repr, accepted))}")

    return check


def _limit(name: str, value: Any) -> Any:
    if _integer(value) and value >= 0:
        return value
    if isinstance(value, float) and 0.0 <= value <= 1.0:
        return value
    raise _refuse(
        name, value, "a number of batches (an int of at least 0) or a fraction (a float from 0.0 to 1.0)", "1.0 is all."
    )


def _interval(name: str, value: Any) -> Any:
    if (_integer(value) and value >= 1) or (isinstance(value, float) and 0.0 < value <= 1.0):
        return value
    raise _refuse(name, value, "a number of batches (an int of at least 1) or a fraction of the epoch (0.0 < f <= 1.0)")


def _fast_dev_run(name: str, value: Any) -> Any:
    if isinstance(value, bool) or (isinstance(value, int) and value >= 0):
        return value
    raise _refuse(name, value, "True, False or a number of batches")


def _precision(name: str, value: Any) -> str:
    try:
        return _PRECISIONS[value]
    except (KeyError, TypeError) as error:
        accepted = ", ".join(sorted({repr(one) for one in _PRECISIONS.values()}))
        raise _refuse(name, value, f"one of {accepted}") from error


def _clip(name: str, value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value) and value >= 0:
        return float(value) or None
    raise _refuse(name, value, "None or a finite number of at least 0")


def _max_time(name: str, value: Any) -> timedelta | None:
    if value is None:
        return None
    duration = value
    if isinstance(value, str) and (match := _MAX_TIME.fullmatch(value)):
        days, hours, minutes, seconds = map(int, match.groups())
        duration = timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)
    elif isinstance(value, Mapping):
        try:
            duration = timedelta(**value)
        except TypeError as error:
            raise _refuse(name, value, "the keywords of datetime.timedelta", '{"minutes": 30}') from error
    if isinstance(duration, timedelta) and duration > timedelta(0):
        return duration
    raise _refuse(name, value, 'a positive "DD:HH:MM:SS", timedelta or mapping of its keywords', '"00:12:00:00"')


def _devices(name: str, value: Any) -> Any:
    if isinstance(value, str) and re.fullmatch(r"auto|-1|[1-9]\d*", value):
        return value if value == "auto" else int(value)
    if _integer(value) and (value >= 1 or value == UNLIMITED):
        return value
    if isinstance(value, (list, tuple)) and value and all(_integer(one) and one >= 0 for one in value):
        return list(value)
    raise _refuse(name, value, 'a number of devices, a list of their indices, "auto" or -1 (all)')


def _text(name: str, value: Any) -> Any:
    if isinstance(value, str) and value:
        return value
    raise _refuse(name, value, "a name")


def _path(name: str, value: Any) -> Path:
    if isinstance(value, (str, Path)):
        return Path(value)
    raise _refuse(name, value, "a path")


def _sequence(name: str, value: Any) -> tuple[Any, ...]:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return tuple(value)
    raise _refuse(name, value, "a sequence", f"{name}=[...]")


def _native(name: str, value: Any) -> Any:
    if value is None:
        return MappingProxyType({})
    if isinstance(value, Mapping) and all(isinstance(one, Mapping) for one in value.values()):
        return value
    raise _refuse(name, value, "a mapping of framework names to mappings of arguments", '{"lightning": {...}}')


_switch = _choice(True, False)
_seed = _count(0, None)

_RULES: dict[str, Rule] = {
    "max_epochs": _count(1, None, UNLIMITED),
    "min_epochs": _count(0, None),
    "max_steps": _count(1, UNLIMITED),
    "min_steps": _count(0, None),
    "max_time": _max_time,
    "accelerator": _choice("auto", "cpu", "gpu", "cuda", "mps"),
    "devices": _devices,
    "num_nodes": _count(1),
    "strategy": _text,
    "precision": _precision,
    "accumulate_grad_batches": _count(1),
    "gradient_clip_val": _clip,
    "gradient_clip_algorithm": _choice("norm", "value"),
    "val_check_interval": _interval,
    "check_val_every_n_epoch": _count(1, None),
    "limit_train_batches": _limit,
    "limit_val_batches": _limit,
    "limit_test_batches": _limit,
    "limit_predict_batches": _limit,
    "fast_dev_run": _fast_dev_run,
    "overfit_batches": _limit,
    "sync_batchnorm": _switch,
    "compile": _switch,
    "deterministic": _choice(True, False, "warn"),
    "benchmark": _choice(True, False, None),
    "detect_anomaly": _switch,
    "seed": _seed,
    "callbacks": _sequence,
    "loggers": _sequence,
    "log_every_n_steps": _count(0),
    "enable_progress_bar": _switch,
    "default_root_dir": _path,
    "native": _native,
}
assert set(_RULES) == {one.name for one in fields(TrainerConfig)} == set(TrainerOptions.__annotations__)  # noqa: S101
