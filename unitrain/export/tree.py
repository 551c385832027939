"""Flattens a model's inputs and outputs into named tensors, because files have no dicts or dataclasses."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass, replace
from typing import TYPE_CHECKING, Any

from torch import Tensor
from torch.utils.data import DataLoader

from unitrain.errors import ExportError

if TYPE_CHECKING:
    from torch import nn


def named(value: Any, name: str, *, top: bool = True) -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors in ``value`` with their names, depth first; None is passed over.

    A tensor has the given name, what is in a mapping that of its key, what is in a sequence a number.

    Args:
        value: A tensor, or tuples, lists, mappings and dataclasses of tensors.
        name: Name of the value.
        top: Whether the name is to be left out where there are keys.

    Raises:
        ExportError: If there is anything else in it.
    """
    if isinstance(value, Tensor):
        yield name, value
        return
    parts = _parts(value)
    if parts is None:
        raise ExportError(
            f"{name!r} is {value!r:.60} ({type(value).__name__}); exported files only accept and return tensors.",
            hint=_way_out(value),
        )
    for key, one in parts:
        word = re.sub(r"\W", "_", str(key))
        yield from named(one, word if top and not word[:1].isdigit() else f"{name}_{word}", top=False)


def _way_out(value: Any) -> str:
    if hasattr(value, "__array__"):
        return "convert it with torch.as_tensor(...)."
    if isinstance(value, DataLoader):
        return "pass the inputs of one batch: next(iter(loader))[0] for batches of (inputs, targets)."
    return "add or remove it in a module before (preprocess=) or after (postprocess=) the model."


def _parts(value: Any) -> list[tuple[Any, Any]] | None:
    """Return what ``value`` is made of, by keys; None if it is nothing of the kind."""
    if value is None:
        return []
    if isinstance(value, Mapping):
        return list(value.items())
    if isinstance(value, (tuple, list)):
        return list(zip(getattr(value, "_fields", range(len(value))), value, strict=True))
    if is_dataclass(value) and not isinstance(value, type):
        return [(field.name, getattr(value, field.name)) for field in fields(value)]
    return None


def rebuilt(like: Any, tensors: Iterator[Tensor]) -> Any:
    """Return ``like`` with its tensors replaced, in the order of ``named``."""
    if isinstance(like, Tensor):
        return next(tensors)
    parts = _parts(like)
    if not parts:
        return like
    made = {key: rebuilt(one, tensors) for key, one in parts}
    if isinstance(like, Mapping):
        return made if type(like) is dict else type(like)(made)  # type: ignore[call-arg]
    if isinstance(like, (tuple, list)):
        return type(like)(*made.values()) if hasattr(like, "_fields") else type(like)(made.values())
    return replace(like, **made)


def call(module: nn.Module, value: Any) -> Any:
    """Return ``module(value)``; a tuple or a mapping is spread if ``forward`` takes such arguments."""
    args, kwargs = spread(module, value)
    return module(*args, **kwargs)


def spread(module: nn.Module, value: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the arguments that ``value`` means to ``module``."""
    if isinstance(value, tuple) and not hasattr(value, "_fields") and _binds(module, *value):
        return value, {}
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value) and _binds(module, **value):
        return (), dict(value)
    return (value,), {}


def _binds(module: nn.Module, *args: Any, **kwargs: Any) -> bool:
    try:
        inspect.signature(module.forward).bind(*args, **kwargs)
    except TypeError:
        return False
    return True


def names_of_inputs(module: nn.Module, value: Any) -> list[str]:
    """Return the names of the tensors that ``module`` is called with: those of the mapping or of the arguments."""
    args, _ = spread(module, value)
    if isinstance(value, tuple) and args is value:
        bound = inspect.signature(module.forward).bind(*args).arguments
        if len(bound) == len(args):  # no *args among them
            value = bound
    return [name for name, _ in named(value, "input")]
