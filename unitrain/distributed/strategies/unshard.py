"""Undoes ``fully_shard``, which torch itself cannot."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor, nn

_NOT_THERE = object()


class ShardingUndo:
    """The user's parameters, and all that belongs to the modules.

    The parameters stay the same objects; while the model is in parts they hold nothing.

    Args:
        model: The model, before anything is done to it.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._parameters = dict(model.named_parameters(remove_duplicate=False))
        self._classes = {module: type(module) for module in model.modules()}
        self._before = {module: _members(module) for module in model.modules()}
        self._added: dict[nn.Module, dict[str, set[Any] | None]] = {}

    def note_additions(self) -> None:
        """Record the attributes added to the modules so far, to remove only those later."""
        for module, before in self._before.items():
            self._added[module] = {
                name: None if name not in before else (keys or set()) - (before[name] or set())
                for name, keys in _members(module).items()
                if before.get(name, _NOT_THERE) != keys
            }

    def release(self) -> None:
        """Free the weights of replaced parameters."""
        for name, parameter in self._parameters.items():
            if self._model.get_parameter(name) is not parameter:
                parameter.data = parameter.data.new_empty(0)

    def put_back(self, weights: Mapping[str, Tensor]) -> None:
        """Make the model what it was, its parameters with these values; where there is none, with what they hold."""
        for module, added in self._added.items():
            for name, keys in added.items():
                if keys is None:
                    vars(module).pop(name, None)
                for key in keys or ():
                    vars(module)[name].pop(key, None)
            module.__class__ = self._classes[module]
            _forget(module)
        for name, parameter in self._parameters.items():
            path, _, leaf = name.rpartition(".")
            if name in weights:
                parameter.data = weights[name]
            parameter.grad = None
            self._model.get_submodule(path).register_parameter(leaf, parameter)


def _members(module: nn.Module) -> dict[str, set[Any] | None]:
    """Return the names of all that a module has, and the keys of what is a dict."""
    return {name: set(value) if isinstance(value, dict) else None for name, value in vars(module).items()}


def _forget(module: nn.Module) -> None:
    """Remove torch's mark that ``module`` was sharded; it refuses to shard twice."""
    from torch.distributed import _composable_state  # noqa: PLC0415 - there only if something was sharded

    _composable_state._module_state_mapping.pop(module, None)  # noqa: SLF001 - there is no public way
