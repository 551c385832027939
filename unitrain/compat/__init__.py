"""Differences between releases of other packages: dangerous and supported ones, and shims.

Each difference is one function under ``@difference``, in the module that is named after the package (Lightning's and
Ignite's are in ``_compat.py`` of their adapters). ``upgrade`` converts what was written for an older Lightning;
imported lazily, because it lives in a higher layer. Start reading in `differences.py`.
"""

from importlib import import_module
from typing import Any

__all__ = ["upgrade"]


def __getattr__(name: str) -> Any:
    if name != "upgrade":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return import_module("unitrain.interop.upgrading").upgrade


def __dir__() -> list[str]:
    return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})
