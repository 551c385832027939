"""State of a run outside of the model: the buffers of its loss, and parameters that only an optimizer has."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from unitrain.errors import CheckpointError
from unitrain.optim.optimizers import all_parameters

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Mapping
    from pathlib import Path

    from torch.optim import Optimizer

    _Mark: TypeAlias = Callable[[Any], bool]

_SAMPLES = 4096
"""How many values of a parameter are compared, at least; of a smaller one, all."""


def marks_of_loss(loss: Any, model: nn.Module) -> dict[str, _Mark]:
    """Return a marker for each part of a loss's state, which later tells whether the run has changed it.

    Buffers and extra state are copied; of parameters, such as those of a large frozen network, only a sample.
    """
    state = loss.state_dict(keep_vars=True) if isinstance(loss, nn.Module) else {}
    if not state:  # as most losses
        return {}
    of_model = {id(one) for one in (*model.parameters(), *model.buffers())}
    return {name: _marked(value, of_model) for name, value in state.items()}


def changed_in_loss(loss: Any, before: Mapping[str, _Mark]) -> dict[str, Any] | None:
    """Return the parts of a loss's state that differ from ``before``; None if none do. An unset buffer is None.

    The user may change parts that a run does not change, such as class weights, for a resumed run.
    """
    if not isinstance(loss, nn.Module):
        return None
    now = loss.state_dict(keep_vars=True)
    changed = {name: value for name, value in now.items() if name not in before or not before[name](value)}
    changed |= {name: None for name in _unset_buffers(loss) if name in before}
    return {name: value.detach() if isinstance(value, Tensor) else value for name, value in changed.items()} or None


def extra_of_loss(loss: Any) -> dict[str, Any]:
    """Return the part of a loss's state that is not a tensor."""
    state = loss.state_dict() if isinstance(loss, nn.Module) else {}
    return {name: value for name, value in state.items() if not isinstance(value, Tensor)}


def require_loss(path: Path, loss: Any, kept: Mapping[str, Any] | None) -> None:
    """Raise if a loss does not match the state in a checkpoint.

    Raises:
        CheckpointError: If the loss lacks a part of the state, or has it in another shape; the message names the part.
    """
    there, unset = (loss.state_dict(), _unset_buffers(loss)) if kept and isinstance(loss, nn.Module) else ({}, set())
    for name, value in (kept or {}).items():
        if name in unset or (name in there and (value is None or _shape(value) == _shape(there[name]))):
            continue
        raise CheckpointError(
            f"{path} contains the state {name!r} of the loss, which {_named(loss)} does not have, or in another shape.",
            hint="resume with the same spec.",
        )


def load_loss(loss: Any, kept: Mapping[str, Any] | None, device: torch.device) -> None:
    """Load the result of ``changed_in_loss`` into a loss."""
    left = dict(kept or {})
    if not left:
        return
    unset, there = _unset_buffers(loss), dict(loss.named_buffers(remove_duplicate=False))
    for name in [name for name in left if name in unset or (name in there and left[name] is None)]:
        owner, _, own_name = name.rpartition(".")
        value = left.pop(name)
        setattr(loss.get_submodule(owner), own_name, value if value is None else value.to(device, copy=True))
    loss.load_state_dict(left, strict=False)


def require_in_model(model: nn.Module, optimizers: Mapping[str, Optimizer]) -> None:
    """Refuse to save a run that trains parameters that are not the model's: a checkpoint would not contain them.

    Raises:
        CheckpointError: If there are any; the message names their optimizer.
    """
    own = {id(parameter) for parameter in model.parameters()}
    for name, optimizer in optimizers.items():
        outside = [one for one in all_parameters(optimizer) if one.requires_grad and id(one) not in own]
        if outside:
            raise CheckpointError(
                f"the optimizer {name!r} trains {len(outside)} parameters that are not the model's, so a checkpoint"
                " would not contain them.",
                hint="make their module a part of the model, and use it in a training_step.",
            )


def _marked(value: Any, of_model: Container[int]) -> _Mark:
    if id(value) in of_model:  # is in the checkpoint already
        return lambda now: now is value
    if isinstance(value, nn.Parameter):
        version, sample = _version(value), _sample(value)
        return lambda now: now is value and _version(now) == version and _same(_sample(now), sample)
    kept = _copied(value)
    return lambda now: _same(now, kept)


def _version(parameter: Tensor) -> int:
    return 0 if parameter.is_inference() else parameter._version  # noqa: SLF001 - torch documents it, for this


def _sample(parameter: Tensor) -> Tensor | None:
    """Return some of the numbers of a parameter, for what writes to its ``data``, which does not count as a version."""
    if is_lazy(parameter):
        return None
    return parameter.detach().reshape(-1)[:: max(parameter.numel() // _SAMPLES, 1)].clone()


def _copied(value: Any) -> Any:
    if isinstance(value, Tensor):
        return None if is_lazy(value) else value.detach().clone()
    try:
        return copy.deepcopy(value)
    except Exception:  # noqa: BLE001 - of the user's object; a run that writes no file does not need it
        return None


def _same(one: Any, other: Any) -> bool:
    if type(one) is not type(other):
        return False
    try:
        if isinstance(one, Tensor):
            return one.dtype == other.dtype and one.shape == other.shape and torch.equal(one, other)
        return bool(one == other)
    except Exception:  # noqa: BLE001 - of objects that do not compare, as an array within a dict
        return False


def _shape(value: Any) -> torch.Size | None:
    return value.shape if isinstance(value, Tensor) else None


def _unset_buffers(loss: nn.Module) -> set[str]:
    """Return the names of the buffers that are None: a state_dict does not have them."""
    return {
        f"{prefix}.{name}" if prefix else name
        for prefix, module in loss.named_modules(remove_duplicate=False)
        for name, value in module._buffers.items()  # noqa: SLF001 - named_buffers() leaves them out
        if value is None and name not in module._non_persistent_buffers_set  # noqa: SLF001 - known nowhere else
    }


def _named(loss: Any) -> str:
    return f"the loss {type(loss).__name__}" if isinstance(loss, nn.Module) else "this loss"
