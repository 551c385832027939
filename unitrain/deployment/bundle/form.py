"""The form of a manifest: the keys that each part has, and the kinds of their values."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final

_SHA256: Final = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Each:
    """A mapping with any keys, whose values have one form."""

    form: Any


def fits(value: Any, form: Any) -> bool:
    """Return whether a value of JSON has a form: a type, several, a mapping of forms, or a function that tells."""
    if isinstance(form, Each):
        return isinstance(value, dict) and all(fits(one, form.form) for one in value.values())
    if isinstance(form, dict):
        return (
            isinstance(value, dict) and value.keys() == form.keys() and all(fits(value[key], form[key]) for key in form)
        )
    if isinstance(form, (type, tuple)):
        return type(value) in (form if isinstance(form, tuple) else (form,))
    return bool(form(value))


def _is_sha256(value: Any) -> bool:
    return isinstance(value, str) and bool(_SHA256.fullmatch(value))


def _is_size(value: Any) -> bool:
    return type(value) is int and value >= 0


def _is_limit(value: Any) -> bool:
    return type(value) in (int, float) and value > 0


def _is_shape(value: Any) -> bool:
    return value is None or (isinstance(value, list) and all(type(one) in (int, str) for one in value))


def _are_tensors(value: Any) -> bool:
    return isinstance(value, list) and all(fits(one, _TENSOR) for one in value)


_TENSOR: Final = {"name": str, "dtype": str, "shape": _is_shape}
FORM: Final = {
    "format": int,
    "name": str,
    "target": str,
    "model": {"file": str, "format": str, "sha256": _is_sha256},
    "signature": {"inputs": _are_tensors, "outputs": _are_tensors, "example": dict},
    "contracts": Each({"is_managed": bool, "log_format": str, "max_body": _is_size, "timeout": _is_limit}),
    "versions": {"python": str, "unitrain": str, "packages": Each(str), "exported_by": Each(str)},
    "files": Each({"sha256": _is_sha256, "size": _is_size}),
}
