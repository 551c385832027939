"""Matches optimizer states with parameters: a file numbers them, and a rebuilt model may number them differently.

torch loads states by their numbers, so swapped groups would load silently and train wrongly. So the states are compared
with the target optimizer: by parameter names if the file has them (torch writes them from 2.6 on, if the optimizer was
given names), else by shapes and the options of the groups.
"""

from __future__ import annotations

from itertools import permutations
from typing import TYPE_CHECKING, Any

from torch import Tensor

from unitrain.checkpoint.convert.match_weights import canonical
from unitrain.errors import CheckpointError
from unitrain.optim.warmup import FULL_RATE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from torch import nn

_NAMES = "param_names"
_SHAPED: tuple[str, ...] = (
    "exp_avg",
    "exp_avg_sq",
    "max_exp_avg_sq",
    "momentum_buffer",
    "square_avg",
    "grad_avg",
    "acc_delta",
    "sum",
)
_SHAPED += ("exp_inf", "prev", "ax")
"""Optimizer states that have the shape of their parameter."""

_CHANGING = {"params", "lr", "initial_lr", "betas", "momentum", _NAMES, FULL_RATE}
_CHANGING |= {"foreach", "fused", "capturable", "differentiable", "maximize"}
"""Options that schedules change, or that do not affect results."""

_MOST_GROUPS = 6
"""With more groups, not all orders are tried."""

BY_POSITION = "the names of the optimizer's parameters: its states are matched by position"


def is_optimizer(value: Any) -> bool:
    """Return whether ``value`` is the state of an optimizer."""
    return isinstance(value, dict) and isinstance(value.get("param_groups"), list) and "state" in value


def named(state: Mapping[str, Any]) -> bool:
    """Return whether the file has the names of the optimizer's parameters."""
    return all(_NAMES in group for group in state["param_groups"])


def by_name(
    path: Path, state: dict[str, Any], groups: Sequence[Sequence[str]], names: Mapping[str, str]
) -> dict[str, Any]:
    """Return ``state`` in the order of the optimizer's parameters.

    Args:
        path: The file, for messages.
        state: The state of the file's optimizer, with names.
        groups: Names of the parameters of each group of the target optimizer.
        names: The model's names by the names in the file.

    Raises:
        CheckpointError: If the groups do not hold the same parameters.
    """
    theirs = {
        _own_name(name, names): (group, index)
        for group in state["param_groups"]
        for name, index in zip(group[_NAMES], group["params"], strict=True)
    }
    made: list[dict[str, Any]] = []
    states: dict[int, Any] = {}
    for ours in groups:
        first = theirs.get(ours[0]) if ours else None
        if first is None or {_own_name(name, names) for name in first[0][_NAMES]} != {*ours}:
            raise _other_groups(path, state, groups)
        numbers = list(range(len(states), len(states) + len(ours)))
        states.update({number: theirs[name][1] for number, name in zip(numbers, ours, strict=True)})
        made.append({**first[0], "params": numbers, _NAMES: list(ours)})
    if len(states) != len(theirs):
        raise _other_groups(path, state, groups)
    kept = {number: state["state"][index] for number, index in states.items() if index in state["state"]}
    return {**state, "state": kept, "param_groups": made}


def _own_name(name: str, names: Mapping[str, str]) -> str:
    """Return the model's name for a name in the file, which may already be the model's own."""
    return names.get(name) or canonical(name)


def _other_groups(path: Path, state: Mapping[str, Any], groups: Sequence[Sequence[str]]) -> CheckpointError:
    return CheckpointError(
        f"{path}: the optimizer's groups hold {[group[_NAMES] for group in state['param_groups']]}, and the spec's"
        f" {[list(one) for one in groups]}.",
        hint="create the groups with the same parameters.",
    )


def fits(state: Mapping[str, Any], groups: Sequence[Mapping[str, Any]]) -> bool:
    """Return whether each state has the shape of the parameter at its position in ``groups``."""
    theirs = state["param_groups"]
    return len(theirs) == len(groups) and all(
        _group_fits(state["state"], one["params"], ours["params"]) for one, ours in zip(theirs, groups, strict=True)
    )


