"""Values by their bits: digests, hexadecimal forms, and distances in units in the last place (ulp).

Two values are equal if they have the same type, the same shape and the same bits, except that NaN equals NaN. So 0.0
and -0.0 differ, although their distance is 0.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Iterable

_INTEGERS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
"""Signed integers by their size in bytes."""
_DIGITS = {torch.float64: 17, torch.float32: 9, torch.float16: 5, torch.bfloat16: 4}
"""So many significant digits tell two values apart; those of 8 bits need no more than 4."""
_FEWEST = 4
_WORD = 1 << 64
_SIZE = 16
"""Of a digest, in bytes."""
_LONGEST = 200
"""How much of another value's text is kept."""


@dataclass(frozen=True)
class Gap:
    """How two tensors, or two other values, differ.

    Attributes:
        what: ``"values"``, ``"dtype"``, ``"shape"`` or ``"type"``.
        index: Of the first element that differs, in row-major order.
        values: This element on each side, in decimal; or the dtypes, shapes or texts.
        bits: Its bits in hexadecimal; empty unless ``what`` is ``"values"`` and both sides are numbers.
        ulp: Its distance in units in the last place; for integers and bools, the difference.
        differing: Number of elements that differ.
        elements: Number of elements.
        max_ulp: The largest distance; None if it is not finite on one side only.
    """

    what: str
    index: tuple[int, ...] = ()
    values: tuple[str, str] = ("", "")
    bits: tuple[str, str] = ("", "")
    ulp: int | None = None
    differing: int = 1
    elements: int = 1
    max_ulp: int | None = None


def plain(value: Tensor) -> Tensor:
    """Return the elements of a tensor on the CPU, contiguous and without lazy conjugation; sparse ones become dense."""
    with torch.no_grad():
        value = value.detach()
        if value.is_quantized:
            value = value.int_repr()
        if value.layout is not torch.strided:
            value = value.to_dense()
        return value.cpu().resolve_conj().resolve_neg().contiguous()


def digest(named: Iterable[tuple[str, Any]]) -> str:
    """Return a digest of named values: equal if and only if names, types, shapes and bits are, but for the bits of NaN.

    Args:
        named: Tensors, or plain values, by name.
    """
    found = hashlib.blake2b(digest_size=_SIZE)
    for name, value in named:
        if isinstance(value, Tensor):
            found.update(f"{name}\0{value.dtype}\0{tuple(value.shape)}\0".encode())
            found.update(_bytes(_one_nan(_real(plain(value)))).numpy().data)
        else:
            found.update(f"{name}\0{type(value).__name__}\0{value!r}\0".encode())
    return found.hexdigest()


def gap(left: Any, right: Any) -> Gap | None:
    """Return how two values differ, or None if they are equal."""
    if isinstance(left, Tensor) and isinstance(right, Tensor):
        return _tensor_gap(plain(left), plain(right))
    if type(left) is not type(right):
        return Gap("type", values=(_kind(left), _kind(right)))
    if isinstance(left, (bool, int, float)):
        as_tensor = [_scalar(one) for one in (left, right)]
        return _tensor_gap(as_tensor[0], as_tensor[1]) if None not in as_tensor else _text_gap(left, right)
    return _text_gap(left, right)


