"""Keeps parts of a model from training, for some epochs or for the whole fit."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim import Optimizer

from unitrain.callbacks.callback import Preparer
from unitrain.compat.other_names import callback_arguments_for
from unitrain.distributed.options import FSDP
from unitrain.errors import ConfigError, SpecError, UnsupportedFeatureError, did_you_mean, named_arguments
from unitrain.optim.optimizers import needs_closure

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import nn

    from unitrain.config import TrainerConfig
    from unitrain.run.context import RunContext
    from unitrain.spec import TrainSpec

Rates: TypeAlias = "float | Mapping[int, float] | None"
"""One number for all epochs of a schedule, or one per epoch."""

_NEVER = math.inf
_MANY = 20
"""The maximum number of names in a hint."""


class _Frozen(Preparer):
    """Parts of a model, each frozen until a given epoch.

    Args:
        schedule: Names of submodules or parameters by the epoch (from 0) that unfreezes them; ``inf`` never does.
        train_bn: Whether batch norms in frozen parts keep training.
        lr: Initial learning rate of what an epoch unfreezes.
        lr_factor: The same, as a multiple of the optimizer's.
    """

    arranges = True
    leaves_unused = True

    def __init__(
        self, schedule: Mapping[float, tuple[str, ...]], *, train_bn: bool, lr: Rates, lr_factor: Rates
    ) -> None:
        self._frozen = dict(sorted(schedule.items()))
        self._train_bn = train_bn
        self._rates = _by_epoch(self, "lr", lr, self._frozen)
        self._factors = _by_epoch(self, "lr_factor", lr_factor, self._frozen)
        if not isinstance(train_bn, bool):
            raise ConfigError(f"{self._name}(train_bn=) must be True or False, got {train_bn!r}.", hint="train_bn=True")
        self._lr, self._lr_factor = lr, lr_factor
        both = self._rates.keys() & self._factors.keys()
        if both:
            raise ConfigError(
                f"{self._name} got both lr= and lr_factor= for epoch {min(both)}.", hint="use only one of them."
            )
        self.reset_state()

    @property
    def _name(self) -> str:
        return type(self).__name__

    def reset_state(self) -> None:
        """Forget the runs before."""
        self._flags: list[tuple[Tensor, bool]] = []
        self._modes: list[tuple[nn.Module, bool]] = []

    def epochs_after(self, epoch: int) -> list[int]:
        """Return the epochs after ``epoch`` (from 0) that were to unfreeze something."""
        return [int(one) for one in self._frozen if epoch < one < _NEVER]

    # --- before training ----------------------------------------------------------------------------------------------

    def prepare(self, spec: TrainSpec, config: TrainerConfig, optimizers: Mapping[str, Optimizer]) -> None:
        """Refuse what cannot be frozen, and give what has a learning rate of its own a group of its own."""
        if isinstance(config.plan, FSDP):
            raise UnsupportedFeatureError(
                f'{self._name} does not support strategy="fsdp": a sharded parameter can only be frozen as a whole.',
                hint='strategy="ddp".',
            )
        given = (config.native or {}).get("ddp", {})
        if given.get("static_graph") or given.get("find_unused_parameters") is False:
            raise ConfigError(
                f"{self._name}: with native={{'ddp': {dict(given)!r}}}, torch's DistributedDataParallel expects a"
                f" gradient for each parameter, but frozen parameters have none.",
                hint="remove it; find_unused_parameters=True is set automatically where needed.",
            )
        self._require_something_to_train(spec, config)
        self._initial: list[tuple[str, int, float]] = []
        for epoch in (*self._rates, *self._factors):
            self._split(epoch, spec, optimizers)

    def _require_something_to_train(self, spec: TrainSpec, config: TrainerConfig) -> None:
        frozen: dict[int, _Frozen] = {}
        for one in (*spec.callbacks, *config.callbacks):
            for parameter in one._until(spec.model) if isinstance(one, _Frozen) else ():  # noqa: SLF001 - its own kind
                if frozen.setdefault(id(parameter), one) is not one:
                    name = next(name for name, other in spec.model.named_parameters() if other is parameter)
                    raise ConfigError(
                        f"the parameter {name!r} is frozen by two callbacks.",
                        hint="use one Unfreeze for several epochs: Unfreeze({2: 'layer4', 5: 'layer3'}).",
                    )
        if not any(one.requires_grad and id(one) not in frozen for one in spec.model.parameters()):
            raise ConfigError(
                f"{self._name} leaves no trainable parameters in epoch 0.", hint="freeze only a part of the model."
            )

    def _until(self, model: nn.Module) -> dict[Tensor, float]:
        """Return the epoch that unfreezes it by the parameter.

        Raises:
            ConfigError: If a name is unknown, or has no parameter to freeze.
        """
        kept = {id(one) for norm in _norms(model) for one in norm.parameters()} if self._train_bn else set()
        found: dict[Tensor, float] = {}
        for epoch, names in self._frozen.items():
            for name in names:
                parameters = [one for one in _parameters(self._name, model, name) if id(one) not in kept]
                if not parameters:
                    norms = " except those of batch norms (train_bn=True)" if kept else ""
                    raise ConfigError(f"{self._name}: {name!r} has no parameters to freeze{norms}.", hint="remove it.")
                for parameter in parameters:
                    found.setdefault(parameter, epoch)
        return found

    def _split(self, epoch: int, spec: TrainSpec, optimizers: Mapping[str, Optimizer]) -> None:
        """Give what ``epoch`` unfreezes groups of its own, whose learning rate schedules change as any other."""
        given = spec.optimizer.values() if isinstance(spec.optimizer, Mapping) else (spec.optimizer,)
        if any(isinstance(one, Optimizer) for one in given) or any(map(needs_closure, optimizers.values())):
            raise SpecError(
                f"{self._name}(lr=) and lr_factor= need separate parameter groups, which cannot be added to an"
                f" optimizer instance or to one with a closure (LBFGS).",
                hint="optimizer=partial(torch.optim.AdamW, lr=1e-3); or create the groups yourself.",
            )
        wanted = {id(one) for one, until in self._until(spec.model).items() if until == epoch}
        held = 0
        for name, optimizer in optimizers.items():
            for index, group in _split_groups(optimizer, wanted):
                held += len(group["params"])
                group["lr"] = self._rate(epoch, group["lr"])
                self._initial.append((name, index, float(group["lr"])))
        if held < len(wanted):
            raise SpecError(
                f"{self._name} sets the learning rate of {len(wanted)} parameters, but the optimizers contain only"
                f" {held} of them.",
                hint="pass all of the model's parameters to the optimizer; frozen ones are skipped.",
            )

    def _rate(self, epoch: int, rate: float | Tensor) -> float | Tensor:
        if epoch in self._factors:
            return rate * self._factors[epoch]
        return torch.full_like(rate, self._rates[epoch]) if isinstance(rate, Tensor) else self._rates[epoch]

    # --- training -----------------------------------------------------------------------------------------------------

    def on_fit_start(self, run: RunContext) -> None:
        """Freeze what the epoch does not train, the one that is resumed too."""
        for name, index, rate in self._initial:
            group = run.optimizers[name].param_groups[index]
            if float(group.get("initial_lr", rate)) != rate:
                raise ConfigError(
                    f"{self._name}: the learning rate {rate} has no effect: the schedule of the optimizer {name!r}"
                    f" starts at {float(group['initial_lr'])} for all groups.",
                    hint="OneCycleLR and CyclicLR take one rate per group.",
                )
        until = self._until(run.model)
        self._flags = [(one, one.requires_grad) for one in until]
        norms = () if self._train_bn else _norms(run.model)
        self._modes = [(norm, norm.training) for norm in norms if any(one in until for one in norm.parameters())]
        self._apply(run, until)

    def on_epoch_start(self, run: RunContext) -> None:
        """Unfreeze what the epoch trains."""
        self._apply(run, self._until(run.model))

    def _apply(self, run: RunContext, until: Mapping[Tensor, float]) -> None:
        epoch = run.state.epoch
        for parameter, first in until.items():
            trains = epoch >= first
            if not trains:
                parameter.grad = None  # so that the optimizer skips it: no weight decay, no momentum
            if parameter.requires_grad != trains:
                parameter.requires_grad_(trains)
        for norm, training in self._modes:
            norm.train(training and all(epoch >= until.get(one, 0) for one in norm.parameters()))

    def on_fit_end(self, run: RunContext) -> None:
        """Leave what is still frozen as it was before."""
        until = self._until(run.model)
        for parameter, flag in self._flags:
            if run.state.epoch < until[parameter]:
                parameter.requires_grad_(flag)
        for norm, training in self._modes:
            norm.train(training)

    on_exception = on_fit_end


@named_arguments(ConfigError, callback_arguments_for)
class Freeze(_Frozen):
    """Keeps parts of the model from training, until an epoch begins or for the whole fit.

    Frozen parameters require no gradient and have none, so the optimizer skips them: neither weight decay nor momentum
    moves them. They are in the optimizer from the start, so schedules and checkpoints are those of any other fit. What
    ``until_epoch`` unfreezes stays unfrozen; what is frozen to the end gets its ``requires_grad`` restored after the
    fit.

    Args:
        modules: Name of a submodule (``"backbone.layer4"``) or parameter, or several.
        until_epoch: First epoch (from 0) that trains them; None freezes them for the whole fit.
        train_bn: Whether batch norms in them keep training; otherwise their statistics are frozen too.
        lr: Initial learning rate of the unfrozen parameters, which form parameter groups of their own. Schedules change
            it from the start of the fit, like the others.
        lr_factor: The same, as a multiple of the optimizer's learning rate.

    Raises:
        ConfigError: If a value is invalid; before training, if a name is unknown, has nothing to freeze or is frozen by
            another callback, if nothing is left to train, or if a schedule would override the learning rate.
        SpecError: Before training, if a learning rate is given and the optimizer already exists.
        UnsupportedFeatureError: Before training, with ``strategy="fsdp"``.

    Example:
        >>> import torch
        >>> from functools import partial
        >>> from unitrain import Event, Freeze, TrainSpec, UnifiedTrainer
        >>> net = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Linear(4, 1))
        >>> spec = TrainSpec(model=net, loss=torch.nn.MSELoss(), optimizer=partial(torch.optim.AdamW, lr=0.1))
        >>> batches = [(torch.randn(8, 4), torch.randn(8, 1)) for _ in range(3)]
        >>> freeze = Freeze("0", until_epoch=2)
        >>> trainer = UnifiedTrainer("reference", max_epochs=3, callbacks=[freeze], enable_progress_bar=False)
        >>> @trainer.on(Event.EPOCH_END)
        ... def show(run):
        ...     print(run.state.epoch, net[0].weight.requires_grad)
        >>> _ = trainer.fit(spec, batches)
        0 False
        1 False
        2 True

    Lightning's counterparts are ``BaseFinetuning`` and ``BackboneFinetuning``, fastai's ``Learner.freeze_to``.
    """

    def __init__(
        self,
        modules: str | Sequence[str],
        until_epoch: int | None = None,
        *,
        train_bn: bool = True,
        lr: float | None = None,
        lr_factor: float | None = None,
    ) -> None:
        if until_epoch is not None and not _is_epoch(until_epoch):
            raise ConfigError(
                f"Freeze(until_epoch=) must be an epoch >= 1, or None; got {until_epoch!r}.", hint="until_epoch=3"
            )
        if until_epoch is None and (lr is not None or lr_factor is not None):
            raise ConfigError(
                "Freeze(lr=) and lr_factor= require until_epoch=.",
                hint='Freeze("backbone", until_epoch=3, lr_factor=0.1)',
            )
        names = _names_in("Freeze(modules=)", modules)
        self._modules, self._until_epoch = modules, until_epoch
        super().__init__(
            {_NEVER if until_epoch is None else until_epoch: names}, train_bn=train_bn, lr=lr, lr_factor=lr_factor
        )


@named_arguments(ConfigError, callback_arguments_for)
class Unfreeze(_Frozen):
    """Unfreezes parts of the model step by step; until its epoch, each is frozen as by ``Freeze``.

    Args:
        schedule: Names of submodules or parameters by the epoch (from 1) that unfreezes them: ``{2: "backbone.layer4",
            5: ["backbone"]}``. What several names cover is unfrozen by the first epoch.
        train_bn: As in ``Freeze``.
        lr: As in ``Freeze``: one number, or one by epoch.
        lr_factor: As in ``Freeze``: one number, or one by epoch.

    Raises:
        ConfigError: As in ``Freeze``.
        SpecError: As in ``Freeze``.
        UnsupportedFeatureError: As in ``Freeze``.

    Example:
        >>> import torch
        >>> from functools import partial
        >>> from unitrain import TrainSpec, Unfreeze, UnifiedTrainer
        >>> net = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Linear(4, 4), torch.nn.Linear(4, 1))
        >>> spec = TrainSpec(model=net, loss=torch.nn.MSELoss(), optimizer=partial(torch.optim.AdamW, lr=0.1))
        >>> batches = [(torch.randn(8, 4), torch.randn(8, 1)) for _ in range(3)]
        >>> unfreeze = Unfreeze({1: "1", 2: "0"}, lr_factor={1: 0.1, 2: 0.01})
        >>> trainer = UnifiedTrainer("reference", max_epochs=3, callbacks=[unfreeze], enable_progress_bar=False)
        >>> _ = trainer.fit(spec, batches)
        >>> [group["lr"] for group in trainer.optimizers["optimizer"].param_groups]
        [0.1, 0.010000000000000002, 0.001]

    Gradual unfreezing is from Howard and Ruder, "Universal Language Model Fine-tuning for Text Classification",
    https://arxiv.org/abs/1801.06146.
    """

    def __init__(
        self,
        schedule: Mapping[int, str | Sequence[str]],
        *,
        train_bn: bool = True,
        lr: Rates = None,
        lr_factor: Rates = None,
    ) -> None:
        if not isinstance(schedule, Mapping) or not schedule or not all(map(_is_epoch, schedule)):
            raise ConfigError(
                f"Unfreeze(schedule=) must map epochs (from 1) to names of submodules, got {schedule!r}.",
                hint='Unfreeze({2: "backbone.layer4", 5: ["backbone"]})',
            )
        names: dict[float, tuple[str, ...]] = {
            epoch: _names_in(f"Unfreeze(schedule={{{epoch}: ...}})", some) for epoch, some in schedule.items()
        }
        self._schedule = schedule
        super().__init__(names, train_bn=train_bn, lr=lr, lr_factor=lr_factor)


def _is_epoch(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _names_in(where: str, given: object) -> tuple[str, ...]:
    names = (given,) if isinstance(given, str) else tuple(given) if isinstance(given, Sequence) else ()
    if not names or not all(isinstance(name, str) and name for name in names):
        raise ConfigError(
            f"{where} must be one or several names of submodules or parameters; got {given!r}.",
            hint='"backbone.layer4", as in model.named_modules()',
        )
    return names


def _by_epoch(owner: _Frozen, argument: str, given: Rates, schedule: Mapping[float, Any]) -> dict[int, float]:
    """Return the numbers by epoch.

    Raises:
        ConfigError: If one is not above zero, or of an epoch that unfreezes nothing.
    """
    if given is None:
        return {}
    numbers = dict(given) if isinstance(given, Mapping) else dict.fromkeys(schedule, given)
    for epoch, number in numbers.items():
        good = isinstance(number, (int, float)) and not isinstance(number, bool) and 0 < number < math.inf
        if epoch not in schedule or not good:
            raise ConfigError(
                f"{type(owner).__name__}({argument}=) must be a positive number, or a mapping from epochs of the"
                f" schedule to numbers"
                f" ({', '.join(map(str, schedule))}); got {given!r}.",
                hint=f"{argument}=1e-4" if argument == "lr" else f"{argument}=0.1",
            )
    return {int(epoch): float(number) for epoch, number in sorted(numbers.items())}


def _norms(model: nn.Module) -> Iterator[_BatchNorm]:
    return (one for one in model.modules() if isinstance(one, _BatchNorm))


def _parameters(owner: str, model: nn.Module, name: str) -> list[nn.Parameter]:
    """Return the parameters under the name of a submodule, or the one of that name."""
    modules, parameters = dict(model.named_modules()), dict(model.named_parameters(remove_duplicate=False))
    if name in modules:
        return list(modules[name].parameters())
    if name in parameters:
        return [parameters[name]]
    names = [one for one in (*modules, *parameters) if one]
    near = did_you_mean(name, names)
    children = [child for child, _ in model.named_children()]
    raise ConfigError(
        f"{owner}: the model has no submodule or parameter {name!r}.",
        hint=near if near.startswith("did") or len(names) <= _MANY else did_you_mean(name, children),
    )


def _split_groups(optimizer: Optimizer, wanted: set[int]) -> list[tuple[int, dict[str, Any]]]:
    """Return the groups, with their number, that now hold the wanted parameters and no other."""
    found = []
    for index, group in enumerate(list(optimizer.param_groups)):
        inside = [one for one in group["params"] if id(one) in wanted]
        if not inside:
            continue
        if len(inside) == len(group["params"]):
            found.append((index, group))
            continue
        group["params"] = [one for one in group["params"] if id(one) not in wanted]
        optimizer.add_param_group({**group, "params": inside})
        found.append((len(optimizer.param_groups) - 1, optimizer.param_groups[-1]))
    return found
