"""What a run keeps outside of the model: the buffers of its loss, and parameters that only an optimizer knows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from unitrain.errors import CheckpointError
from unitrain.optim.optimizers import all_parameters

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch.optim import Optimizer


def state_of_loss(loss: Any) -> dict[str, Any]:
    """Return a copy of the state of a loss: empty, if it is no module."""
    return {name: _copied(value) for name, value in loss.state_dict().items()} if isinstance(loss, nn.Module) else {}


def changed_in_loss(loss: Any, before: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return what of the state of a loss is not as ``before``; None if all is.

    What a run does not change, such as the weights of classes, is the user's to change for a resumed run.
    """
    if not before:
        return None
    now = loss.state_dict()
    return {name: value for name, value in now.items() if not _same(value, before.get(name))} or None


def require_loss(path: Path, loss: Any, kept: Mapping[str, Any] | None) -> None:
    """Refuse a loss that cannot take up the state that a checkpoint keeps.

    Raises:
        CheckpointError: If it lacks a part of it; it names the part.
    """
    there = state_of_loss(loss)
    for name, value in (kept or {}).items():
        if name not in there or getattr(value, "shape", None) != getattr(there[name], "shape", None):
            raise CheckpointError(
                f"{path} contains the state {name!r} of the loss, which {_named(loss)} does not have, or in another"
                " shape.",
                hint="resume with the same spec.",
            )


def load_loss(loss: Any, kept: Mapping[str, Any] | None) -> None:
    """Put into a loss what ``changed_in_loss`` returned."""
    if kept:
        loss.load_state_dict({**loss.state_dict(), **kept})


def require_in_model(model: nn.Module, optimizers: Mapping[str, Optimizer]) -> None:
    """Refuse to save a run that trains parameters that are not the model's: a checkpoint would not contain them.

    Raises:
        CheckpointError: If there are any; it names their optimizer.
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


def _copied(value: Any) -> Any:
    return value.detach().clone() if isinstance(value, Tensor) else value


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return one.shape == other.shape and torch.equal(one, other)
    return one is other


def _named(loss: Any) -> str:
    return f"the loss {type(loss).__name__}" if isinstance(loss, nn.Module) else "this loss"
