"""Tries the state of a torch optimizer on a small parameter, because torch itself loads any state."""

from __future__ import annotations

import copy
import inspect
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.parameter import is_lazy

from unitrain.checkpoint.forms import unlike
from unitrain.optim.optimizers import needs_closure

if TYPE_CHECKING:
    from torch.optim import Optimizer

_LENGTHS = (2, 3, 4, 5, 6, 7, 8, 9)
"""Shape of the small parameter: a value of this shape represents one of the parameter's shape."""


def require_usable(optimizer: Optimizer, state: dict[str, Any], known: list[dict[str, Any]]) -> None:
    """Refuse a state with which the first step would fail or compute something else.

    Args:
        optimizer: The optimizer, with the state loaded.
        state: The state in the file.
        known: The optimizer's groups before loading.

    Raises:
        ValueError: If its type differs from that of a state made by a step.
    """
    if not type(optimizer).__module__.startswith("torch.optim") or needs_closure(optimizer):
        return
    odd = [one for one in state["state"].values() if not isinstance(one, dict)]
    _refuse(f"the state of a parameter is a {type(odd[0]).__name__}, not a dict" if odd else None)
    packed = optimizer.state_dict()["param_groups"]
    groups = zip(optimizer.param_groups, packed, state["param_groups"], known, strict=True)
    for number, (group, numbered, given, before) in enumerate(groups):
        if given["params"] != numbered["params"]:
            raise ValueError(f"the parameters of group {number} are not numbered as torch numbers them.")
        compared = {name: one for name, one in before.items() if name != "params" and not _unset(given, name, one)}
        _refuse(unlike(given, compared, f"group {number}"))
        _require_usable(optimizer, group)


def _unset(given: dict[str, Any], name: str, known: Any) -> bool:
    """Return whether an option is None in the file that may be None: torch then chooses, such as for ``fused``."""
    value = given.get(name, known)
    if name == "eps" and isinstance(value, (list, tuple)):  # of Adafactor
        return any(one is None for one in value)
    return value is None and isinstance(known, (bool, str))


def _require_usable(optimizer: Optimizer, group: dict[str, Any]) -> None:
    # a lazy parameter has no shape yet: the weights are put back after the optimizers
    loaded = [(one, optimizer.state[one]) for one in group["params"] if optimizer.state.get(one) and not is_lazy(one)]
    if not loaded:
        return
    try:
        made = {number: _made(optimizer, group, one) for number, one in {one.ndim: one for one, _ in loaded}.items()}
    except Exception as error:
        try:
            _made(optimizer, optimizer.defaults, loaded[0][0])
        except Exception:  # noqa: BLE001 - such as SparseAdam, which takes no dense gradient
            return
        raise ValueError(f"a step with its options fails: {error!r}") from error
    for parameter, state in loaded:
        for name, one in made[parameter.ndim].items():
            _refuse(_wrong(state, name, one, parameter))


def _made(optimizer: Optimizer, group: dict[str, Any], like: Tensor) -> dict[str, Any]:
    """Return the state that a step of ``group`` creates for a small parameter."""
    small = torch.zeros(_LENGTHS[: like.ndim], dtype=like.dtype, device=like.device, requires_grad=True)
    small.grad = torch.zeros_like(small)
    options = {name: one for name, one in group.items() if name != "params"}
    trial: Any = copy.copy(optimizer)
    vars(trial).pop("step", None)  # which schedules wrap, for the original
    vars(trial).update(
        state=defaultdict(dict),
        param_groups=[{**copy.deepcopy(options), "params": [small]}],
    )
    with torch.no_grad():  # the step without what torch wraps it in, which calls the user's hooks
        inspect.unwrap(type(optimizer).step)(trial)
    return dict(trial.state[small])


def _wrong(state: dict[str, Any], name: str, known: Any, parameter: Tensor) -> str | None:
    if name not in state:
        return f"the state of a parameter lacks {name!r}"
    value, shaped = state[name], isinstance(known, Tensor) and known.shape == _LENGTHS[: parameter.ndim]
    if shaped:
        fits = isinstance(value, Tensor) and value.shape == parameter.shape
        return None if fits else f"{name!r} does not have the shape {tuple(parameter.shape)} of its parameter"
    wrong = unlike(value, known, repr(name))
    number = known is not None and not (isinstance(value, Tensor) and value.numel() != 1)
    return f"{name!r} is negative" if wrong is None and number and value < 0 else wrong


def _refuse(wrong: str | None) -> None:
    if wrong is not None:
        raise ValueError(f"{wrong}.")
