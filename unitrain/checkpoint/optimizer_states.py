"""Loads optimizer states, including what torch's ``load_state_dict`` breaks."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from torch import Tensor

from unitrain.optim.optimizers import all_parameters

if TYPE_CHECKING:
    from torch.optim import Optimizer


def load_optimizer(optimizer: Optimizer, state: dict[str, Any]) -> None:
    """Load ``state``, as returned by ``state_dict``, into ``optimizer``.

    torch recreates every iterable as ``type(value)(generator)``: a string becomes ``"<generator object ...>"``, an
    array raises. Such values are set separately.

    Raises:
        ValueError: If the state does not match.
    """
    parameters = all_parameters(optimizer)
    around = {
        index: {name: value for name, value in one.items() if _breaks(value)}
        for index, one in state["state"].items()
        if isinstance(one, dict) and isinstance(index, int) and index < len(parameters)
    }
    through = {
        index: {name: value for name, value in one.items() if name not in around[index]} if around.get(index) else one
        for index, one in state["state"].items()
    }
    needed = [name for name in optimizer.defaults if all(name in group for group in optimizer.param_groups)]
    try:
        optimizer.load_state_dict({**state, "state": through})
    except KeyError as error:
        raise ValueError(f"it lacks {error}, so it belongs to another optimizer.") from error
    lacks = [name for name in needed if any(name not in group for group in optimizer.param_groups)]
    if lacks:  # torch takes the state of another class and fails at the first step
        raise ValueError(f"it lacks {', '.join(map(repr, lacks))}, so it belongs to another optimizer.")
    for index, values in around.items():
        if values:
            optimizer.state[parameters[index]].update(copy.deepcopy(values))


def _breaks(value: Any) -> bool:
    """Return whether torch would not restore an equal value; torch moves tensors to their parameter's device."""
    if isinstance(value, (Tensor, bytes)) or not isinstance(value, Iterable):
        return False
    if type(value) is dict:
        return any(map(_breaks, value.values()))
    return type(value) not in (list, tuple, set) or any(map(_breaks, value))
