"""Loads the weights of a checkpoint into a model: all or none."""

from __future__ import annotations

import copy
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from torch import Tensor
from torch.nn.parameter import is_lazy

from unitrain.checkpoint import sharded_files as parts
from unitrain.checkpoint.layout import PREFIX
from unitrain.checkpoint.safetensors_file import SUFFIX, unpacked
from unitrain.distributed.strategies.dtensors import part_like
from unitrain.errors import CheckpointError
from unitrain.utilities.files import user_file

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn

_EXTRA_STATE = "_extra_state"
"""What the name of a module's own state ends with in torch, of a type that the module chooses."""
_SAME_MODEL = "build the model as it was when the checkpoint was written."


def weights_of(content: dict[str, Any]) -> dict[str, Tensor]:
    """Return the weights in the content of a checkpoint, by the model's own names."""
    return {name.removeprefix(PREFIX): value for name, value in content["state_dict"].items()}


def load_model(path: Path, model: nn.Module) -> None:
    """Load the weights of the checkpoint at ``path`` into ``model``.

    Raises:
        CheckpointError: If the file is damaged or of another model.
    """
    load_weights_of(path, model, load_weights(path))


def load_weights(path: str | Path) -> dict[str, Tensor]:
    """Return the model's weights in a checkpoint, by the model's own names; requires no framework.

    Args:
        path: A file or folder written by unitrain, a Lightning checkpoint, a .safetensors file, or a file written by
            ``torch.save(model.state_dict(), path)``.

    Returns:
        Tensors on the CPU by name, as ``model.load_state_dict`` takes them.

    Raises:
        CheckpointError: If the file is damaged or contains no weights.

    Example:
        >>> trainer = UnifiedTrainer("reference", max_epochs=1, enable_progress_bar=False)
        >>> _ = trainer.fit(spec, batches)
        >>> trainer.save_checkpoint("run.ckpt")
        >>> load_weights("run.ckpt")["weight"].shape
        torch.Size([1, 4])
    """
    path = user_file(path, "path", CheckpointError)
    if path.suffix == SUFFIX:
        return unpacked(path)
    content = parts.read_any(path)
    if isinstance(content.get("state_dict"), dict):
        return weights_of(content)
    if content and all(isinstance(value, Tensor) for value in content.values()):
        return dict(content)
    raise CheckpointError(
        f"{path} contains no state_dict; it has {', '.join(map(repr, list(content)[:6])) or 'nothing'}.",
        hint="pass a checkpoint of unitrain or Lightning, or a file of torch.save(model.state_dict(), path).",
    )


def load_weights_of(path: Path, model: nn.Module, weights: dict[str, Tensor]) -> None:
    """Load weights into ``model``: all or none.

    Raises:
        CheckpointError: If they are of another model.
    """
    require_same_weights(path, model, weights)
    there = model.state_dict()
    own_code = any(name.endswith(_EXTRA_STATE) for name in there)  # which may refuse what it is given
    before = {name: _kept(value) for name, value in there.items() if not is_lazy(value)} if own_code else None
    try:
        model.load_state_dict({name: part_like(there[name], value) for name, value in weights.items()})
    except Exception as error:
        if before is not None:
            _put_back(model, before)
        raise CheckpointError(f"{path} does not fit {type(model).__name__}: {error}", hint=_SAME_MODEL) from error


def _kept(value: Any) -> Any:
    return value.clone() if isinstance(value, Tensor) else copy.deepcopy(value)  # it may be the module's own dict


def _put_back(model: nn.Module, before: dict[str, Any]) -> None:
    for name, value in model.state_dict().items():
        if isinstance(value, Tensor) and name in before and not name.endswith(_EXTRA_STATE):  # a lazy one had no value
            value.copy_(before[name])
    for name, module in model.named_modules():
        key = f"{name}.{_EXTRA_STATE}" if name else _EXTRA_STATE
        if key in before:
            with suppress(Exception):  # it may refuse this one too
                module.set_extra_state(before[key])


def require_same_weights(path: Path, model: nn.Module, weights: dict[str, Tensor]) -> None:
    """Refuse the weights of another model.

    Raises:
        CheckpointError: If a name or a shape differs; the message says which.
    """
    there = model.state_dict()
    lazy = {name for name, value in there.items() if is_lazy(value)}  # these take the shapes of the file
    expected, found = (
        {name: _form(one) for name, one in some.items() if name not in lazy} for some in (there, weights)
    )
    if expected != found:
        differing = sorted({*expected.items()} ^ {*found.items()}, key=str)[:6]
        raise CheckpointError(
            f"{path} does not match {type(model).__name__}; differences include:"
            f" {', '.join(f'{name} {shape}' for name, shape in differing)}.",
            hint=_SAME_MODEL,
        )


def _form(value: Any) -> tuple[int, ...] | str:
    return tuple(value.shape) if isinstance(value, Tensor) else "of its own"
