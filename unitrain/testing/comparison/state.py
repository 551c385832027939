"""The state of a training as named values: weights, gradients, states of optimizers and of random number generators."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from unitrain.data.own_random import OwnRandom
from unitrain.testing.comparison.bits import digest
from unitrain.testing.comparison.leaves import leaves

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from torch.optim import Optimizer

    from unitrain.optim.schedules import Schedule
    from unitrain.testing.comparison.leaves import Leaf

_WRAPPERS = ("_orig_mod.", "module.")
"""Prefixes of names in a compiled model, and in one within DataParallel."""


class Names:
    """The names of a model's parameters.

    Args:
        model: The model; without one, parameters are named by their place in the optimizer.
    """

    def __init__(self, model: nn.Module | None) -> None:
        self._model = model
        named = () if model is None else model.named_parameters()
        self._by_id = {id(value): bare_name(name) for name, value in named}

    def of(self, parameter: Tensor, place: str) -> str:
        """Return the name of a parameter, or its place."""
        return self._by_id.get(id(parameter), place)


def bare_name(name: str) -> str:
    """Return a parameter's name without what ``torch.compile`` and DataParallel add."""
    for prefix in _WRAPPERS:
        name = name.removeprefix(prefix)
    return name.replace(f".{_WRAPPERS[0]}", ".")


def parameters(model: nn.Module) -> Iterator[Leaf]:
    """Yield the parameters."""
    yield from ((bare_name(name), value) for name, value in model.named_parameters() if not is_lazy(value))


def buffers(model: nn.Module) -> Iterator[Leaf]:
    """Yield the buffers, those that are in no checkpoint too."""
    yield from ((bare_name(name), value) for name, value in model.named_buffers() if not is_lazy(value))


def held(optimizer: Optimizer, label: str = "") -> Iterator[tuple[str, nn.Parameter]]:
    """Yield the parameters of an optimizer, each with its place.

    Args:
        optimizer: The optimizer.
        label: Its name, if there are several.
    """
    for number, group in enumerate(optimizer.param_groups):
        for index, one in enumerate(group["params"]):
            yield f"{label}param_groups[{number}][{index}]", one


def gradients(optimizer: Optimizer, names: Names, label: str = "") -> Iterator[Leaf]:
    """Yield the gradients that an optimizer has; the arguments are as in ``held``."""
    for place, one in held(optimizer, label):
        if one.grad is not None:
            yield names.of(one, place), one.grad


def optimizer_states(optimizers: Mapping[str, Optimizer], names: Names) -> Iterator[Leaf]:
    """Yield the tensors and numbers that optimizers keep for each parameter, and for themselves."""
    for label, optimizer in optimizers.items():
        places = {id(one): names.of(one, place) for place, one in held(optimizer, label)}
        for key, state in optimizer.state.items():
            name = places.get(id(key), f"{label}{key!r}" if isinstance(key, str) else f"{label}state")
            yield from leaves(dict(state) if hasattr(state, "keys") else state, name)


def options(optimizers: Mapping[str, Optimizer]) -> Iterator[Leaf]:
    """Yield the learning rates and other options of optimizers."""
    for label, optimizer in optimizers.items():
        for number, group in enumerate(optimizer.param_groups):
            rest = {name: value for name, value in group.items() if name != "params"}
            yield from leaves(rest, f"{label}param_groups[{number}]")


def schedules(found: Iterable[Schedule]) -> Iterator[Leaf]:
    """Yield the tensors and numbers that learning rate schedules keep."""
    for number, one in enumerate(found):
        yield from leaves(one.scheduler.state_dict(), f"{one.kind}[{number}]")


def random_states() -> Iterator[Leaf]:
    """Yield the states of the global random number generators of torch, NumPy and Python."""
    yield "torch", torch.get_rng_state()
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        yield "torch.cuda", torch.cuda.get_rng_state()
    _, keys, position, has_gauss, cached = np.random.get_state(legacy=True)  # noqa: NPY002 - the global one
    yield "numpy", torch.from_numpy(np.asarray(keys).astype(np.int64))
    yield "numpy position", torch.tensor([float(position), float(has_gauss), float(cached)], dtype=torch.float64)
    _, words, gauss = random.getstate()
    yield "python", torch.tensor(words, dtype=torch.int64)
    yield "python gauss", gauss


def own_generators(data: Sequence[Any]) -> dict[str, str]:
    """Return the digest of each random number generator within the given loaders, by its place."""
    return {place: digest(leaves(state)) for place, state in OwnRandom(data).states().items()}


def labels(optimizers: Iterable[str]) -> dict[str, str]:
    """Return what names of several optimizers begin with; nothing for a single one."""
    found = list(optimizers)
    return {one: "" if len(found) == 1 else f"{one}: " for one in found}
