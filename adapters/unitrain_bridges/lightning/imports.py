"""Acts when a package has been imported, by whomever."""

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
    """Call ``act`` at once if a package is imported, else when it is, as long as ``stack`` is open."""
    if package in sys.modules:
        act()
        return
    awaited = _Awaited(package, act)
    awaited.start()
    stack.callback(awaited.stop)


class _Awaited:
    """A finder of modules that finds what the others find, and is told when its package has been executed.

    Args:
        package: Its name.
        act: What to do then.
    """

    def __init__(self, package: str, act: Callable[[], None]) -> None:
        self._package = package
        self._act = act
        self._asks = False

    def start(self) -> None:
        """Be asked before the others."""
        sys.meta_path.insert(0, self)

    def stop(self) -> None:
        """Be asked no more."""
        if self in sys.meta_path:
            sys.meta_path.remove(self)

    def find_spec(self, name: str, *_: object) -> ModuleSpec | None:
        """Find the package as the others do; nothing else. Whoever only looks whether it is there imports nothing."""
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