def _scalar(value: float) -> Any:
    """Return a number of Python as a tensor; None if it is too large."""
    if isinstance(value, bool):
        return torch.tensor(value)
    if isinstance(value, float):
        return torch.tensor(value, dtype=torch.float64)
    return torch.tensor(value) if -(_WORD // 2) <= value < _WORD // 2 else None


def _kind(value: Any) -> str:
    return str(value.dtype).removeprefix("torch.") + " tensor" if isinstance(value, Tensor) else type(value).__name__


def _text_gap(left: Any, right: Any) -> Gap | None:
    shown = repr(left)[:_LONGEST], repr(right)[:_LONGEST]
    return None if repr(left) == repr(right) else Gap("values", values=shown)


def _tensor_gap(left: Tensor, right: Tensor) -> Gap | None:
    if left.dtype != right.dtype:
        names = [str(one.dtype).removeprefix("torch.") for one in (left, right)]
        return Gap("dtype", values=(names[0], names[1]), elements=left.numel())
    if left.shape != right.shape:
        return Gap("shape", values=(str(tuple(left.shape)), str(tuple(right.shape))), elements=left.numel())
    first, second = _parts(left), _parts(right)
    unequal = _differing(first, second)
    if not unequal.any():
        return None
    distances = _distances(first[unequal], second[unequal])
    rows = unequal.any(-1)  # of a complex number either part
    place = int(rows.reshape(-1).nonzero()[0])
    index = tuple(int(one) for one in torch.unravel_index(torch.tensor(place), left.shape)) if left.ndim else ()
    pair = left.reshape(-1)[place], right.reshape(-1)[place]
    parts = [one.reshape(-1, one.shape[-1])[place] for one in (first, second)]
    at = _differing(*parts)
    return Gap(
        "values",
        index=index,
        values=(decimal(pair[0]), decimal(pair[1])),
        bits=(hexadecimal(pair[0]), hexadecimal(pair[1])),
        ulp=_largest(_distances(parts[0][at], parts[1][at])),
        differing=int(rows.sum()),
        elements=left.numel(),
        max_ulp=_largest(distances),
    )


def _parts(value: Tensor) -> Tensor:
    """Return a tensor with one more axis: the real and the imaginary part, or the value alone."""
    return torch.view_as_real(value) if value.is_complex() else value.unsqueeze(-1)


def _real(value: Tensor) -> Tensor:
    return torch.view_as_real(value) if value.is_complex() else value


def _wide(value: Tensor) -> Tensor:
    """Return a floating tensor in a type that torch computes with: those of 8 bits have no comparison."""
    return value.float() if value.is_floating_point() and value.element_size() == 1 else value


def _nan(value: Tensor) -> Tensor:
    return torch.isnan(_wide(value)) if value.is_floating_point() else torch.zeros_like(value, dtype=torch.bool)


def _one_nan(value: Tensor) -> Tensor:
    """Return the tensor with the same bits for each NaN."""
    if not value.is_floating_point():
        return value
    value = _wide(value)
    found = torch.isnan(value)
    return value.masked_fill(found, float("nan")) if found.any() else value


def _integers(value: Tensor) -> Tensor:
    """Return the bits as signed integers of the same size."""
    return value.contiguous().view(_INTEGERS[value.element_size()])


def _bytes(value: Tensor) -> Tensor:
    return value.contiguous().reshape(-1).view(torch.uint8) if value.numel() else torch.empty(0, dtype=torch.uint8)


def _differing(left: Tensor, right: Tensor) -> Tensor:
    return (_integers(left) != _integers(right)) & ~(_nan(left) & _nan(right))


def _ordered(value: Tensor) -> Tensor:
    """Return 64-bit integers that are ordered as the values are, neighbours one apart; 0.0 and -0.0 are the same."""
    if value.dtype == torch.uint64:
        return _integers(value) ^ -(_WORD // 2)
    if not value.is_floating_point():
        return value.to(torch.int64)
    bits = _integers(value).to(torch.int64)
    lowest = -(1 << (8 * value.element_size() - 1))
    return torch.where(bits >= 0, bits, lowest - bits)


def _distances(left: Tensor, right: Tensor) -> Tensor | None:
    """Return distances as 64-bit integers without a sign; None if a NaN is on one side."""
    if bool((_nan(left) | _nan(right)).any()):
        return None
    first, second = _ordered(left), _ordered(right)
    return torch.maximum(first, second) - torch.minimum(first, second)


def _largest(distances: Tensor | None) -> int | None:
    if distances is None or not distances.numel():
        return None
    beyond = distances[distances < 0]  # at least 2 ** 63
    return int(beyond.max()) + _WORD if beyond.numel() else int(distances.max())


def decimal(value: Tensor) -> str:
    """Return one element in decimal, with the digits that tell it from its neighbours."""
    if value.is_complex():
        real, imaginary = (decimal(one) for one in torch.view_as_real(value))
        return f"{real}{'' if imaginary.startswith('-') else '+'}{imaginary}j"
    if not value.is_floating_point():
        return str(value.item())
    return f"{_wide(value).item():.{_DIGITS.get(value.dtype, _FEWEST)}g}"


def hexadecimal(value: Tensor) -> str:
    """Return the bits of one element."""
    if value.is_complex():
        return " ".join(hexadecimal(one) for one in torch.view_as_real(value))
    size = value.element_size()
    bits = int(_integers(value.reshape(1))) % (1 << 8 * size)
    return f"0x{bits:0{2 * size}x}"
