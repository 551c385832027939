"""The FSDP strategy, with torch's ``fully_shard``.

Before the optimizers are made, the parameters become DTensors; after the fit they are the user's own whole parameters
again, and the model is as if it had never been sharded.
"""

from __future__ import annotations

import inspect
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, cast

import torch
from torch import nn

from unitrain.compat.torch import fully_shard
from unitrain.distributed.options import FSDP
from unitrain.distributed.strategies.dtensors import is_sharded, whole
from unitrain.distributed.strategies.unshard import ShardingUndo
from unitrain.distributed.strategies.wrap_policy import units
from unitrain.errors import ConfigError, UnsupportedFeatureError, refuse_unknown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from torch import Tensor
    from torch.optim import Optimizer

    from unitrain.config import TrainerConfig
    from unitrain.distributed.collectives import Collectives


def check_options(options: Mapping[str, Any]) -> None:
    """Refuse what ``fully_shard`` does not take.

    Args:
        options: The arguments in ``native={"fsdp": ...}``.

    Raises:
        ConfigError: If a name is unknown, or a value is invalid.
        UnsupportedFeatureError: If this torch has no ``fully_shard``.
    """
    accepted = set(inspect.signature(fully_shard()).parameters) - {"module"}
    refuse_unknown(options, accepted, 'native={"fsdp": ...}', ConfigError)
    reshard = options.get("reshard_after_forward")
    if reshard is not None and not isinstance(reshard, bool):
        raise ConfigError(
            f"native={{'fsdp': {{'reshard_after_forward': {reshard!r}}}}}: accepted are None, True and False.",
            hint="None keeps only the root's own parameters until the backward pass.",
        )


class Stateful(Protocol):
    """A callback whose state may hold parts of the model."""

    def state_dict(self) -> dict[str, Any]:
        """Return the state."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state."""


