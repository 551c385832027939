"""The wrap policy: which submodules are sharded separately."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from unitrain.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

_CONTAINERS = (nn.ModuleList, nn.ModuleDict, nn.Sequential)


def units(model: nn.Module, wrap: tuple[type[nn.Module], ...] | None) -> list[nn.Module]:
    """Return the modules that are gathered and freed separately, inner ones before outer ones.

    Args:
        model: The model.
        wrap: The classes of these modules. By default they are the model's direct children, and instead of a
            ModuleList, ModuleDict or Sequential what is in it. What has no parameters, or shares one with the rest of
            the model, is left to the root.

    Raises:
        ConfigError: If nothing in the model is of these classes.
    """
    if wrap is None:
        chosen = list(dict.fromkeys(_blocks(model)))
    else:
        inner = [module for module in model.modules() if module is not model]
        chosen = [module for module in reversed(inner) if isinstance(module, wrap)]
        if wrap and not chosen:
            raise ConfigError(
                f"FSDP(wrap=({', '.join(one.__name__ for one in wrap)},)): {type(model).__name__} contains no such"
                f" module.",
                hint=f"it contains {', '.join(sorted({type(module).__name__ for module in inner}))}.",
            )
    return [module for module in chosen if any(True for _ in module.parameters()) and not _shares(module, model)]


def _blocks(model: nn.Module) -> Iterator[nn.Module]:
    for child in model.children():
        if isinstance(child, _CONTAINERS):
            yield from _blocks(child)
        else:
            yield child


def _shares(module: nn.Module, model: nn.Module) -> bool:
    """Return whether a parameter of ``module`` is also used outside of it; both must then be gathered together."""
    within = set(module.modules())
    own = {id(parameter) for parameter in module.parameters()}
    others = (one for one in model.modules() if one not in within)
    return any(id(parameter) in own for one in others for parameter in one.parameters(recurse=False))
