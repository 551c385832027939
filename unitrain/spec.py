"""What to train: the spec that every backend translates."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, TypedDict

from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from unitrain.compat.other_names import spec_fields_for
from unitrain.errors import SpecError, named_arguments
from unitrain.metrics.metric import LOSS, stage_metric

OptimizerLike: TypeAlias = Optimizer | Callable[[list[nn.Parameter]], Optimizer]
Interval: TypeAlias = Literal["step", "epoch"]

_INTERVALS = ("step", "epoch")
_STEP_ARGUMENTS = 2


@named_arguments(SpecError)
@dataclass(frozen=True)
class LRSchedule:
    """A learning-rate schedule.

    During warm-up, optimizer step ``k`` (from 0) uses ``(k + 1) / warmup_steps`` of the scheduled rate (the linear
    warm-up of `Goyal et al., 2017 <https://arxiv.org/abs/1706.02677>`_). The schedule itself is not delayed by the
    warm-up.

    Attributes:
        factory: Creates the scheduler from its optimizer: ``partial(StepLR, step_size=2)``, or a parameter scheduler of
            Ignite: ``partial(CosineAnnealingScheduler, param_name="momentum", ...)``. None with ``warmup_steps`` keeps
            the rate constant after the warm-up.
        interval: When to step it: ``"epoch"``, after an epoch's last batch, or ``"step"``, after an optimizer step.
        frequency: Number of epochs or optimizer steps between its steps.
        monitor: The metric for ReduceLROnPlateau, such as ``"val/loss"``; it steps in the epochs that measured it,
            after the handlers of EPOCH_END.
        warmup_steps: Number of optimizer steps of a linear warm-up; 0 disables it.

    Raises:
        SpecError: If a value is invalid.

    Example:
        >>> from functools import partial
        >>> cosine = partial(torch.optim.lr_scheduler.CosineAnnealingLR, T_max=1000)
        >>> LRSchedule(cosine, interval="step", warmup_steps=100).warmup_steps
        100
    """

    factory: Callable[[Optimizer], LRScheduler] | None = None
    interval: Interval = "epoch"
    frequency: int = 1
    monitor: str | None = None
    warmup_steps: int = 0

    def __post_init__(self) -> None:
        """Check each value."""
        if not isinstance(self.warmup_steps, int) or isinstance(self.warmup_steps, bool) or self.warmup_steps < 0:
            raise SpecError(
                f"LRSchedule(warmup_steps=) must be a number of optimizer steps, 0 or more; got {self.warmup_steps!r}.",
                hint="warmup_steps=500",
            )
        if not callable(self.factory) and not (self.factory is None and self.warmup_steps):
            raise SpecError(
                f"LRSchedule(factory=) must be a callable that takes an optimizer and returns a scheduler; got"
                f" {self.factory!r}.",
                hint="LRSchedule(partial(torch.optim.lr_scheduler.StepLR, step_size=2))",
            )
        if self.interval not in _INTERVALS:
            raise SpecError(
                f"LRSchedule(interval=) must be one of {_INTERVALS}, got {self.interval!r}.", hint='interval="epoch"'
            )
        if not isinstance(self.frequency, int) or isinstance(self.frequency, bool) or self.frequency < 1:
            raise SpecError(
                f"LRSchedule(frequency=) must be an integer of at least 1, got {self.frequency!r}.", hint="frequency=1"
            )
        if self.monitor is not None and (not isinstance(self.monitor, str) or not self.monitor):
            raise SpecError(
                f"LRSchedule(monitor=) must be the name of a metric, got {self.monitor!r}.", hint='monitor="val/loss"'
            )


ScheduleLike: TypeAlias = LRSchedule | Callable[[Optimizer], LRScheduler]


class SpecOptions(TypedDict, total=False):
    """The keyword arguments of ``UnifiedTrainer.train``, for type checkers: the fields of TrainSpec but the model."""

    loss: Callable[[Any, Any], Tensor] | None
    optimizer: OptimizerLike | Mapping[str, OptimizerLike] | None
    lr_scheduler: ScheduleLike | Sequence[ScheduleLike] | Mapping[str, ScheduleLike] | None
    metrics: Mapping[str, Any] | None
    callbacks: Sequence[Any]
    training_step: Callable[[Any, Any], Any] | None
    validation_step: Callable[[nn.Module, Any], Any] | None
    predict_step: Callable[[nn.Module, Any], Any] | None
    automatic_optimization: bool
    hparams: Mapping[str, Any] | None
    example_input: Any
    batch_size: int | Callable[[Any], int] | None


@named_arguments(SpecError, spec_fields_for)
@dataclass(frozen=True, kw_only=True, eq=False)
class TrainSpec:
    """What to train. Frozen; use ``dataclasses.replace`` for variants.

    A batch is ``(input, target)``, a mapping with ``"input"`` and ``"target"``, or anything that the steps understand.

    Attributes:
        model: The module to train.
        loss: ``loss(output, target) -> scalar``, the mean over the batch.
        optimizer: An optimizer, or a factory that takes the list of parameters (``partial(torch.optim.AdamW,
            lr=1e-3)``). Several, for manual optimization: a mapping; each key names the submodule whose parameters it
            gets.
        lr_scheduler: An LRSchedule, a bare factory (stepped each epoch), a sequence of them, or, with several
            optimizers, a mapping by the same keys.
        metrics: Metrics by name, computed in training and evaluation from ``(output, target)``.
        callbacks: unitrain's Callbacks, or native ones of the backend in use.
        training_step: ``training_step(model, batch)`` returns the loss, or a mapping with ``"loss"`` and values to
            log; ``"output"`` and ``"target"`` in it feed the metrics. From a model's own output, such as a ModelOutput
            of transformers, the loss and all scalars are used. In manual optimization it is ``training_step(run,
            batch)``.
        validation_step: ``validation_step(model, batch)`` returns ``(output, target)``, or a mapping of values to log;
            ``"output"`` and ``"target"`` in it feed the metrics and the loss.
        predict_step: ``predict_step(model, batch)`` returns the prediction.
        automatic_optimization: Whether unitrain runs backward and the optimizer; otherwise the training step does.
        hparams: Hyper-parameters for trackers and checkpoints.
        example_input: An example input of the model, for exports.
        batch_size: Number of samples of a batch, or ``batch_size(batch) -> int``. It is the weight of the batch in the
            means of the loss, of logged values and of functions as metrics. If None, it is counted: ``batch_size`` or
            ``num_graphs`` of the batch, else the rows of its target, else the leading dimension that its tensors share;
            a warning says once if it can only be guessed.

    Raises:
        SpecError: If a value is invalid.

    Example:
        >>> def training_step(model, batch):
        ...     inputs, target = batch
        ...     loss = torch.nn.functional.mse_loss(model(inputs), target)
        ...     return {"loss": loss, "error": loss.detach().sqrt()}
        >>> sgd = partial(torch.optim.SGD, lr=0.1)
        >>> own = TrainSpec(model=torch.nn.Linear(4, 1), optimizer=sgd, training_step=training_step)
        >>> result = UnifiedTrainer("reference", max_epochs=1, enable_progress_bar=False).fit(own, batches)
        >>> sorted(result.metrics)
        ['train/error', 'train/loss']
    """

    model: nn.Module
    loss: Callable[[Any, Any], Tensor] | None = None
    optimizer: OptimizerLike | Mapping[str, OptimizerLike] | None = None
    lr_scheduler: ScheduleLike | Sequence[ScheduleLike] | Mapping[str, ScheduleLike] | None = None
    metrics: Mapping[str, Any] | None = None
    callbacks: Sequence[Any] = ()
    training_step: Callable[[Any, Any], Any] | None = None
    validation_step: Callable[[nn.Module, Any], Any] | None = None
    predict_step: Callable[[nn.Module, Any], Any] | None = None
    automatic_optimization: bool = True
    hparams: Mapping[str, Any] | None = None
    example_input: Any = None
    batch_size: int | Callable[[Any], int] | None = None

    def __post_init__(self) -> None:
        """Reject invalid values and freeze the containers."""
        if not isinstance(self.model, nn.Module):
            hint = "create an instance first." if isinstance(self.model, type) else "model=MyModule()"
            raise SpecError(f"TrainSpec(model=) must be a torch.nn.Module, got {self.model!r}.", hint=hint)
        for name in ("loss", *_STEPS):
            _check_callable(name, getattr(self, name))
        _check_optimizers(self.optimizer)
        _check_schedules(self.lr_scheduler)
        _check_metrics(self.metrics)
        if not isinstance(self.automatic_optimization, bool):
            raise SpecError(
                f"TrainSpec(automatic_optimization=) must be True or False, got {self.automatic_optimization!r}.",
                hint="use False if the training_step itself calls run.backward(loss) and run.step(name).",
            )
        if isinstance(self.callbacks, str) or not isinstance(self.callbacks, Sequence):
            raise SpecError(
                f"TrainSpec(callbacks=) must be a sequence, got {self.callbacks!r}.", hint="callbacks=[callback]"
            )
        _check_batch_size(self.batch_size)
        if self.hparams is not None and not isinstance(self.hparams, Mapping):
            raise SpecError(f"TrainSpec(hparams=) must be a mapping, got {self.hparams!r}.", hint="hparams=vars(args)")
        object.__setattr__(self, "callbacks", tuple(self.callbacks))
        object.__setattr__(self, "metrics", dict((self.metrics or {}).items()))

    def require_fit(self) -> None:
        """Raise if the spec cannot be trained.

        Raises:
            SpecError: If the loss, the optimizer or a step is missing.
        """
        if self.optimizer is None:
            raise SpecError("TrainSpec has no optimizer.", hint="optimizer=partial(torch.optim.AdamW, lr=1e-3)")
        if self.automatic_optimization:
            self._require_automatic()
        elif self.training_step is None:
            raise SpecError(
                "automatic_optimization=False requires a training_step that optimizes, and none is given.",
                hint="pass training_step(run, batch) that calls run.backward(loss) and run.step(name).",
            )

    def _require_automatic(self) -> None:
        if self.loss is None and self.training_step is None:
            raise SpecError(
                "TrainSpec has neither a loss nor a training_step.",
                hint="loss=torch.nn.CrossEntropyLoss(), or training_step=lambda model, batch: ...",
            )
        if isinstance(self.optimizer, Mapping):
            raise SpecError(
                f"several optimizers ({', '.join(map(repr, self.optimizer))}) need manual optimization:"
                " unitrain cannot know when to step which one.",
                hint="automatic_optimization=False and training_step(run, batch).",
            )

    def require_evaluation(self) -> None:
        """Raise if the spec measures nothing in evaluation.

        Raises:
            SpecError: If there is neither a loss, a metric nor a validation_step.
        """
        if self.validation_step is None and self.loss is None and not self.metrics:
            raise SpecError(
                "an evaluation loader was given, but there is nothing to evaluate: no validation_step, loss or"
                " metrics.",
                hint="pass validation_step(model, batch), which returns (output, target) or a mapping of values.",
            )


_STEPS = ("training_step", "validation_step", "predict_step")


def _check_callable(name: str, value: Any) -> None:
    if value is None:
        return
    if not callable(value) or isinstance(value, type):
        hint = "create an instance first." if isinstance(value, type) else "pass a function."
        raise SpecError(f"TrainSpec({name}=) must be callable, got {value!r}.", hint=hint)
    if name in _STEPS:
        try:
            inspect.signature(value).bind(*(None,) * _STEP_ARGUMENTS)
        except ValueError:  # some builtins have no signature
            return
        except TypeError as error:
            raise SpecError(
                f"TrainSpec({name}=) must take two arguments, (model, batch), or (run, batch) in manual optimization;"
                f" its signature is {inspect.signature(value)}.",
                hint=f"def {name}(model, batch): ...",
            ) from error


def _check_batch_size(given: Any) -> None:
    number = isinstance(given, int) and not isinstance(given, bool) and given >= 1
    if given is None or number:
        return
    if callable(given) and not isinstance(given, type):
        try:
            inspect.signature(given).bind(None)
        except ValueError:  # some builtins have no signature
            return
        except TypeError:
            pass
        else:
            return
    raise SpecError(
        f"TrainSpec(batch_size=) must be an integer of at least 1 or a function of one batch, got {given!r}.",
        hint='batch_size=lambda batch: len(batch["labels"])',
    )


def _check_optimizers(given: Any) -> None:
    if isinstance(given, Mapping) and (not given or not all(isinstance(name, str) for name in given)):
        raise SpecError(
            f"TrainSpec(optimizer=) must map names of submodules to optimizers; got {given!r}.",
            hint='optimizer={"gen": ..., "disc": ...}',
        )
    for one in given.values() if isinstance(given, Mapping) else (given,):
        if one is not None and not callable(one) and not isinstance(one, Optimizer):
            raise SpecError(
                f"TrainSpec(optimizer=) must be an optimizer or a callable that takes parameters and returns one;"
                f" got {one!r}.",
                hint="optimizer=partial(torch.optim.AdamW, lr=1e-3)",
            )


def _check_schedules(given: Any) -> None:
    if isinstance(given, Mapping) and "scheduler" in given:
        raise SpecError(
            f"TrainSpec(lr_scheduler=) must be an LRSchedule or a callable that takes an optimizer and returns a"
            f" scheduler; got {given!r}.",
            hint='Lightning\'s dict is LRSchedule(factory, interval="step", frequency=1, monitor="val/loss").',
        )
    several = given.values() if isinstance(given, Mapping) else given if isinstance(given, Sequence) else (given,)
    for one in several:
        if one is not None and not callable(one) and not isinstance(one, LRSchedule):
            raise SpecError(
                f"TrainSpec(lr_scheduler=) must be an LRSchedule or a callable that takes an optimizer and returns a"
                f" scheduler; got {one!r}.",
                hint="lr_scheduler=partial(torch.optim.lr_scheduler.StepLR, step_size=2)",
            )


def _check_metrics(given: Any) -> None:
    if given is None:
        return
    if isinstance(given, type) or not hasattr(given, "items"):
        raise SpecError(f"TrainSpec(metrics=) must map names to metrics, got {given!r}.", hint='metrics={"acc": ...}')
    for name, one in given.items():
        if not isinstance(name, str) or not name or "/" in name:
            raise SpecError(
                f"TrainSpec(metrics=): a metric's name must be a string without a slash; got {name!r}.",
                hint='metrics={"acc": ...} becomes "train/acc" and "val/acc".',
            )
        if name == LOSS:
            raise SpecError('the metric name "loss" clashes with the loss itself.', hint="choose another name.")
        stage_metric(name, one)
