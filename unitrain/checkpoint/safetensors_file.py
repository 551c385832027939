"""Weights in a safetensors file. Tensors that share their memory (tied weights) are written once, by their first name.

The other names are stored in the file's metadata, as by ``safetensors.torch.save_model``, so its ``load_model`` reads
such a file too. Partly shared memory is written once per name.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from torch import Tensor

from unitrain.checkpoint.integrity import require_file
from unitrain.errors import CheckpointError, install_hint

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

SUFFIX = ".safetensors"
_LENGTH = 8
"""The size of the length prefix of a file, in bytes."""


def _safetensors() -> Any:
    try:
        import safetensors.torch  # noqa: PLC0415 - an extra
    except ModuleNotFoundError as error:
        raise CheckpointError(
            ".safetensors files require the package safetensors.", hint=install_hint("safetensors")
        ) from error
    return safetensors


def packed(weights: Mapping[str, Tensor], noted: Mapping[str, str] | None = None) -> bytes:
    """Return the content of a safetensors file with ``weights``.

    Args:
        weights: The weights by name.
        noted: Further metadata for the file.

    Raises:
        CheckpointError: If any of them is not a tensor, or safetensors is not installed.
    """
    library = _safetensors()
    names: dict[Any, str] = {}
    tensors, tied = {}, {}
    for name, value in weights.items():
        if not isinstance(value, Tensor):
            raise CheckpointError(
                f"the state {name!r} is a {type(value).__name__}, but a safetensors file can only contain tensors.",
                hint='use to="lightning" or to="ignite".',
            )
        first = names.setdefault(_memory(name, value), name)
        if first == name:
            tensors[name] = value.detach().cpu().clone().contiguous()
        else:
            tied[name] = first
    return _in_order(library.torch.save(tensors, metadata={"format": "pt", **tied, **(noted or {})}))


def _in_order(content: bytes) -> bytes:
    """Return a safetensors file with sorted metadata: the library writes them in a random order."""
    end = _LENGTH + int.from_bytes(content[:_LENGTH], "little")
    header = json.loads(content[_LENGTH:end])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _LENGTH)  # what follows is aligned
    return len(text).to_bytes(_LENGTH, "little") + text + content[end:]


def _memory(name: str, value: Tensor) -> Any:
    """Return a key that is equal for two names of the same tensor."""
    if not value.numel():
        return name
    return value.data_ptr(), value.dtype, tuple(value.shape), value.stride()


def unpacked(path: Path) -> dict[str, Tensor]:
    """Return the weights in the safetensors file at ``path``; tied names share one tensor, as they did.

    Raises:
        CheckpointError: If there is no such file, it is damaged, or safetensors is not installed.
    """
    require_file(path)
    library = _safetensors()
    try:
        with library.safe_open(path, framework="pt", device="cpu") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
            noted = file.metadata() or {}
    except (library.SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"the file {path} is damaged: {error}.", hint="use another file.") from error
    tied = {name: tensors[first] for name, first in noted.items() if first in tensors and name not in tensors}
    return {**tensors, **tied}
