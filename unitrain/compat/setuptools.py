"""``pkg_resources``, which older packages import and setuptools 82 removed."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import find_spec
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def pkg_resources_there() -> Iterator[None]:
    """Provide ``pkg_resources`` to imported packages: the real one, else a minimal substitute."""
    if find_spec("pkg_resources") is not None:
        yield
        return
    stub: Any = ModuleType("pkg_resources")
    stub.declare_namespace = lambda _name: None
    stub.get_distribution, stub.DistributionNotFound = distribution, PackageNotFoundError
    sys.modules["pkg_resources"] = stub
    try:
        yield
    finally:
        del sys.modules["pkg_resources"]
