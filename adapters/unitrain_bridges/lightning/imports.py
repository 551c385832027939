"""Calls a function once a package has been imported."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import ExitStack
    from importlib.machinery import ModuleSpec
    from types import ModuleType


def when_imported(stack: ExitStack, package: str, act: Callable[[], None]) -> None:
    """Call ``act`` now if a package is imported, else once it is, as long as ``stack`` is open."""
    if package in sys.modules:
        act()
        return
    awaited = _Awaited(package, act)
    awaited.start()
    stack.callback(awaited.stop)


class _Awaited:
    """A module finder that defers to the others and calls ``act`` once its package has been executed.

    Args:
        package: Name of the package.
        act: The function to call.
    """

    def __init__(self, package: str, act: Callable[[], None]) -> None:
        self._package = package
        self._act = act
        self._asks = False

    def start(self) -> None:
        """Install the finder."""
        sys.meta_path.insert(0, self)

    def stop(self) -> None:
        """Remove the finder."""
        if self in sys.meta_path:
            sys.meta_path.remove(self)

    def find_spec(self, name: str, *_: object) -> ModuleSpec | None:
        """Find the package as the other finders do, and nothing else. A mere look-up imports nothing."""
        if name != self._package or self._asks:
            return None
        self._asks = True
        try:
            found = find_spec(name)
        finally:
            self._asks = False
        if found is not None and found.loader is not None:
            self._watch(found.loader)
        return found

    def _watch(self, loader: Any) -> None:
        execute = loader.exec_module

        def exec_module(module: ModuleType) -> None:
            del loader.exec_module  # the class's own again
            execute(module)
            self.stop()
            self._act()

        loader.exec_module = exec_module