class Sharded:
    """The model of a fit, in parts.

    The root is not the model but what calls it: a step, loss included, runs within. So a step may use parts of the
    model as it likes, but for those that are sharded separately, which must be called.

    Attributes:
        optimizers: Those of the fit, once they are there.

    Args:
        model: The model to shard; rank 0's weights are used.
        plan: The strategy, which says what is sharded separately.
        options: The arguments of ``fully_shard``.
        device: The device of the parameters.
        team: The processes that share them.

    Raises:
        ConfigError: If ``fully_shard`` refuses the options, or no module is of the classes in ``plan.wrap``.
        UnsupportedFeatureError: If a parameter cannot be sharded.
    """

    def __init__(
        self, model: nn.Module, plan: FSDP, options: Mapping[str, Any], device: torch.device, team: Collectives
    ) -> None:
        chosen = units(model, plan.wrap)
        _require_shardable(model)
        self._model = model
        self._team = team
        self._originals = ShardingUndo(model)
        self.optimizers: Mapping[str, Optimizer] = {}
        self._reshards = options.get("reshard_after_forward")
        self._root = cast("Any", _Root(model))
        team.broadcast(model.state_dict().values())
        mesh = options.get("mesh") or _mesh(device, team)
        for module in chosen:
            module.register_forward_hook(_own_output)
        try:
            for module in (*chosen, self._root):
                fully_shard()(module, **{**options, "mesh": mesh})
        except (TypeError, ValueError, NotImplementedError) as error:
            self._originals.note_additions()
            self._originals.put_back({})
            raise ConfigError(
                f"native={{'fsdp': {dict(options)!r}}}: torch's fully_shard raised: {error}",
                hint='native={"fsdp": {"reshard_after_forward": False}}',
            ) from error
        self._units: list[Any] = [self._root, *chosen]
        self._root(_nothing)  # torch finds out what belongs to which root at the first call, which may be any part's
        self._root.reshard()
        self._originals.note_additions()
        self._originals.release()

    # --- working ------------------------------------------------------------------------------------------------------

    def forward(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Return what ``function`` returns, called where the model can be used, by all processes."""
        self._team.broadcast_buffers(self._model)  # rank 0's count, as with DDP
        return self.run(function, *arguments)

    def run(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Return what ``function`` returns; while all is gathered, no other process is needed for it."""
        try:
            return self._root(partial(function, *arguments))
        except RuntimeError as error:
            if "mixed torch.Tensor and DTensor" in str(error):
                error.add_note(
                    "unitrain: a separately sharded submodule was used without being called. Choose the sharded"
                    " classes with FSDP(wrap=(SomeClass,)), or shard only the whole model with wrap=()."
                )
            raise

    def synchronize(self, *, now: bool) -> None:
        """Exchange gradients in the backward pass to come, or let them add up here, whole, in each process."""
        self._root.set_requires_gradient_sync(now)

    @contextmanager
    def gathered(self) -> Iterator[None]:
        """Gather the whole weights in each process within the block.

        Gradients that add up here are those of the whole parameters.
        """
        self.gather()
        try:
            yield
        finally:
            self.release()

    def gather(self) -> None:
        """Gather the whole weights in each process until ``release``."""
        for unit in self._units:
            unit.set_reshard_after_forward(False, recurse=False)
            unit.unshard()

    def release(self) -> None:
        """Free the shards of other processes."""
        for unit in self._units:
            again = unit is not self._root if self._reshards is None else self._reshards
            unit.set_reshard_after_forward(again, recurse=False)
            unit.reshard()

    # --- ending -------------------------------------------------------------------------------------------------------

    def dissolve(self, callbacks: Iterable[Stateful]) -> None:
        """Restore the user's whole parameters, and remove everything added to the model.

        The optimizers get the whole parameters, and the whole of their state on the CPU, where there is room for it.

        Args:
            callbacks: Get their state whole.
        """
        parts = dict(self._model.named_parameters(remove_duplicate=False))
        weights = {id(part): whole(part.detach(), cpu=False) for part in dict.fromkeys(parts.values())}
        self._originals.put_back({name: weights[id(part)] for name, part in parts.items()})
        own = dict(self._model.named_parameters(remove_duplicate=False))
        replaced = {id(part): own[name] for name, part in parts.items()}
        for optimizer in self.optimizers.values():
            _give_whole(optimizer, {part: replaced[id(part)] for part in parts.values()})
        for callback in callbacks:
            state = callback.state_dict()
            if is_sharded(state):
                callback.load_state_dict(whole(state))


class ShardedStep:
    """Runs a step's forward pass on a model in parts, as ``Replica`` does on a whole one.

    Args:
        sharded: The model.
        forward: Returns the loss of a batch.
    """

    def __init__(self, sharded: Sharded, forward: Callable[..., Tensor]) -> None:
        self._sharded = sharded
        self._forward = forward

    def forward(self, *batch: Any) -> Tensor:
        """Return the loss of a batch."""
        loss: Tensor = self._sharded.forward(self._forward, *batch)
        return loss

    def synchronize(self, *, now: bool) -> None:
        """Exchange gradients in the backward pass to come, or leave them to add up here."""
        self._sharded.synchronize(now=now)


def _own_output(_: nn.Module, __: Any, output: Any) -> Any:
    """Return ``output`` with copies of tensors that are views of others.

    What is done in place to a view, as by ``nn.ReLU(inplace=True)`` after a Linear of three dimensions, would put
    another tensor instead of the one on which torch waits for the backward pass.
    """
    if isinstance(output, torch.Tensor):
        return output.clone() if output.requires_grad and output._base is not None else output  # noqa: SLF001 - as torch
    if isinstance(output, dict):
        return type(output)((key, _own_output(_, __, one)) for key, one in output.items())
    if type(output) in (tuple, list):
        return type(output)(_own_output(_, __, one) for one in output)
    return output


def _nothing() -> None:
    pass


class _Root(nn.Module):
    """Calls what it is given; it has the model's parameters."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, function: Callable[[], Any]) -> Any:
        return function()


@contextmanager
def in_parts(
    model: nn.Module, config: TrainerConfig, device: torch.device, team: Collectives, callbacks: Iterable[Stateful]
) -> Iterator[Sharded | None]:
    """Yield ``model`` in parts, if ``config`` asks for it and there are several processes; afterwards it is whole.

    After an error it stays in parts: the others may be anywhere, and all would have to give theirs.

    Args:
        model: The model to shard.
        config: Has the plan and the options.
        device: The device of the parameters.
        team: The processes that share them.
        callbacks: Get their state whole afterwards.
    """
    plan = config.plan
    if team.size == 1 or not isinstance(plan, FSDP):
        yield None
        return
    sharded = Sharded(model, plan, (config.native or {}).get(plan.name, {}), device, team)
    try:
        yield sharded
    except BaseException as error:
        error.add_note("unitrain: the model was left sharded across the processes.")
        raise
    sharded.dissolve(callbacks)


def _require_shardable(model: nn.Module) -> None:
    for name, parameter in model.named_parameters():
        if parameter.dim() == 0:
            raise UnsupportedFeatureError(
                f'strategy="fsdp": the parameter {name!r} is a scalar, which cannot be sharded.',
                hint="use nn.Parameter(torch.zeros(1)), which has a dimension.",
            )


def _mesh(device: torch.device, team: Collectives) -> Any:
    from torch.distributed.device_mesh import init_device_mesh  # noqa: PLC0415 - it takes a moment to import

    return init_device_mesh(device.type, (team.size,))


def _give_whole(optimizer: Optimizer, replaced: Mapping[Any, nn.Parameter]) -> None:
    """Replace sharded parameters and their states with whole ones."""
    states = {replaced.get(part, part): whole(state) for part, state in optimizer.state.items()}
    optimizer.state.clear()
    optimizer.state.update(states)
    for group in optimizer.param_groups:
        group["params"] = [replaced.get(part, part) for part in group["params"]]