def _group_fits(states: Mapping[int, Any], numbers: Sequence[int], parameters: Sequence[nn.Parameter]) -> bool:
    if len(numbers) != len(parameters):
        return False
    return all(_shape_fits(states.get(number, {}), one) for number, one in zip(numbers, parameters, strict=True))


def _shape_fits(kept: Mapping[str, Any], parameter: nn.Parameter) -> bool:
    values = [kept[name] for name in _SHAPED if name in kept]
    return all(value.shape == parameter.shape for value in values if isinstance(value, Tensor) and value.dim())


def require_fit(path: Path, name: str, state: dict[str, Any], groups: Sequence[dict[str, Any]]) -> list[str]:
    """Refuse the state of the optimizer ``name`` unless it fits ``groups``, position by position.

    Args:
        path: The file, for messages.
        name: The optimizer's name.
        state: The state in the file, without names of parameters.
        groups: The groups of the target optimizer.

    Returns:
        Descriptions of differing group options; the file's options are used.

    Raises:
        CheckpointError: If the shapes do not fit, or the groups seem swapped.
    """
    theirs = state["param_groups"]
    here = fits(state, groups)
    differing = _differing(theirs, groups) if here else ["the shapes"]
    if not differing:
        return []
    order = _order_that_fits(state, groups)
    if order is not None:
        raise CheckpointError(
            f"{path}: the groups of the optimizer {name!r} are in a different order than the spec's; the file's"
            f" groups match as {', '.join(f'{one} -> {order.index(one)}' for one in range(len(order)))}.",
            hint="create the optimizer with its groups in the file's order; torch would load them swapped.",
        )
    if not here:
        raise CheckpointError(
            f"{path}: the state of the optimizer {name!r} does not belong to these parameters:"
            f" {_first_misfit(state, groups)}.",
            hint="create the optimizer from the same parameters, in the same order and groups.",
        )
    return [f"the spec's own options of the optimizer {name!r}: the file's hold ({'; '.join(differing)})"]


def _options(group: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in group.items() if key not in _CHANGING}


def _differing(theirs: Sequence[Mapping[str, Any]], ours: Sequence[Mapping[str, Any]]) -> list[str]:
    told = []
    for number, (one, other) in enumerate(zip(theirs, ours, strict=True)):
        in_file, in_spec = _options(one), _options(other)
        told += [
            f"group {number}: {key}={in_file[key]!r}, not {in_spec[key]!r}"
            for key in in_file.keys() & in_spec.keys()
            if in_file[key] != in_spec[key]
        ]
        if "lr" in other and one.get("initial_lr", other["lr"]) != other["lr"]:
            told.append(f"group {number}: initial_lr={one['initial_lr']!r}, not {other['lr']!r}")
    return sorted(told)


def _order_that_fits(state: Mapping[str, Any], groups: Sequence[Mapping[str, Any]]) -> tuple[int, ...] | None:
    """Return an order of the file's groups in which all of them match, including options, if there is one."""
    theirs = state["param_groups"]
    if len(theirs) != len(groups) or not 1 < len(groups) <= _MOST_GROUPS:
        return None
    for order in permutations(range(len(groups))):
        turned = {**state, "param_groups": [theirs[number] for number in order]}
        if fits(turned, groups) and not _differing(turned["param_groups"], groups):
            return order
    return None


def _first_misfit(state: Mapping[str, Any], groups: Sequence[Mapping[str, Any]]) -> str:
    theirs = state["param_groups"]
    sizes = [len(group["params"]) for group in theirs], [len(group["params"]) for group in groups]
    if sizes[0] != sizes[1]:
        return f"its groups contain {sizes[0]}, the spec's {sizes[1]}"
    pairs = [
        (number, parameter)
        for one, ours in zip(theirs, groups, strict=True)
        for number, parameter in zip(one["params"], ours["params"], strict=True)
    ]
    number, parameter = next(
        (number, one) for number, one in pairs if not _shape_fits(state["state"].get(number, {}), one)
    )
    kept = {key: tuple(state["state"][number][key].shape) for key in _SHAPED if key in state["state"][number]}
    return f"at position {number} it has {kept} for a parameter of shape {tuple(parameter.shape)}"
