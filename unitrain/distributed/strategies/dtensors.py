"""Detects torch's DTensors without importing torch.distributed.tensor."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Callable


_ATOMS = frozenset({type(None), bool, int, float, str})
"""Types of values that have no parts."""


def is_part(value: Any) -> bool:
    """Return whether ``value`` is a tensor of which this process holds a part."""
    return isinstance(value, Tensor) and hasattr(value, "full_tensor")


def is_sharded(value: Any) -> bool:
    """Return whether such a tensor is in ``value``, however deep."""
    if isinstance(value, dict):
        return any(map(is_sharded, value.values()))
    return any(map(is_sharded, value)) if isinstance(value, (list, tuple)) else is_part(value)


def local(value: Tensor) -> Tensor:
    """Return what this process holds of ``value``."""
    made: Any = value
    return made.to_local() if is_part(value) else value


def whole(value: Any, *, cpu: bool = True, keep: bool = True) -> Any:
    """Return ``value`` with whole tensors for those in parts, however deep; all processes must ask for it.

    Args:
        value: Nested dicts, lists and tuples; what is there twice is one object again.
        cpu: Whether the whole tensors go to the CPU, each as soon as it is there.
        keep: Whether this process wants them; if not, it helps the others and gets empty ones.
    """

    def gather(part: Any) -> Tensor:
        full: Tensor = part.full_tensor().detach()
        if not keep:
            return full.new_empty(0, device="cpu")
        return full.cpu() if cpu else full

    return each_part(value, gather)


def each_part(value: Any, change: Callable[[Tensor], Any], seen: dict[int, Any] | None = None) -> Any:
    """Return ``value`` with what ``change`` returns for each tensor in parts; it is asked once for each."""
    seen = {} if seen is None else seen
    if isinstance(value, dict):
        changed = {key: each_part(one, change, seen) for key, one in value.items()}
        return changed if type(value) is dict else type(value)(changed)
    if isinstance(value, (list, tuple)):
        if _ATOMS.issuperset(map(type, value)):  # long lists of numbers: states of generators
            return value
        return type(value)([each_part(one, change, seen) for one in value])
    if not is_part(value):
        return value
    if id(value) not in seen:
        seen[id(value)] = change(value)
    return seen[id(value)]


def part_like(parameter: Tensor, value: Tensor) -> Tensor:
    """Return the whole ``value`` with the placement of ``parameter``: sharded in the same way, or whole."""
    if not is_part(parameter) or is_part(value):
        return value
    from torch.distributed.tensor import distribute_tensor  # noqa: PLC0415 - there is nothing in parts without it

    made: Any = parameter
    return distribute_tensor(value.detach(), made.device_mesh, made.placements)
