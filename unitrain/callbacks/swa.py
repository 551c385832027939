"""Averages the weights of the last epochs."""

from __future__ import annotations

import math
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, TypeGuard

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import SWALR, get_swa_avg_fn, get_swa_multi_avg_fn

from unitrain.callbacks.callback import Preparer
from unitrain.callbacks.ema import EMA
from unitrain.compat.other_names import callback_arguments_for
from unitrain.distributed.options import FSDP
from unitrain.errors import CheckpointError, ConfigError, SpecError, UnsupportedFeatureError, named_arguments

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from torch import nn
    from torch.optim import Optimizer

    from unitrain.config import TrainerConfig
    from unitrain.run.context import RunContext
    from unitrain.spec import TrainSpec

AverageFunction: TypeAlias = "Callable[[Tensor, Tensor, Tensor], Tensor]"
"""``(average, weight, number averaged so far) -> average``."""

_STRATEGIES: Final = ("cos", "linear")
_TO_BE_RESUMED: Final = ("signal", "interrupt")
"""Stop reasons after which the run is expected to resume, so the model keeps its weights."""


@named_arguments(ConfigError, callback_arguments_for)
class StochasticWeightAveraging(Preparer):
    """Averages the weights after each of the last epochs; the model has the average when training ends (SWA).

    From the epoch ``swa_epoch_start`` on, torch's SWALR replaces the spec's learning-rate schedules: each group's rate
    moves from its current value to ``swa_lrs`` and stays there. At the end of each of these epochs the weights enter
    the average, in float32 at least. When training ends, the average replaces the weights, and if the model has batch
    norms in training mode, their statistics are recomputed in one forward pass over the training data, which leaves the
    random number generators and the data's position as they were. This is the loop that torch's ``swa_utils``
    documents; Lightning's callback, which has the same arguments, averages at the *start* of each epoch, so the last
    epoch never enters its average.

    Validation during training uses the weights, not the average. A run that a signal or Ctrl-C stops keeps its weights,
    for the run that resumes it. A checkpoint holds both, so it resumes exactly, and so does one written after training.

    Attributes:
        average: The average by parameter name; None before the first one.
        n_averaged: The number of epochs in the average.

    Args:
        swa_lrs: The learning rate to move to: one for all parameter groups, or one for each.
        swa_epoch_start: The first averaged epoch: the n-th (from 1), or a fraction of ``max_epochs``, rounded down.
        annealing_epochs: Number of epochs in which the learning rate reaches ``swa_lrs``.
        annealing_strategy: ``"cos"`` or ``"linear"``.
        avg_fn: ``(average, weight, number averaged so far) -> average``; by default the mean.

    Raises:
        ConfigError: If a value is invalid, or, before training, if averaging could not begin within ``max_epochs``, the
            number of ``swa_lrs`` is not that of the parameter groups, or EMA averages too.
        SpecError: Before training, with several optimizers, or with batch norms and manual optimization.
        UnsupportedFeatureError: Before training, with ``strategy="fsdp"``.

    Example:
        >>> import torch
        >>> from functools import partial
        >>> from unitrain import StochasticWeightAveraging, TrainSpec, UnifiedTrainer
        >>> net, sgd = torch.nn.Linear(4, 1), partial(torch.optim.SGD, lr=0.1)
        >>> spec = TrainSpec(model=net, loss=torch.nn.MSELoss(), optimizer=sgd)
        >>> batches = [(torch.randn(8, 4), torch.randn(8, 1)) for _ in range(3)]
        >>> swa = StochasticWeightAveraging(swa_lrs=0.05, swa_epoch_start=3)
        >>> _ = UnifiedTrainer("reference", max_epochs=4, callbacks=[swa], enable_progress_bar=False).fit(spec, batches)
        >>> swa.n_averaged, torch.equal(net.weight, swa.average["weight"])
        (2, True)

    See Izmailov et al., "Averaging Weights Leads to Wider Optima and Better Generalization",
    https://arxiv.org/abs/1803.05407, and https://pytorch.org/docs/stable/optim.html#weight-averaging-swa-and-ema.
    """

    def __init__(
        self,
        swa_lrs: float | Sequence[float],
        swa_epoch_start: float = 0.8,
        annealing_epochs: int = 10,
        annealing_strategy: Literal["cos", "linear"] = "cos",
        avg_fn: AverageFunction | None = None,
    ) -> None:
        rates = list(swa_lrs) if isinstance(swa_lrs, (list, tuple)) else [swa_lrs]
        whole = isinstance(annealing_epochs, int) and not isinstance(annealing_epochs, bool)
        checks = (
            (bool(rates) and all(map(_is_rate, rates)), "swa_lrs", swa_lrs, "a positive number, or one per group"),
            (
                _is_start(swa_epoch_start),
                "swa_epoch_start",
                swa_epoch_start,
                "an integer >= 1 or a float from 0 to 1",
            ),
            (whole and annealing_epochs >= 0, "annealing_epochs", annealing_epochs, "an integer of at least 0"),
            (annealing_strategy in _STRATEGIES, "annealing_strategy", annealing_strategy, f"one of {_STRATEGIES}"),
            (avg_fn is None or callable(avg_fn), "avg_fn", avg_fn, "a function, or None"),
        )
        for good, name, value, accepted in checks:
            if not good:
                raise ConfigError(
                    f"StochasticWeightAveraging({name}=) must be {accepted}, got {value!r}.",
                    hint="StochasticWeightAveraging(swa_lrs=0.05, swa_epoch_start=0.8)",
                )
        self.swa_lrs = rates if isinstance(swa_lrs, (list, tuple)) else swa_lrs
        self.swa_epoch_start = swa_epoch_start
        self.annealing_epochs = annealing_epochs
        self.annealing_strategy = annealing_strategy
        self.avg_fn = avg_fn
        self.reset_state()

    def reset_state(self) -> None:
        """Forget the runs before."""
        self.average: dict[str, Tensor] | None = None
        self.n_averaged = 0
        self._annealing: SWALR | None = None
        self._annealing_state: dict[str, Any] | None = None
        self._replaced: dict[str, Tensor] | None = None
        self._live: list[str] | None = None

    # --- before training ----------------------------------------------------------------------------------------------

    def prepare(self, spec: TrainSpec, config: TrainerConfig, optimizers: Mapping[str, Optimizer]) -> None:
        """Refuse a fit whose weights cannot be averaged."""
        self._require_alone(spec, config)
        if isinstance(config.plan, FSDP):
            raise UnsupportedFeatureError(
                'StochasticWeightAveraging does not support strategy="fsdp": the model is sharded.',
                hint='strategy="ddp".',
            )
        if len(optimizers) != 1:
            raise SpecError(
                f"StochasticWeightAveraging anneals the learning rate of one optimizer; got {len(optimizers)}.",
                hint="EMA supports any number of optimizers.",
            )
        if not spec.automatic_optimization and any(isinstance(one, _BatchNorm) for one in spec.model.modules()):
            raise SpecError(
                "StochasticWeightAveraging recomputes batch-norm statistics in a forward pass, which is only known"
                " to the training step in manual optimization.",
                hint="use nn.GroupNorm, which has no statistics, or automatic_optimization=True.",
            )
        groups = len(next(iter(optimizers.values())).param_groups)
        if isinstance(self.swa_lrs, list) and len(self.swa_lrs) != groups:
            raise ConfigError(
                f"StochasticWeightAveraging(swa_lrs=) has {len(self.swa_lrs)} rates, but the optimizer has {groups}"
                f" groups.",
                hint="pass one rate per group, or a single number.",
            )
        self._require_reachable(config)

    def _require_alone(self, spec: TrainSpec, config: TrainerConfig) -> None:
        for one in (*spec.callbacks, *config.callbacks):
            if one is not self and isinstance(one, (EMA, StochasticWeightAveraging)):
                other = "EMA" if isinstance(one, EMA) else "another StochasticWeightAveraging"
                raise ConfigError(
                    f"StochasticWeightAveraging and {other} both replace the weights.",
                    hint="use one of them.",
                )

    def _require_reachable(self, config: TrainerConfig) -> None:
        if config.epochs is None:
            if isinstance(self.swa_epoch_start, float):
                raise ConfigError(
                    f"StochasticWeightAveraging(swa_epoch_start={self.swa_epoch_start}) is a fraction of max_epochs,"
                    f" but max_epochs is not set.",
                    hint="pass the number of an epoch, or set max_epochs=.",
                )
        elif self._first_epoch(config) >= config.epochs > 1:  # one epoch is a trial, as with fast_dev_run
            raise ConfigError(
                f"StochasticWeightAveraging(swa_epoch_start={self.swa_epoch_start}) starts in epoch"
                f" {self._first_epoch(config)} (counted from 0), beyond max_epochs={config.epochs}.",
                hint=f"use swa_epoch_start={config.epochs} or less.",
            )

    def _first_epoch(self, config: TrainerConfig) -> int:
        """Return the first epoch to average, from 0; its number is counted from 1, as Lightning does."""
        start = self.swa_epoch_start
        number = int((config.epochs or 0) * start) if isinstance(start, float) else start
        return max(number - 1, 0)

    # --- training -----------------------------------------------------------------------------------------------------

    def on_fit_start(self, run: RunContext) -> None:
        """Resume where a checkpoint was written."""
        if self._replaced is not None:
            _put_back(run.model, self._replaced)
            self._replaced = None
        if self._annealing_state is not None:
            self._begin(run, self._annealing_state)
            self._annealing_state = None

    def on_epoch_start(self, run: RunContext) -> None:
        """Begin, if it is time."""
        if self._annealing is None and run.state.epoch >= self._first_epoch(run.config):
            self._begin(run, None)

    def _begin(self, run: RunContext, state: dict[str, Any] | None) -> None:
        """Take the learning rates over from the schedules."""
        optimizer = next(iter(run.optimizers.values()))
        rates = [_copied(group["lr"]) for group in optimizer.param_groups]
        self._annealing = SWALR(optimizer, self.swa_lrs, self.annealing_epochs, self.annealing_strategy)  # type: ignore[arg-type]
        if state is not None:
            self._annealing.load_state_dict(state)
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate  # to make a scheduler moves the rates
        for schedule in run.schedules:
            schedule.paused = True

    def on_epoch_end(self, run: RunContext) -> None:
        """Average the weights, then move the learning rates."""
        if self._annealing is None:
            return
        weights = {name: one.detach() for name, one in run.model.named_parameters() if one.is_floating_point()}
        self.average = self._follow(weights)
        self._live = _training_norms(run.model)
        self.n_averaged += 1
        self._annealing.step()

    def _follow(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the next average, in new tensors: a checkpoint that waits to be written may hold the ones before."""
        if self.average is None:
            return {name: _wide(one) for name, one in weights.items()}
        if self.average.keys() != weights.keys():
            raise CheckpointError(
                f"the StochasticWeightAveraging average belongs to another model: it has {len(self.average)}"
                f" parameters, the model has {len(weights)}, and their names differ.",
                hint="use the model that the checkpoint was written with.",
            )
        average = {name: self.average[name].to(one.device, copy=True) for name, one in weights.items()}
        current = [one.to(average[name].dtype) for name, one in weights.items()]
        with torch.no_grad():
            if self.avg_fn is None:
                _mean(list(average.values()), current, self.n_averaged)
                return average
            number = torch.tensor(self.n_averaged, device=current[0].device)
            given = zip(average.items(), current, strict=True)
            return {name: self.avg_fn(one, weight, number).detach() for (name, one), weight in given}

    def on_fit_end(self, run: RunContext) -> None:
        """Replace the weights with the average."""
        if run.hub.stop_reason in _TO_BE_RESUMED:
            return
        if self.average is None:
            warnings.warn(
                "StochasticWeightAveraging: training ended before any epoch was averaged, so the model keeps its"
                " weights.",
                stacklevel=2,
            )
            return
        self._replaced = _replace(run.model, self.average)
        live = _training_norms(run.model) if self._live is None else self._live  # None: of an older file
        norms = [one for name, one in run.model.named_modules() if name in live and _has_statistics(one)]
        if norms:
            self._replaced |= _fresh_statistics(run.model, norms)
            with _averaging(run.model, norms):
                run.forward_epoch()

    def resume_ended(self, model: nn.Module, *, midway: bool) -> bool:  # noqa: ARG002 - of all callbacks
        """Return whether the average has still to take the place of the weights.

        Raises:
            CheckpointError: If the last epoch is not in the average, and will not be.
        """
        if self._replaced is not None or self._annealing_state is None:
            return False
        if midway or self.average is None:
            raise CheckpointError(
                "StochasticWeightAveraging: the checkpoint was written within the last epoch, but no steps are left,"
                " so that epoch would be missing from the average.",
                hint="resume from an earlier checkpoint, or train longer: raise max_epochs= or max_steps=, or remove"
                " EarlyStopping.",
            )
        return True

    # --- state --------------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Return the average, where the learning rates are, and the weights that the average has replaced."""
        return {
            "average": self.average,
            "n_averaged": self.n_averaged,
            "annealing": None if self._annealing is None else self._annealing.state_dict(),
            "replaced": self._replaced,
            "live": self._live,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Resume from what ``state_dict`` returned."""
        self.average, self.n_averaged = state["average"], state["n_averaged"]
        self._annealing_state, self._replaced = state["annealing"], state["replaced"]
        self._live = state.get("live")


def _is_rate(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < math.inf


def _is_start(value: object) -> bool:
    if isinstance(value, int):
        return not isinstance(value, bool) and value >= 1
    return isinstance(value, float) and 0 <= value <= 1


def _copied(rate: float | Tensor) -> float | Tensor:
    return rate.clone() if isinstance(rate, Tensor) else rate


def _wide(weight: Tensor) -> Tensor:
    """Return a copy to average in: in half precision a small difference would be lost."""
    return weight.to(torch.promote_types(weight.dtype, torch.float32), copy=True)


def _mean(averages: list[Tensor], weights: list[Tensor], number: int) -> None:
    """Update the mean in place, as torch's AveragedModel does."""
    if averages[0].is_cuda:
        get_swa_multi_avg_fn()(averages, weights, number)  # type: ignore[no-untyped-call]
        return
    update = get_swa_avg_fn()  # type: ignore[no-untyped-call]
    for average, weight in zip(averages, weights, strict=True):
        average.copy_(update(average, weight, torch.tensor(number)))


def _replace(model: nn.Module, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Give the parameters other tensors, and return those before, unchanged: a checkpoint may wait with them."""
    before = {}
    for name, parameter in model.named_parameters():
        if name in tensors:
            before[name] = parameter.data
            parameter.data = tensors[name].to(parameter, copy=True)
    return before


def _fresh_statistics(model: nn.Module, norms: Sequence[_BatchNorm]) -> dict[str, Tensor]:
    """Reset the statistics of ``norms`` in new tensors, and return those before."""
    before = {}
    for prefix, norm in _named(model, norms):
        for name, buffer in list(norm.named_buffers(recurse=False)):
            before[f"{prefix}.{name}" if prefix else name] = buffer
            setattr(norm, name, buffer.clone())
        norm.reset_running_stats()
    return before


def _training_norms(model: nn.Module) -> list[str]:
    """Return the names of the batch norms that learn their statistics."""
    return [name for name, one in model.named_modules() if isinstance(one, _BatchNorm) and one.training]


def _has_statistics(module: nn.Module) -> TypeGuard[_BatchNorm]:
    return isinstance(module, _BatchNorm) and module.running_mean is not None


@contextmanager
def _averaging(model: nn.Module, norms: Sequence[_BatchNorm]) -> Iterator[None]:
    """Make ``norms`` average over all batches, and keep frozen batch norms unchanged."""
    every = [one for one in model.modules() if isinstance(one, _BatchNorm)]
    before = [(one, one.momentum, one.training) for one in every]
    for one in every:
        one.train(any(one is norm for norm in norms))
        one.momentum = None if one.training else one.momentum
    try:
        yield
    finally:
        for one, momentum, training in before:
            one.momentum = momentum
            one.train(training)


def _named(model: nn.Module, norms: Sequence[_BatchNorm]) -> Iterator[tuple[str, _BatchNorm]]:
    wanted = set(map(id, norms))
    return ((name, one) for name, one in model.named_modules() if id(one) in wanted)


def _put_back(model: nn.Module, before: Mapping[str, Tensor]) -> None:
    there = dict(model.named_parameters()) | dict(model.named_buffers())
    with torch.no_grad():
        for name, value in before.items():
            there[name].copy_(value)
